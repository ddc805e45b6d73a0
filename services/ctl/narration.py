"""Facts in words: one line each, in dollars, shares and milliseconds."""

from typing import Final, assert_never

from services.ctl.compared import compared, corrected, pays
from services.ctl.figures import (
    Names,
    bps,
    duration,
    measured,
    notional,
    price,
    shares,
    short,
    usd,
)
from services.ctl.governance import governed
from shared.domain import messages as m
from shared.domain.ids import ConditionId
from shared.domain.units import NS_PER_S, Shares, bps_worse

GRID: Final = "GRID"  # the reason of a trim that only puts a size on the venue's grid
_HOW: Final[dict[m.OrderPolicy, str]] = {
    "fill_and_kill": "",
    "fill_or_kill": ", whole or not at all",
    "post_only": ", resting in the book",
}
_LONG_NS: Final = 86_400 * NS_PER_S  # a refusal that waits longer waits for more to do


def told(fact: m.Fact, names: Names) -> str:
    """Return what a fact says, without its time and its id."""
    match fact:
        case (
            m.LeaderFilled()
            | m.LeaderActed()
            | m.LeaderBaselineRead()
            | m.ActivityRead()
            | m.FeedChanged()
            | m.MarketResolved()
        ):
            return _seen(fact, names)
        case m.FillCounted() | m.IntentFormed() | m.WindowNetted():
            return _netted(fact, names)
        case m.LeaderDriftSuspected() | m.LeaderDriftCleared() | m.LeaderCorrected():
            return _doubted(fact, names)
        case m.TargetSet() | m.TargetExpired() | m.OrderApproved() | m.OrderRefused():
            return _judged(fact, names)
        case m.HoldingChanged() | m.LeadersNetted() | m.ReservationEnded() | m.ApprovalWithdrawn():
            return _booked(fact, names)
        case (
            m.RegimeChanged()
            | m.EquityMarked()
            | m.ConfigChanged()
            | m.CommandRefused()
            | m.LeaderUnfollowed()
            | m.LeaderFollowed()
            | m.HaltTrading()
            | m.ReduceOnly()
            | m.ResumeTrading()
            | m.UnfollowLeader()
            | m.EndOrder()
            | m.FollowLeader()
            | m.ReloadConfig()
        ):
            return governed(fact, names)
        case (
            m.OrderPrepared()
            | m.OrderDeclined()
            | m.OrderAccepted()
            | m.OrderRejected()
            | m.OrderOutcomeUnknown()
            | m.OrderResent()
            | m.OrderFound()
            | m.OrderSurrendered()
        ):
            return _sent(fact, names)
        case (
            m.OrderFilled()
            | m.FillSettled()
            | m.OrderClosed()
            | m.CancelRequested()
            | m.ShortfallMeasured()
            | m.PositionCorrected()
            | m.PositionClosed()
            | m.CashCorrected()
            | m.RedemptionSent()
            | m.RedemptionEnded()
        ):
            return _executed(fact, names)
        case (
            m.HoldingResolved()
            | m.DriftSuspected()
            | m.DriftFound()
            | m.DriftCleared()
            | m.OrphanFound()
        ):
            return compared(fact, names)
        case _:
            assert_never(fact)


def _seen(
    fact: m.LeaderFilled
    | m.LeaderActed
    | m.LeaderBaselineRead
    | m.ActivityRead
    | m.FeedChanged
    | m.MarketResolved,
    names: Names,
) -> str:
    match fact:
        case m.LeaderFilled():
            what = _trade(fact, names)
            seen = f"seen {duration(fact.seen_ns - fact.ts_ns)} later by {fact.source}"
            return f"{names.leader(fact.leader)} {what} ({seen})"
        case m.LeaderActed():
            sets = f"{shares(fact.size)} of {names.market(fact.condition)}"
            return f"{names.leader(fact.leader)} {fact.action.lower()} {sets}"
        case m.LeaderBaselineRead():
            return f"{names.leader(fact.leader)} is followed; held {len(fact.holdings)} markets"
        case m.ActivityRead():
            return f"{names.leader(fact.leader)} read without a gap"
        case m.FeedChanged():
            of = f" of {names.leader(fact.leader)}" if fact.leader else ""
            rows = f", {fact.rows:,} rows found" if fact.rows else ""
            said = f" ({fact.detail})" if fact.detail else ""
            return f"feed {fact.feed}{of} {fact.state} after {fact.duration_ms:,} ms{rows}{said}"
        case m.MarketResolved():
            paid = pays(fact.condition, fact.payouts, names)
            return f"settled {names.market(fact.condition)}: {paid}; nothing is left to copy"


