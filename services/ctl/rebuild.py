"""`driftless rebuild`: throw a service's snapshots away and make them anew from the ledger."""

import asyncio
import random
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from services.ctl.asking import publish
from services.ctl.errors import CtlError, UsageError
from services.ctl.figures import decimal, json_text, shares, short
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.session import USER, Session, find_place, session
from services.executor.state import State as ExecutorState
from services.lab.rebuilding import Rebuilt, save
from services.lab.rebuilding import rebuild as rebuilt_of
from services.lab.replay import REGISTRY
from shared.domain.ids import TokenId, content_id
from shared.domain.messages import ReduceOnly
from shared.domain.observations import PositionReport
from shared.polymarket.errors import VenueError
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Patience, open_http
from shared.runtime.clock import SystemClock
from shared.runtime.jetstream import check_whole
from shared.runtime.lease import running_services
from shared.runtime.ports import UndecodableError
from shared.runtime.serve import urls_of

ALL = "all"


def rebuild(
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help=f"One of {', '.join(REGISTRY)}, or all.")
    ],
    from_venue: Annotated[
        bool,
        typer.Option(
            "--from-venue", help="Where the ledger lost what a snapshot stands on: begin anew."
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild a service's snapshots from the ledger, and show what differed.

    Needed after a snapshot was damaged, or `driftless verify` found a lane that is not what its log
    says. The service must not run; it takes up the new snapshots at its next start.

    With --from-venue a snapshot may be discarded although the ledger lacks what it stands on, as
    after a lost ledger: rebuild `all`. What was decided and why is lost then, and so is which
    leader caused which position and what it cost. The executor's positions are compared with the
    venue's here and shown; at the next start the reconciler reports each difference and the
    executor takes over what the venue says, as facts. They belong to no leader: nothing will sell
    them but you. Trading begins reduce-only, since what leaders did last looks new to a new ledger
    and was copied already: `driftless resume` when the positions are right.

    Example: driftless rebuild risk

    Exit codes: 0 rebuilt, 1 refused, 2 usage, 3 NATS or Redis away.
    """
    if service != ALL and service not in REGISTRY:
        raise UsageError(f"no service {service}: one of {', '.join(REGISTRY)}, or {ALL}")
    services = list(REGISTRY) if service == ALL else [service]
    asyncio.run(_rebuild(services, from_venue, config, as_json))


async def _rebuild(
    services: list[str], from_venue: bool, config: Path | None, as_json: bool
) -> None:
    async with session(find_place(config)) as at:
        await check_whole(at.client)
        running = [each for each in await running_services(at.client) if each in services]
        if running:
            raise CtlError(f"{', '.join(running)} must not run: stop it (a few seconds), try again")
        done: list[Rebuilt] = []
        with console().status("folding the ledger") as status:
            for service in services:
                try:
                    done += await rebuilt_of(
                        at.ledger, at.store, service,
                        progress=lambda lane: status.update(f"folding {lane.name}"),
                    )  # fmt: skip
                except UndecodableError as e:
                    raise CtlError(f"{e}: `driftless verify` tells more; restore the ledger") from e
        _refuse_loss(done, from_venue)
        theirs = await _at_venue(at) if from_venue and "executor" in services else None
        if from_venue:  # first: no service may start without it
            await publish(at.ledger, _only_reduce())
        await save(at.store, done)
    gaps = differences(done, theirs) if theirs is not None else None
    if as_json:
        print(json_text(rebuilt_json(done, gaps)))
        return
    console().print(table(done))
    if gaps is not None:
        console().print(venue_table(gaps))
    print(verdict(done))
    if from_venue:
        print("trading begins reduce-only: `driftless resume` once the positions are right")


def _only_reduce() -> ReduceOnly:
    """Return the command to take no new risk: what leaders did lately looks new to a new ledger."""
    now_ns, reason = SystemClock().now_ns(), "begun anew from the venue"
    id_ = content_id("reduce_only", USER, reason, now_ns)
    return ReduceOnly(id=id_, cause="", root=id_, ts_ns=now_ns, reason=reason, actor=USER)


def _refuse_loss(done: list[Rebuilt], from_venue: bool) -> None:
    lost = [each.lane.name for each in done if each.lost]
    if lost and not from_venue:
        raise CtlError(
            f"the ledger lacks what {', '.join(lost)} stands on: restore it (`driftless restore "
            "DIR`). If it is lost for good, `driftless rebuild all --from-venue` begins anew"
        )


async def _at_venue(at: Session) -> list[PositionReport]:
    patience = Patience(deadline_s=2 * at.config.venue.deadline_s)
    async with open_http(rng=random.Random(), patience=patience) as http:  # noqa: S311 - jitter
        venue = PublicVenue(http, now_ns=SystemClock().now_ns, urls=urls_of(at.config))
        try:
            return list(await venue.positions(at.config.account.wallet))
        except VenueError as e:
            raise CtlError(
                f"the venue's positions could not be read ({e}): nothing was changed"
            ) from e


def differences(
    done: list[Rebuilt], theirs: list[PositionReport]
) -> list[tuple[TokenId, int, int]]:
    """Return token, shares believed and shares at the venue, where they differ."""
    ours: dict[TokenId, int] = {}
    for each in done:
        if isinstance(each.state, ExecutorState):
            ours |= {token: held.at_venue for token, held in each.state.holdings.items()}
    venue = {report.token: report.size for report in theirs}
    pairs = [
        (token, ours.get(token, 0), venue.get(token, 0)) for token in ours.keys() | venue.keys()
    ]
    return sorted(pair for pair in pairs if pair[1] != pair[2])


def verdict(done: list[Rebuilt]) -> str:
    changed = sum(each.difference is not None for each in done)
    facts = sum(each.facts for each in done)
    return f"{len(done)} lanes rebuilt from {facts:,} facts, {changed} differed from their snapshot"


def table(done: list[Rebuilt]) -> Table:
    found = Table(title="Snapshots made anew from the ledger", title_justify="left")
    found.add_column("lane")
    for name in ("messages", "facts", "bytes"):
        found.add_column(name, justify="right")
    found.add_column("before")
    for each in done:
        found.add_row(
            each.lane.name,
            f"{each.messages:,}",
            f"{each.facts:,}",
            f"{len(each.after.state):,}",
            _before(each),
        )
    return found


def _before(each: Rebuilt) -> Text:
    if each.before is None:
        return Text("none")
    if each.lost:
        return Text("stood on what the ledger has lost", style="red")
    if each.before.said < each.after.said:
        return Text("was behind the log")
    found = each.difference
    if found is None:
        return Text("identical", style="green")
    return Text(f"{found.path}: {found.saved} is {found.rebuilt}", style="yellow")


def venue_table(gaps: list[tuple[TokenId, int, int]]) -> Table | Text:
    """Return what the reconciler will find at the next start."""
    if not gaps:
        return Text("the executor's positions are the venue's")
    found = Table(title="To be corrected at the next start", title_justify="left")
    found.add_column("token")
    for name in ("believed", "at the venue"):
        found.add_column(name, justify="right")
    for token, believed, observed in gaps:
        found.add_row(short(token), shares(believed), shares(observed))
    return found


def rebuilt_json(
    done: list[Rebuilt], gaps: list[tuple[TokenId, int, int]] | None
) -> dict[str, Any]:
    return {
        "lanes": [
            {
                "lane": each.lane.name,
                "messages": each.messages,
                "facts": each.facts,
                "bytes": len(each.after.state),
                "lost": each.lost,
                "difference": each.difference.path if each.difference else None,
            }
            for each in done
        ],
        "venue": None
        if gaps is None
        else [
            {"token": token, "believed": decimal(ours), "observed": decimal(theirs)}
            for token, ours, theirs in gaps
        ],
    }
