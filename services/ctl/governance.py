"""How we trade, in words: regimes, settings, whom we follow, what we are worth."""

from typing import Final

from services.ctl.figures import Names, measured, short, usd
from shared.domain import messages as m

_CHANGES_SHOWN: Final = 3
_REGIMES: Final = {"normal": "normal", "reduce_only": "reduce-only", "halted": "halted"}

Command = (
    m.HaltTrading
    | m.ReduceOnly
    | m.ResumeTrading
    | m.UnfollowLeader
    | m.EndOrder
    | m.FollowLeader
    | m.ReloadConfig
)
Governance = (
    Command
    | m.RegimeChanged
    | m.EquityMarked
    | m.ConfigChanged
    | m.CommandRefused
    | m.LeaderUnfollowed
    | m.LeaderFollowed
)


def regime_name(regime: m.Regime) -> str:
    return _REGIMES[regime]


def governed(fact: Governance, names: Names) -> str:
    """Return what one of these facts says, without its time and its id."""
    match fact:
        case m.RegimeChanged():
            before, after = regime_name(fact.before), regime_name(fact.regime)
            reason = fact.reason
            if fact.unit:
                actual, limit = measured(fact.actual, fact.unit), measured(fact.limit, fact.unit)
                reason = f"{reason} {actual}, limit {limit}"
            return f"trading {before} -> {after}: {reason} (by {fact.actor})"
        case m.EquityMarked():
            worth = usd(fact.collateral + fact.value)
            parts = f"cash {usd(fact.collateral)}, holdings {usd(fact.value)} at the bids"
            today, lost = usd(fact.profit - fact.day_profit), usd(fact.peak - fact.profit)
            return (
                f"worth {worth}: {parts}; profit {usd(fact.profit)}, {today} of it today, "
                f"drawdown {lost}"
            )
        case m.ConfigChanged():
            return f"settings {_changes(fact)} (by {fact.actor}, {short(fact.hash)})"
        case m.CommandRefused():
            return f"the command is refused: {fact.reason}"
        case m.LeaderUnfollowed():
            rest = "kept" if fact.keep else "sold"
            who = names.leader(fact.leader)
            return f"{who} is not followed any more, his share is {rest} (by {fact.actor})"
        case m.LeaderFollowed():
            who = names.leader(fact.leader)
            return f"{who} is followed again, from his next intent on (by {fact.actor})"
        case _:
            return f"{fact.actor} asks to {_wish(fact, names)}: {fact.reason}"


def _changes(fact: m.ConfigChanged) -> str:
    if not fact.changes:
        return "as before"
    told = [f"{key} {before or '-'} -> {after or '-'}" for key, before, after in fact.changes]
    more = f" and {len(told) - _CHANGES_SHOWN} more" if len(told) > _CHANGES_SHOWN else ""
    return f"{', '.join(told[:_CHANGES_SHOWN])}{more}"


def _wish(fact: Command, names: Names) -> str:
    match fact:
        case m.HaltTrading():
            return "halt"
        case m.ReduceOnly():
            return "reduce only"
        case m.ResumeTrading():
            return "resume"
        case m.EndOrder():
            return f"count order {short(fact.order)} no longer"
        case m.UnfollowLeader():
            rest = "keep" if fact.keep else "sell"
            return f"follow {names.leader(fact.leader)} no more and {rest} his share"
        case m.FollowLeader():
            return f"follow {names.leader(fact.leader)} again"
        case m.ReloadConfig():
            return "decide by other settings"