def _trade(fact: m.LeaderFilled | m.OrderFilled, names: Names) -> str:
    verb = "bought" if fact.side == "BUY" else "sold"
    what = f"{names.outcome(fact.condition, fact.outcome)} of {names.market(fact.condition)}"
    worth = usd(notional(fact.price, fact.size))
    return f"{verb} {shares(fact.size)} {what} at {price(fact.price)} = {worth}"


def _netted(fact: m.FillCounted | m.IntentFormed | m.WindowNetted, names: Names) -> str:
    who, where = names.leader(fact.leader), names.market(fact.condition)
    match fact:
        case m.FillCounted():
            change = shares(fact.yes - fact.no, signed=True)
            aside = ", nothing to copy" if fact.baseline else ""
            return f"counted: exposure of {who} in {where} {change}{aside}"
        case m.IntentFormed():
            change = f"{shares(fact.before)} -> {shares(fact.after)}"
            basis = f"{len(fact.fills)} fill{'s' if len(fact.fills) != 1 else ''}"
            how = f"closed by {fact.closed_by.replace('_', ' ')}"
            return (
                f"{who} in {where}: exposure {change} shares, {basis} worth {usd(fact.notional)}"
                f" at {price(fact.yes_price)} yes; window {how}"
            )
        case m.WindowNetted():
            return f"{who} in {where}: {len(fact.fills)} fills net to nothing to follow"


def _doubted(
    fact: m.LeaderDriftSuspected | m.LeaderDriftCleared | m.LeaderCorrected, names: Names
) -> str:
    who, where = names.leader(fact.leader), names.market(fact.condition)
    match fact:
        case m.LeaderDriftSuspected():
            believed = _both(fact.condition, fact.believed, names)
            observed = _both(fact.condition, fact.observed, names)
            cause = fact.probable_cause.replace("_", " ")
            sides = f"we believe {believed}, the venue says {observed}"
            return f"{who} in {where} is doubted: {sides} ({cause}); his activity is read again"
        case m.LeaderDriftCleared():
            return f"{who} in {where} is doubted no more"
        case m.LeaderCorrected():
            change = _both(fact.condition, (fact.yes, fact.no), names, signed=True)
            cause = fact.probable_cause.replace("_", " ")
            return f"{who} in {where} corrected by {change}: {cause}"


def _both(
    condition: ConditionId, sides: tuple[Shares, Shares], names: Names, *, signed: bool = False
) -> str:
    return " and ".join(
        f"{shares(size, signed=signed)} {names.outcome(condition, outcome)}"
        for outcome, size in enumerate(sides)
    )


def _judged(
    fact: m.TargetSet | m.TargetExpired | m.OrderApproved | m.OrderRefused,
    names: Names,
) -> str:
    where = names.market(fact.condition)
    match fact:
        case m.TargetSet():
            change = f"{shares(fact.before)} -> {shares(fact.target)}"
            because = f"because of {names.leader(fact.leader)}"
            return f"target in {where} {change} shares {because}{_unsized(fact)}"
        case m.TargetExpired():
            return f"target in {where} {shares(fact.target)} expired at {shares(fact.held)} shares"
        case m.OrderApproved():
            trims = [v for v in fact.verdicts if is_trim(v)]
            limit = f"{price(fact.limit)} or better, at most {usd(fact.worst_usd)}"
            if fact.side == "SELL":
                limit = f"{price(fact.limit)} or better"
            order = f"{_order(fact, names)} at {limit}"
            against = "; it nets against what other leaders hold" if fact.nets else ""
            how = _HOW[fact.policy]
            return f"approved {order}{how}{against}" + "".join(f"; {trimmed(v)}" for v in trims)
        case m.OrderRefused():
            what = "" if fact.side is None else f"{fact.side.lower()} {shares(fact.size)} in "
            return f"refused {what}{where}: {refusal(fact)}; {_next(fact)}"


