"""What was compared with the venue and corrected, in words."""

from services.ctl.figures import Names, duration, price, shares, short, usd
from shared.domain import messages as m
from shared.domain.ids import ConditionId
from shared.domain.units import NS_PER_MS, Price, Shares


def corrected(fact: m.PositionCorrected | m.PositionClosed | m.CashCorrected, names: Names) -> str:
    """Return what a correction of the executor did."""
    reason = "" if isinstance(fact, m.PositionClosed) else fact.reason.replace("_", " ")
    match fact:
        case m.PositionCorrected():
            what = (
                f"{names.outcome(fact.condition, fact.outcome)} of {names.market(fact.condition)}"
            )
            kind = "claim" if fact.claim and not fact.shares else "position"
            moved = shares(Shares(fact.shares + fact.claim), signed=True)
            return f"{kind} corrected {moved} {what}: {reason}"
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
            return f"cash corrected {usd(fact.usd)}: {reason}"


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
