"""Drives the venue: plays a tape at a speed, or a synthetic world, and lets leaders trade."""

import asyncio
import logging
from typing import Final

import msgspec

from services.paper_venue.core import (
    execute_activity,
    execute_fill,
    open_market,
    resolve_market,
    set_depth,
)
from services.paper_venue.crowds import traders
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.shell import Shell
from services.paper_venue.state import Refused
from services.paper_venue.synthetic import lead, live
from services.paper_venue.tape import (
    ActivityRecord,
    BookRecord,
    FillRecord,
    MarketRecord,
    Tape,
    Timed,
    fill_of,
    invented_condition,
    invented_token,
    levels_of,
    market_of,
    payouts_of,
)
from services.paper_venue.world import World
from shared.domain.ids import ConditionId, TxHash, condition_id, wallet
from shared.domain.units import NS_PER_MS, NS_PER_S, Shares, parse_micro

SLEEP_MAX_S: Final = 1.0
_log = logging.getLogger("paper_venue")


class Pass(msgspec.Struct, kw_only=True):
    """One play of the tape: recorded milliseconds on the present clock, and this pass's ids."""

    number: int
    start_ms: int
    start_ns: int
    speed: float
    markets: dict[ConditionId, MarketRecord]
    opened: dict[ConditionId, ConditionId] = msgspec.field(default_factory=dict)
    txs: dict[str, TxHash] = msgspec.field(default_factory=dict)

    def due_ns(self, t_ms: int) -> int:
        """Return when something recorded at ``t_ms`` happens now."""
        return self.start_ns + int((t_ms - self.start_ms) * NS_PER_MS / self.speed)


async def drive(shell: Shell, tape: Tape | None) -> None:
    """Play the tape or the world, and the leaders, until cancelled or until all has ended."""
    try:
        async with asyncio.TaskGroup() as group:
            if tape is not None:
                group.create_task(play(shell, tape))
            elif shell.venue.config.markets:
                group.create_task(live(shell, World(shell.venue.config)))
            if shell.venue.config.leaders != "none":
                group.create_task(lead(shell, traders(shell.venue.config)))
    except BaseExceptionGroup:
        _log.exception("replay_failed")
        raise


async def play(shell: Shell, tape: Tape) -> None:
    """Play a tape; every further pass has fresh markets, because the first ones resolved."""
    number = 0
    while tape.records:
        config = shell.venue.config
        current = Pass(
            number=number,
            start_ms=tape.start_ms,
            start_ns=shell.now_ns(),
            speed=config.speed,
            markets={condition_id(record.condition): record for record in tape.markets},
        )
        for record in tape.records:
            wait_s = (current.due_ns(record.t_ms) - shell.now_ns()) / NS_PER_S
            while wait_s > 0:
                await asyncio.sleep(min(wait_s, SLEEP_MAX_S))
                wait_s = (current.due_ns(record.t_ms) - shell.now_ns()) / NS_PER_S
            apply_record(shell, current, record)
        if not config.loop:
            return
        number += 1


def apply_record(shell: Shell, current: Pass, record: Timed) -> None:
    """Make one record happen now; one that the venue refuses is logged and left out."""
    try:
        shell.apply(lambda now_ns: _happen(shell, current, record, now_ns))
    except Refused as refusal:
        _log.warning(
            "record_refused kind=%s t_ms=%d reason=%s",
            type(record).__name__,
            record.t_ms,
            refusal.text,
        )


def _happen(shell: Shell, current: Pass, record: Timed, now_ns: int) -> None:
    venue = shell.venue
    condition = _opened(shell, current, condition_id(record.condition), now_ns)
    if isinstance(record, BookRecord):
        set_depth(venue, condition, levels_of(record.bids), levels_of(record.asks), now_ns)
    elif isinstance(record, FillRecord):
        tx = None
        if record.tx is not None:
            tx = current.txs.setdefault(record.tx, new_tx(venue))
        fill = msgspec.structs.replace(fill_of(record), condition=condition, tx=tx)
        execute_fill(venue, fill, now_ns)
    elif isinstance(record, ActivityRecord):
        size = Shares(parse_micro(record.size))
        execute_activity(
            venue, wallet(record.wallet), record.type, condition, size, Stamp(now_ns, new_tx(venue))
        )
    else:
        resolve_market(venue, condition, payouts_of(record), now_ns)


def _opened(shell: Shell, current: Pass, recorded: ConditionId, now_ns: int) -> ConditionId:
    """Return this pass's name of a recorded market, opening it at its first record."""
    known = current.opened.get(recorded)
    if known is not None:
        return known
    record = current.markets[recorded]
    market = market_of(record)
    ends_ns = current.due_ns(record.end_ms) if record.end_ms else 0
    market = msgspec.structs.replace(market, end_ns=ends_ns)
    if current.number:
        name = f"{market.slug or recorded}#{current.number}"
        market = msgspec.structs.replace(
            market,
            condition=invented_condition(name),
            tokens=(invented_token(name, 0), invented_token(name, 1)),
            slug=f"{market.slug}-{current.number}" if market.slug else "",
        )
    current.opened[recorded] = market.condition
    open_market(shell.venue, market, now_ns)
    return market.condition
