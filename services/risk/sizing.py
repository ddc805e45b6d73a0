"""From a leader's change of exposure to ours: entries are sized, exits follow his fraction."""

from services.risk.state import Policy, Sizing
from shared.domain.messages import IntentFormed
from shared.domain.units import BPS, MICRO, Price, Shares, Usd, scale_down, shares_for


def desired(policy: Policy, intent: IntentFormed, target: Shares) -> Shares:
    """Return the new target, in signed YES-equivalents.

    A leader who gives up a fraction of his exposure takes that fraction of our target with him,
    whatever part of his entries we copied. One who crosses zero closes our side and opens the
    other. What he adds is sized by the leader's settings.
    """
    before, after = intent.before, intent.after
    follows = target if target * after > 0 else Shares(0)
    crosses = before * after <= 0
    if not crosses and abs(after) <= abs(before):
        return Shares(scale_down(follows, abs(after), abs(before)))
    added = Shares(abs(after) if crosses else abs(after) - abs(before))
    if added == 0:
        return Shares(0)
    price = intent.yes_price if after > 0 else Price(MICRO - intent.yes_price)
    entry = _entry(policy.sizing_of(intent.leader), added, price, policy.trade_usd_max)
    return Shares(follows + (entry if after > 0 else -entry))


def _entry(sizing: Sizing, added: Shares, price: Price, trade_usd_max: Usd) -> Shares:
    """Size an entry; a fixed size never exceeds what the leader himself added."""
    most = shares_for(trade_usd_max, price)
    if sizing.mode == "fixed":
        return min(shares_for(sizing.trade_usd, price), most, added)
    return min(Shares(scale_down(added, sizing.ratio_bps, BPS)), most)
