"""`driftless halt`, `reduce-only`, `resume`, `unfollow`, `follow`: the operator's word to risk."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.ctl.asking import DEADLINE_S, UnansweredError, ask
from services.ctl.errors import CtlError, UsageError
from services.ctl.figures import json_text
from services.ctl.governance import regime_name
from services.ctl.options import ConfigOption, JsonOption
from services.ctl.session import USER, find_place, session
from shared.domain import ids
from shared.domain.ids import Wallet, content_id
from shared.domain.messages import (
    CommandRefused,
    FollowLeader,
    HaltTrading,
    LeaderFollowed,
    LeaderUnfollowed,
    ReduceOnly,
    Regime,
    RegimeChanged,
    ResumeTrading,
    TargetSet,
    UnfollowLeader,
)
from shared.domain.views import RISK, RiskView, decode
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.config import Config
from shared.runtime.ports import Ledger, Store

_ORDERS: Final[
    dict[str, tuple[type[HaltTrading] | type[ReduceOnly] | type[ResumeTrading], Regime]]
] = {
    "halt": (HaltTrading, "halted"),
    "reduce-only": (ReduceOnly, "reduce_only"),
    "resume": (ResumeTrading, "normal"),
}

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the ledger.")]
WalletArgument = Annotated[
    str, typer.Argument(metavar="WALLET", help="The leader's wallet, or his name in the file.")
]


def halt(
    reason: ReasonOption = "by hand", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Send no order at all from now on, not even to reduce; positions are kept as they are.

    For when nothing that we believe can be trusted. To stop taking risk and still follow leaders
    out, take `driftless reduce-only`. What was sent before is followed to its end.

    Example: driftless halt --reason "venue maintenance"

    Exit codes: 0 halted (or it already was), 1 no answer from risk in time, 3 NATS or Redis away.
    """
    asyncio.run(_order("halt", reason, config, as_json))