def _unsized(fact: m.TargetSet) -> str:
    """Return why nothing could be sized, if so."""
    refused = [step.reason for step in fact.arithmetic if step.outcome == "refuse"]
    return f"; nothing is sized: {', '.join(refused)}" if refused else ""


def _next(fact: m.OrderRefused) -> str:
    if fact.final:
        return "written off"
    waits_ns = fact.retry_ns - fact.ts_ns
    return "waits for the leader's next" if waits_ns > _LONG_NS else "tried again"


def refusal(fact: m.OrderRefused | m.OrderDeclined) -> str:
    """Return the reason with the number that stands against the limit."""
    if not fact.unit:
        return fact.reason
    actual, limit = measured(fact.actual, fact.unit), measured(fact.limit, fact.unit)
    return f"{fact.reason} {actual}, limit {limit}"


def is_trim(verdict: m.Verdict) -> bool:
    """Tell whether a rule made the order smaller, other than by putting it on the venue's grid."""
    return verdict.outcome == "trim" and verdict.reason != GRID


def trimmed(verdict: m.Verdict) -> str:
    actual, limit = measured(verdict.actual, verdict.unit), measured(verdict.limit, verdict.unit)
    kept = shares(verdict.size)
    if verdict.unit == "shares":
        return f"trimmed by {verdict.rule} from {actual} to {kept} shares"
    return f"trimmed by {verdict.rule} ({actual} of {limit}) to {kept} shares"


def _order(fact: m.OrderApproved | m.OrderPrepared, names: Names) -> str:
    return f"{fact.side} {shares(fact.size)} {names.token(fact.token)}"


def _booked(
    fact: m.HoldingChanged | m.LeadersNetted | m.ReservationEnded | m.ApprovalWithdrawn,
    names: Names,
) -> str:
    match fact:
        case m.ApprovalWithdrawn():
            why = fact.reason.replace("_", " ")
            return f"what rests in {names.market(fact.condition)} is wanted no more: {why}"
        case m.HoldingChanged():
            what = (
                f"{names.outcome(fact.condition, fact.outcome)} of {names.market(fact.condition)}"
            )
            profit = f", realised {usd(fact.realised)}" if fact.realised else ""
            change = shares(fact.shares, signed=True)
            sets = ""
            if fact.crossed:
                sets = f", {shares(fact.crossed, signed=True)} sets held against other leaders"
            return f"booked {change} {what} to {names.leader(fact.leader)}{profit}{sets}"
        case m.LeadersNetted():
            outcome = names.outcome(fact.condition, 0)
            what = f"{shares(fact.shares)} {outcome} of {names.market(fact.condition)}"
            sides = f"{names.leader(fact.more)} more, {names.leader(fact.less)} less"
            worth = usd(notional(fact.yes_price, fact.shares))
            return f"netted {what}: {sides}, at {price(fact.yes_price)} = {worth}, without an order"
        case m.ReservationEnded():
            slip = ""
            if fact.slippage_bps is not None:
                slip = f", {bps(fact.slippage_bps)} to the estimate"
            return f"reservation ended: {fact.reason}, {shares(fact.filled)} filled{slip}"


