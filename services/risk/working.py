"""How an order is to trade, and when one that rests is wanted no more. Pure.

A market has one order in flight, so an order that rests holds up whatever else its market needs: an
exit, another leader, a halt. Risk withdraws it then; the executor has it cancelled, and what it
filled until then is booked as ever.
"""

from services.risk.policy import Policy
from services.risk.state import Reservation, State, Target, gap, key_of
from shared.domain.ids import content_id
from shared.domain.messages import ApprovalWithdrawn, OrderPolicy, Verdict

SLICE = "SLICE"  # the reason of a trim that leaves the rest of an exit for later
CALLED_OFF = frozenset({"rest_over", "repriced", "withdrawn"})  # no failures: tried again at once


def order_policy(policy: Policy, target: Target, now_ns: int, *, opens: bool) -> OrderPolicy:
    """Return how the next order trades; what has rested for its time is taken."""
    wanted = policy.entry_order if opens else policy.exit_order
    return "fill_and_kill" if wanted == "post_only" and is_rested(target, now_ns) else wanted


def is_rested(target: Target, now_ns: int) -> bool:
    return bool(target.rest_until_ns) and now_ns >= target.rest_until_ns


def rests_until(policy: Policy, target: Target, now_ns: int) -> int:
    """Return until when orders of a target may rest, all of them together."""
    return target.rest_until_ns or now_ns + policy.rest_ns


def gives_up(policy: Policy, target: Target, now_ns: int, *, opens: bool) -> bool:
    """Tell whether an entry that rested for its time is written off; an exit never is."""
    wanted = opens and policy.entry_order == "post_only" and not policy.takes_after_rest
    return wanted and is_rested(target, now_ns)


def next_slice_ns(policy: Policy, verdicts: tuple[Verdict, ...], now_ns: int) -> int:
    """Return before when nothing more of a target is traded; 0 where this is no slice."""
    sliced = any(verdict.reason == SLICE for verdict in verdicts)
    return now_ns + policy.exit_slice_ns if sliced else 0


def withdrawals(policy: Policy, state: State, now_ns: int) -> list[ApprovalWithdrawn]:
    """Return the resting orders that are wanted no more, each once."""
    found = []
    for approval, order in state.reserved.items():
        reason = "" if order.withdrawn or not order.rests else _reason(policy, state, order, now_ns)
        if reason:
            id_ = content_id("approval_withdrawn", approval)
            target = state.targets.get(key_of(order.leader, order.condition))
            found.append(
                ApprovalWithdrawn(
                    id=id_,
                    cause=approval,
                    root=target.root if target else id_,
                    ts_ns=now_ns,
                    approval=approval,
                    condition=order.condition,
                    token=order.token,
                    reason=reason,
                )
            )
    return found


def _reason(policy: Policy, state: State, order: Reservation, now_ns: int) -> str:
    if state.regime == "halted":
        return "halted"
    if state.regime == "reduce_only" and order.opens:
        return "reduce_only"
    for target in state.targets.values():
        if target.condition != order.condition:
            continue
        open_gap = gap(state, target)
        if abs(open_gap) < policy.dust:
            continue
        if target.leader != order.leader:
            if target.retry_ns <= now_ns:
                return "other_leader"
        elif (open_gap > 0) != (order.signed_left > 0):
            return "target_changed"  # filled whole, it would overshoot
    return ""