def reduce_only(
    reason: ReasonOption = "by hand", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Take no new risk from now on; what reduces is still done, so leaders are followed out.

    Rules may be stricter meanwhile, never more lenient. It ends by `driftless resume`.

    Example: driftless reduce-only --reason "news at eight"

    Exit codes: 0 it is so (or already was), 1 no answer from risk in time, 3 NATS or Redis away.
    """
    asyncio.run(_order("reduce-only", reason, config, as_json))


def resume(
    reason: ReasonOption = "by hand", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Let trading be normal again, after a halt or after a rule reduced it.

    Who resumes accepts the loss so far: the drawdown counts anew from here. A rule whose number is
    still over its limit changes the regime again at once, and says so.

    Example: driftless resume --reason "maintenance over"

    Exit codes: 0 normal (or it already was), 1 no answer from risk in time, 3 NATS or Redis away.
    """
    asyncio.run(_order("resume", reason, config, as_json))


def unfollow(
    leader: WalletArgument,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what is held because of him; else it is sold.")
    ] = False,
    reason: ReasonOption = "by hand",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a leader no more, and sell what is held because of him, or keep it untouched.

    It holds through restarts, whatever the configuration says, until `driftless follow`. Selling
    is ordinary exits, so it waits while trading is halted.

    Example: driftless unfollow anna --keep --reason "on holiday"

    Exit codes: 0 done, 1 refused or no answer from risk, 2 no such leader, 3 NATS or Redis away.
    """
    asyncio.run(_choose(leader, reason, config, as_json, keep=keep))


def follow(
    leader: WalletArgument,
    reason: ReasonOption = "by hand",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a leader again who was unfollowed, from his next intent on.

    What he did in between is not made up for. A leader who never was followed is added to the
    configuration instead.

    Example: driftless follow anna --reason "back again"

    Exit codes: 0 done, 1 refused or no answer from risk, 2 no such leader, 3 NATS or Redis away.
    """
    asyncio.run(_choose(leader, reason, config, as_json, keep=None))


async def _order(verb: str, reason: str, config: Path | None, as_json: bool) -> None:
    async with session(find_place(config)) as at:
        done = await order(at.ledger, at.store, verb, reason, SystemClock())
    print(json_text(done) if as_json else done["text"])


async def _choose(
    written: str, reason: str, config: Path | None, as_json: bool, *, keep: bool | None
) -> None:
    async with session(find_place(config)) as at:
        leader = leader_of(written, at.config, await regime(at.store))
        command = choice(leader, reason, SystemClock().now_ns(), keep=keep)
        done = await choose(at.ledger, at.config, command)
    print(json_text(done) if as_json else done["text"])


# --- regimes ------------------------------------------------------------------------------


async def order(
    ledger: Ledger,
    store: Store,
    verb: str,
    reason: str,
    clock: Clock,
    *,
    deadline_s: float = DEADLINE_S,
) -> dict[str, Any]:
    """Ask for a regime and return what became of it; raises CtlError when risk says nothing."""
    kind, wanted = _ORDERS[verb]
    held = await regime(store)
    if held is not None and _is_ordered(held, wanted):
        return _already(held)
    now_ns = clock.now_ns()
    id_ = content_id(f"{verb}_trading", USER, reason, now_ns)
    command = kind(id=id_, cause="", root=id_, ts_ns=now_ns, reason=reason, actor=USER)
    try:
        answer = await ask(ledger, command, deadline_s=deadline_s)
    except UnansweredError:
        held = await regime(store)
        if held is not None and held.regime == wanted:  # a rule or somebody else was there first
            return _already(held)
        raise
    changed = answer.said
    assert isinstance(changed, RegimeChanged)
    return {
        "regime": changed.regime,
        "changed": True,
        "before": changed.before,
        "text": _changed(changed, wanted),
        "command_seq": answer.seq,
        "fact": changed.id,
    }


async def regime(store: Store) -> RiskView | None:
    """Return what risk says of itself, None before it ever ran."""
    (data,) = await store.read_views([RISK])
    return decode(data, RiskView)


def _is_ordered(held: RiskView, wanted: Regime) -> bool:
    """Tell whether the operator's word is known to hold: a rule's would end with its number."""
    by_operator = held.reason.startswith("operator: ")
    return held.regime == wanted and (wanted == "normal" or by_operator)


def _already(held: RiskView) -> dict[str, Any]:
    now = held.regime
    text = f"already {regime_name(now)}: {held.reason or 'as at the start'}"
    return {
        "regime": now, "changed": False, "before": now, "text": text, "command_seq": None,
        "fact": None,
    }  # fmt: skip


def _changed(changed: RegimeChanged, wanted: Regime) -> str:
    before, after = regime_name(changed.before), regime_name(changed.regime)
    if changed.regime != wanted:
        rules = ", ".join(changed.entered) or "a rule"
        return f"trading stays {after} while {rules} holds it there, then {regime_name(wanted)}"
    return f"trading {before} -> {after} ({changed.reason})"


# --- leaders ------------------------------------------------------------------------------


def choice(
    leader: Wallet, reason: str, now_ns: int, *, keep: bool | None
) -> UnfollowLeader | FollowLeader:
    """Return the command to unfollow a leader, keeping his share or not, or to follow (None)."""
    verb = "follow" if keep is None else "unfollow"
    id_ = content_id(f"{verb}_leader", USER, leader, reason, now_ns)
    head: dict[str, Any] = {"id": id_, "cause": "", "root": id_, "ts_ns": now_ns, "actor": USER}
    if keep is None:
        return FollowLeader(**head, leader=leader, reason=reason)
    return UnfollowLeader(**head, leader=leader, keep=keep, reason=reason)


async def choose(
    ledger: Ledger,
    config: Config,
    command: UnfollowLeader | FollowLeader,
    *,
    deadline_s: float = DEADLINE_S,
) -> dict[str, Any]:
    """Give the command and return what became of it; raises CtlError where risk refuses."""
    name = _name(command.leader, config)
    keep = command.keep if isinstance(command, UnfollowLeader) else None
    answer = await ask(ledger, command, deadline_s=deadline_s)
    if isinstance(answer.said, CommandRefused):
        raise CtlError(f"risk refused for {name}: {answer.said.reason}")
    assert isinstance(answer.said, LeaderFollowed | LeaderUnfollowed)
    targets = sum(1 for fact in answer.facts if isinstance(fact, TargetSet))
    return {
        "leader": command.leader,
        "followed": keep is None,
        "keep": keep,
        "targets": targets,
        "text": _chosen(name, keep, targets),
        "command_seq": answer.seq,
        "fact": answer.said.id,
    }


def _chosen(name: str, keep: bool | None, targets: int) -> str:
    if keep is None:
        return f"{name} is followed again, from his next intent on"
    markets = f"{targets} market{'' if targets == 1 else 's'}"
    if keep:
        return f"{name} is not followed any more; what is held because of him is kept"
    if targets:
        return f"{name} is not followed any more; what is held in {markets} is sold"
    return f"{name} is not followed any more; nothing is held because of him"


def leader_of(written: str, config: Config, view: RiskView | None) -> Wallet:
    """Return the wallet that a name or an address means; raises UsageError with those known.

    Known are the configuration's leaders, and whom risk holds something of or has unfollowed.
    """
    named = [
        each.wallet for each in config.leaders if each.name and each.name.lower() == written.lower()
    ]
    if len(named) > 1:
        raise UsageError(f"{written} is the name of {len(named)} leaders: give the wallet instead")
    if named:
        return named[0]
    known = {each.wallet for each in config.leaders}
    if view is not None:
        known |= {*view.unfollowed, *(each.leader for each in view.held)}
    try:
        wallet = ids.wallet(written)
    except ValueError:
        wallet = None
    if wallet is None or wallet not in known:
        listed = ", ".join(_name(each.wallet, config) for each in config.leaders)
        raise UsageError(f"no leader {written}: known are {listed or 'none, add one to the file'}")
    return wallet


def _name(leader: Wallet, config: Config) -> str:
    name = next((each.name for each in config.leaders if each.wallet == leader), "")
    return f"{name} ({leader})" if name else leader
