"""What was compared with the venue and corrected, in words."""

from services.ctl.figures import Names, duration, price, shares, short, usd
from shared.domain import messages as m
from shared.domain.ids import ConditionId
from shared.domain.units import NS_PER_MS, Price, Shares


def corrected(
    fact: m.PositionCorrected
    | m.PositionClosed
    | m.CashCorrected
    | m.RedemptionSent
    | m.RedemptionEnded,
    names: Names,
) -> str:
    """Return what the executor did about holdings without an order."""
    match fact:
        case m.PositionCorrected():
            what = (
                f"{names.outcome(fact.condition, fact.outcome)} of {names.market(fact.condition)}"
            )
            kind = "claim" if fact.claim and not fact.shares else "position"
            moved = shares(Shares(fact.shares + fact.claim), signed=True)
            return f"{kind} corrected {moved} {what}: {fact.reason.replace('_', ' ')}"
        case m.PositionClosed():
            paid = pays(fact.condition, fact.payouts, names)
            held = " and ".join(
                f"{shares(size)} {names.outcome(fact.condition, outcome)}"
                for outcome, size in enumerate(fact.shares)
                if size
            )
            what = f"{held or 'nothing'} of {names.market(fact.condition)}"
            return f"closed {what}, now a claim: {paid}; profit {usd(fact.realised)}"
        case m.CashCorrected():
            return f"cash corrected {usd(fact.usd)}: {fact.reason.replace('_', ' ')}"
        case m.RedemptionSent() | m.RedemptionEnded():
            return _redeeming(fact, names)


def _redeeming(fact: m.RedemptionSent | m.RedemptionEnded, names: Names) -> str:
    """Return what was asked of a market that is over, or what came of it."""
    where = names.market(fact.condition)
    match fact:
        case m.RedemptionSent():
            again = f", attempt {fact.attempt}" if fact.attempt > 1 else ""
            return f"redeeming {usd(fact.usd)} of {where}{again}"
        case m.RedemptionEnded(outcome="confirmed"):
            return f"redeemed {where}: transaction {short(fact.tx)}"
        case m.RedemptionEnded():
            why = f": {fact.detail}" if fact.detail else ""
            wait = duration(max(0, fact.retry_ns - fact.ts_ns))
            how = "failed" if fact.outcome == "failed" else "may have failed"
            return f"redeeming {where} {how}{why}; again after {wait} if the claim still stands"


def compared(
    fact: m.HoldingResolved | m.DriftSuspected | m.DriftFound | m.DriftCleared | m.OrphanFound,
    names: Names,
) -> str:
    """Return what the reconciler found."""
    match fact:
        case m.HoldingResolved():
            paid = pays(fact.condition, fact.payouts, names)
            return f"what we hold of {names.market(fact.condition)} is over: {paid}"
        case m.DriftSuspected():
            return f"drift suspected in {names.token(fact.token)}: {_sides(fact)}"
        case m.DriftFound():
            cause = fact.probable_cause.replace("_", " ")
            worth = usd(fact.usd)
            why = f": {fact.evidence}" if fact.evidence else ""
            return f"drift of {worth} in {names.token(fact.token)}: {_sides(fact)} ({cause}{why})"
        case m.DriftCleared():
            kind = "drift" if fact.found else "suspicion"
            lasted = duration(fact.duration_ms * NS_PER_MS)
            return f"{kind} over in {names.token(fact.token)} after {lasted}"
        case m.OrphanFound():
            return f"open order {short(fact.order)} that nobody approved: it is cancelled"


def pays(condition: ConditionId, payouts: tuple[Price, Price], names: Names) -> str:
    """Return what a share of each outcome of a market that is over pays."""
    return ", ".join(
        f"{names.outcome(condition, outcome)} pays {price(payout)}"
        for outcome, payout in enumerate(payouts)
    )


def _sides(fact: m.DriftSuspected | m.DriftFound) -> str:
    return f"we believe {shares(fact.believed)}, the venue says {shares(fact.observed)}"
