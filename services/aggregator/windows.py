"""When a window closes, and what it comes to: an intent, or nothing worth following."""

from typing import Final

import msgspec

from services.aggregator.state import Policies, Policy, State, Track, Window, exposure_of
from shared.domain.ids import ConditionId, Wallet, content_id
from shared.domain.messages import ClosedBy, Fact, FillCounted, IntentFormed, WindowNetted
from shared.domain.units import BPS, MICRO, Price, Shares, Usd, cost_up, scale_down

_TURN: Final = 1_024
_TURNS: Final = 2 * _TURN  # two turns fresh, or one in every four windows for long


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A window that closes now: whose it is, and the exposure it began and ended with."""

    leader: Wallet
    condition: ConditionId
    before: Shares
    after: Shares
    window: Window
    now_ns: int


def is_noise(policy: Policy, before: Shares, after: Shares, gross: int) -> bool:
    """Tell whether a net change is nothing to follow: none, dust, or little beside its turnover.

    A market maker turns over much and moves little. To be all out, though, is never noise.
    """
    change = abs(after - before)
    if after == 0 or change == 0:
        return change == 0
    return change < policy.dust or change * BPS < policy.net_share * gross


def churns(policy: Policy, track: Track) -> bool:
    """Tell whether a leader makes a market rather than takes a side.

    His windows keep turning, and what they come to is little beside what they trade. It is judged
    on whole windows, so neither the order nor the splitting of fills within one matters.
    """
    if not policy.churn_share or track.turns < _TURNS:
        return False
    return abs(track.moved) * BPS < policy.churn_share * track.turnover


def learn(track: Track, window: Window, net: Shares) -> None:
    """Take a closed window into what a leader is known by; older ones fade."""
    side = (net > 0) - (net < 0)
    turned = side * track.side < 0
    track.turnover = Shares(_faded(track.turnover) + window.shares)
    track.moved = Shares(_faded(track.moved) + net)
    track.turns = _faded(track.turns) + (_TURN if turned else 0)
    track.side = side or track.side


def _faded(amount: int) -> int:
    return scale_down(amount, 7, 8)


def average(weight: int, shares: int) -> Price:
    """Return a volume-weighted YES-price, rounded to the nearest micro-dollar."""
    return Price((2 * weight + shares) // (2 * shares))


def weigh(track: Track, window: Window | None, fact: FillCounted) -> tuple[int, int]:
    """Return the shares an activity adds to a window, and their YES-price.

    Half of a set may be seen sold before its split is: the sale alone is a deficit and no
    exposure, so the split that makes it one opens a window, at the price of the last one.
    """
    moved = abs(fact.yes - fact.no)
    if moved or window is not None or not track.yes_price:
        return moved, fact.yes_price
    after = exposure_of(track.yes + fact.yes, track.no + fact.no)
    return abs(after - track.exposure), track.yes_price


def opened(fact: FillCounted) -> Window:
    """Return the empty window that an activity opens."""
    return Window(
        root=fact.root,
        opened_venue_ns=fact.venue_ns,
        venue_ns=fact.venue_ns,
        opened_ns=fact.ts_ns,
        last_ns=fact.ts_ns,
    )


def join(window: Window, fact: FillCounted, moved: int, price: int) -> None:
    """Take an activity into its window."""
    window.fills.append(fact.cause)
    window.weight += moved * price
    window.shares = Shares(window.shares + moved)
    window.notional = Usd(window.notional + fact.notional)
    venue_ns, ts_ns = fact.venue_ns, fact.ts_ns
    if venue_ns < window.opened_venue_ns:
        window.opened_venue_ns = venue_ns
    elif venue_ns > window.venue_ns:
        window.venue_ns = venue_ns
    window.last_ns = max(window.last_ns, ts_ns)


def closed_at_once(
    policy: Policy, track: Track, window: Window | None, fact: FillCounted
) -> Fact | None:
    """Return the end of a window whose net change is worth much, with this activity in it."""
    before, after = track.followed, exposure_of(track.yes + fact.yes, track.no + fact.no)
    if fact.baseline or abs(after - before) < policy.flush_usd:  # no share is worth over a dollar
        return None
    moved, price = weigh(track, window, fact)
    weight, shares = moved * price, moved
    if window is not None:
        weight, shares = weight + window.weight, shares + window.shares
    if shares == 0 or is_noise(policy, before, after, shares) or churns(policy, track):
        return None
    paid = average(weight, shares)
    worth = cost_up(paid if after > before else Price(MICRO - paid), Shares(abs(after - before)))
    if worth < policy.flush_usd:
        return None
    whole = opened(fact) if window is None else _copy(window)
    if moved:
        join(whole, fact, moved, price)
    ending = Ending(
        leader=fact.leader,
        condition=fact.condition,
        before=before,
        after=after,
        window=whole,
        now_ns=fact.ts_ns,
    )
    return _intent(ending, "notional", fact.id)


def _copy(window: Window) -> Window:
    return msgspec.structs.replace(window, fills=[*window.fills])


def close_due(policies: Policies, state: State, now_ns: int) -> list[Fact]:
    """Close what time closes. A reduction waits for a tick, so that a split exit is one intent."""
    facts: list[Fact] = []
    for wallet, leader in state.leaders.items():
        if not leader.windows:
            continue
        policy = policies.of(wallet)
        for condition, window in leader.windows.items():
            track = leader.tracks[condition]
            quiet_ns, age_ns, churning = policy.quiet_ns, policy.age_ns_max, False
            if track.turns and churns(policy, track):
                quiet_ns, age_ns = policy.churn_quiet_ns, policy.churn_age_ns
                churning = track.exposure != 0  # to be all out is followed at once all the same
            urgent = policy.flush_on_reduction and track.followed and not churning
            if urgent and _reduces(policy, track, window):
                reason: ClosedBy = "reduction"
            elif now_ns - window.last_ns >= quiet_ns:
                reason = "quiet"
            elif now_ns - window.opened_ns >= age_ns:
                reason = "max_age"
            else:
                continue
            ending = Ending(
                leader=wallet,
                condition=condition,
                before=track.followed,
                after=track.exposure,
                window=window,
                now_ns=now_ns,
            )
            facts.append(_close(policy, ending, reason))
    return facts


def _reduces(policy: Policy, track: Track, window: Window) -> bool:
    """Tell whether a leader gave up some of what is followed, and perhaps all."""
    before, after = track.followed, exposure_of(track.yes, track.no)
    if (after >= before) if before > 0 else (after <= before):
        return False
    return not is_noise(policy, before, after, window.shares)


def _close(policy: Policy, ending: Ending, reason: ClosedBy) -> Fact:
    window = ending.window
    if not is_noise(policy, ending.before, ending.after, window.shares):
        return _intent(ending, reason, window.fills[-1])
    return WindowNetted(
        id=content_id("window_netted", *window.fills),
        cause=window.fills[-1],
        root=window.root,
        ts_ns=ending.now_ns,
        leader=ending.leader,
        condition=ending.condition,
        before=ending.before,
        after=ending.after,
        fills=tuple(window.fills),
    )


def _intent(ending: Ending, reason: ClosedBy, cause: str) -> IntentFormed:
    window = ending.window
    return IntentFormed(
        id=content_id("intent_formed", *window.fills),
        cause=cause,
        root=window.root,
        ts_ns=ending.now_ns,
        leader=ending.leader,
        condition=ending.condition,
        before=ending.before,
        after=ending.after,
        yes_price=average(window.weight, window.shares),
        notional=window.notional,
        fills=tuple(window.fills),
        opened_ns=window.opened_venue_ns,
        venue_ns=window.venue_ns,
        closed_by=reason,
    )