def _sent(
    fact: m.OrderPrepared
    | m.OrderDeclined
    | m.OrderAccepted
    | m.OrderRejected
    | m.OrderOutcomeUnknown
    | m.OrderResent
    | m.OrderFound
    | m.OrderSurrendered,
    names: Names,
) -> str:
    match fact:
        case m.OrderPrepared():
            quote = fact.quote
            estimate = "no estimate"
            if quote.average is not None:
                slip = bps_worse(fact.side == "BUY", quote.average, fact.leader_price)
                estimate = f"expected {price(quote.average)}, {bps(slip)} to the leader"
            age = duration(quote.book_age_ns)
            return (
                f"order {short(fact.order)} {_order(fact, names)} at {price(fact.price)} or better"
                f" ({estimate}, book {age} old)"
            )
        case m.OrderDeclined():
            return f"given back unsent: {refusal(fact)}"
        case m.OrderAccepted():
            took = duration(fact.latency_ns)
            return f"order {short(fact.order)} accepted ({fact.status}) in {took}"
        case m.OrderRejected():
            said = f": {fact.detail}" if fact.detail else ""
            return f"order {short(fact.order)} rejected, {fact.reason}{said}"
        case m.OrderOutcomeUnknown():
            return f"order {short(fact.order)} has no answer ({fact.reason}): asked about"
        case m.OrderResent():
            why = "the venue does not know it, and its time has not passed"
            return f"order {short(fact.order)} sent again, the same bytes ({fact.resend}.): {why}"
        case m.OrderFound() | m.OrderSurrendered():
            return _sought(fact)


def _sought(fact: m.OrderFound | m.OrderSurrendered) -> str:
    match fact:
        case m.OrderFound():
            matched = f", {shares(fact.matched)} matched" if fact.matched else ""
            return f"order {short(fact.order)} found at the venue: {fact.status}{matched}"
        case m.OrderSurrendered():
            asked = f"asked {fact.looks} times ({fact.missing} not known, {fact.unreadable} "
            asked += f"without an answer), sent {fact.posts} times by this process"
            last = f'; the last word: "{fact.last}"' if fact.last else ""
            return (
                f"order {short(fact.order)} has no end after {duration(fact.waited_ns)}: LOOK AT "
                f"THE VENUE. It is {fact.state}, {shares(fact.filled)} filled; {asked}{last}. It "
                "counts whole until it has one"
            )


def _executed(
    fact: m.OrderFilled
    | m.FillSettled
    | m.OrderClosed
    | m.CancelRequested
    | m.ShortfallMeasured
    | m.PositionCorrected
    | m.PositionClosed
    | m.CashCorrected
    | m.RedemptionSent
    | m.RedemptionEnded,
    names: Names,
) -> str:
    match fact:
        case m.OrderFilled():
            fee = f", fee {usd(fact.fee)}" if fact.fee else ""
            return f"we {_trade(fact, names)}{fee}"
        case m.FillSettled():
            undone = ": the fill is taken back" if fact.settlement == "FAILED" else ""
            return f"fill of {shares(fact.size)} {fact.settlement}{undone}"
        case m.CancelRequested():
            return _called_off(fact)
        case m.OrderClosed():
            return f"order {short(fact.order)} closed: {fact.reason}, {shares(fact.filled)} filled"
        case m.ShortfallMeasured():
            return _cost(fact)
        case _:
            return corrected(fact, names)


def _called_off(fact: m.CancelRequested) -> str:
    why = {"rest_over": "its time is over", "withdrawn": "risk wants it no more"}.get(fact.reason)
    why = why or f"the book has moved on to {price(fact.near)}"
    return f"order {short(fact.order)} is to be cancelled: {why}, {shares(fact.filled)} filled"


def _cost(fact: m.ShortfallMeasured) -> str:
    parts = {"waiting": fact.waiting, "latency": fact.latency, "execution": fact.execution}
    told = ", ".join(f"{name} {usd(worth)}" for name, worth in parts.items())
    expected = fact.expected_execution
    against = "" if expected is None else f" (expected {usd(expected)})"
    return (
        f"order {short(fact.order)} cost {usd(fact.total)} against the leader's price: "
        f"{told}{against}, fee {usd(fact.fee)}"
    )
