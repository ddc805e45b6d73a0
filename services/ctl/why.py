"""`driftless why ID`: the tree of reasons behind an order, a fill or any other fact."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.text import Text
from rich.tree import Tree

from services.ctl.arithmetic import steps_json, steps_table, verdicts_json, verdicts_table
from services.ctl.errors import CtlError, UsageError
from services.ctl.figures import Names, bps, duration, json_text, price, shares, usd
from services.ctl.narration import told
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.session import Session, find_place, session
from services.ctl.story import PREFIX_MIN, Log, Match, Node, Story, Told
from shared.domain.messages import (
    LeaderFilled,
    OrderApproved,
    OrderFilled,
    OrderPrepared,
    OrderRefused,
    Quote,
    TargetSet,
    kind_of,
)
from shared.domain.units import NS_PER_MS, bps_worse
from shared.domain.views import Market, decode, market_key
from shared.runtime.ports import Ledger

_FILLS_SHOWN: Final = 12
_MATCHES_SHOWN: Final = 6
_LEVELS_SHOWN: Final = 5
_STYLES: Final = {
    "order_refused": "red", "command_refused": "red", "leaders_netted": "green",
    "order_declined": "red", "order_rejected": "red", "order_filled": "green",
    "order_approved": "green", "position_corrected": "yellow", "order_outcome_unknown": "yellow",
    "order_resent": "yellow", "order_surrendered": "bold red",
}  # fmt: skip

FORMS: Final = (
    "an order hash (0x and 64 hex digits), a trade id, a transaction hash of the leader, or the id "
    "of any fact (32 hex digits, `driftless status --json` and the logs show them); "
    f"the first {PREFIX_MIN} characters are enough where they are unique"
)


def why(
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="Order hash, trade id, transaction or fact id.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain one order, fill or decision: back to the leader's fills, forward to ours.

    Every step shows its time after the leader's first fill, and every decision its numbers: how
    the target was sized, step by step; what each rule found, the limit it held it to, and the size
    it left. Slippage is positive when worse for us.

    Example: driftless why 0x3fa94c

    Exit codes: 0 explained, 1 nothing or more than one thing has that id, 2 usage, 3 NATS or
    Redis away.
    """
    if len(identity.strip().removeprefix("0x")) < PREFIX_MIN:
        raise UsageError(f"{identity!r} is too short: give {FORMS}")
    asyncio.run(_why(identity, config, as_json))


async def _why(identity: str, config: Path | None, as_json: bool) -> None:
    async with session(find_place(config)) as at:
        log, names = await read_log(at.ledger), await names_of(at)
    match, story = explained(log, identity)
    for fact in (node.fact for node in log.facts):
        names.hear(fact)
    if as_json:
        print(json_text(story_json(log, match, story, names)))
    else:
        console().print(story_tree(log, match, story, names))


async def read_log(ledger: Ledger) -> Log:
    """Return every fact of the ledger that can be read."""
    facts: list[Told] = []
    head = await ledger.head()
    async for run in ledger.read(("driftless.>",), after=0, until=head):
        for entry in run:
            facts += [Told(entry.seq, fact) for fact in (entry.batch.facts if entry.batch else ())]
    return Log(facts)


async def names_of(at: Session) -> Names:
    """Return what the configuration and the views call wallets and markets."""
    names = Names({leader.wallet: leader.name for leader in at.config.leaders if leader.name})
    keys = await at.store.find_views(market_key_prefix())
    for data in await at.store.read_views(keys) if keys else ():
        market = decode(data, Market)
        if market is not None:
            names.learn(market)
    return names


def market_key_prefix() -> str:
    """Return what the keys of all market views begin with."""
    return market_key("")  # type: ignore[arg-type]


def explained(log: Log, identity: str) -> tuple[Match, Story]:
    """Return what an id names and its story; raises CtlError for none or several."""
    matches = log.find(identity)
    if not matches:
        raise CtlError(f"nothing in the ledger is called {identity}: give {FORMS}")
    stories = {story.key: (match, story) for match in matches for story in [log.story(match.told)]}
    if len(stories) > 1:
        shown = ", ".join(f"{match.kind} {match.name}" for match in matches[:_MATCHES_SHOWN])
        raise CtlError(f"{identity} is the beginning of {len(matches)} ids: {shown}; give more")
    return next(iter(stories.values()))


# --- for people ---------------------------------------------------------------------------


def story_tree(log: Log, match: Match, story: Story, names: Names) -> Tree:
    """Return the story as a tree; the fact that was asked for is marked."""
    tree = Tree(Text.assemble((f"{match.kind} ", "bold"), (match.name, "cyan")))
    if story.fills:
        branch = tree.add(Text(f"the leader's fills ({len(story.fills)})", style="bold"))
        for fill in story.fills[:_FILLS_SHOWN]:
            branch.add(_line(fill, story, names, match))
        if len(story.fills) > _FILLS_SHOWN:
            branch.add(f"and {len(story.fills) - _FILLS_SHOWN} more")
    _grow(tree, story.trunk, log, story, names, match)
    if story.corrections:
        later = tree.add(Text("later corrections of what was traded", style="bold"))
        for node in story.corrections:
            _grow(later, node, log, story, names, match)
    return tree


def _grow(tree: Tree, node: Node, log: Log, story: Story, names: Names, match: Match) -> None:
    branch = tree.add(_line(node.told, story, names, match))
    for note in notes(node.told, log, names):
        branch.add(Text(note, style="dim"))
    fact = node.told.fact
    if isinstance(fact, TargetSet) and fact.arithmetic:
        branch.add(steps_table(fact))
    if isinstance(fact, OrderApproved | OrderRefused) and fact.verdicts:
        branch.add(verdicts_table(fact.verdicts))
    for child in node.children:
        _grow(branch, child, log, story, names, match)


def _line(at: Told, story: Story, names: Names, match: Match) -> Text:
    kind = kind_of(at.fact)
    mark = "  <- asked for" if at.fact.id == match.told.fact.id else ""
    return Text.assemble(
        (f"{after(at, story):>10}  ", "dim"),
        (f"{kind} ", _STYLES.get(kind, "bold")),
        told(at.fact, names),
        (f"  {at.fact.id[:8]}", "dim"),
        (mark, "bold cyan"),
    )


def after(at: Told, story: Story) -> str:
    """Return a fact's time after the leader's first fill."""
    return f"+{duration(at.fact.ts_ns - story.start_ns)}".replace("+-", "-")


def notes(at: Told, log: Log, names: Names) -> list[str]:
    """Return what else is known of a fact: the book it stood on, the slippage it cost."""
    fact = at.fact
    quote = getattr(fact, "quote", None)
    if isinstance(quote, Quote):
        decided = not isinstance(fact, OrderPrepared)  # else it stands above, at the approval
        told = [quoted(quote), *([ladder(quote)] if quote.levels and decided else [])]
        return [*told, *([counted(fact, names)] if isinstance(fact, OrderApproved) else [])]
    prepared = log.prepared(fact.order) if isinstance(fact, OrderFilled) else None
    if prepared is None or not isinstance(fact, OrderFilled):
        return []
    buys = fact.side == "BUY"
    against = [f"{bps(bps_worse(buys, fact.price, prepared.leader_price))} to the leader's price"]
    if prepared.quote.average is not None:
        against.append(
            f"{bps(bps_worse(buys, fact.price, prepared.quote.average))} to the estimate"
        )
    return ["slippage: " + ", ".join(against)]


def quoted(quote: Quote) -> str:
    """Return the book that a decision stood on."""
    expected = f", expected {price(quote.average)}" if quote.average is not None else ""
    worst = f", worst {price(quote.worst)}" if quote.worst is not None else ""
    return (
        f"book: bid {price(quote.best_bid)}, ask {price(quote.best_ask)}, "
        f"{shares(quote.depth)} shares within the limit, {duration(quote.book_age_ns)} old"
        f"{expected}{worst}"
    )


def ladder(quote: Quote) -> str:
    """Return the levels that an order would take, best first."""
    shown = [f"{shares(size)} at {price(at)}" for at, size in quote.levels[:_LEVELS_SHOWN]]
    more = len(quote.levels) - len(shown)
    return f"levels: {', '.join(shown)}{f' and {more} more' if more else ''}"


def counted(fact: OrderApproved, names: Names) -> str:
    """Return what an order counts for, at its worst, while it is in flight."""
    leader = fact.worst_usd if fact.leader_usd is None else fact.leader_usd
    account = fact.worst_usd if fact.market_usd is None else fact.market_usd
    where = f", its category {fact.category}" if fact.category else ""
    return (
        f"counts for {usd(leader)} of {names.leader(fact.leader)}'s cap and {usd(account)} of the "
        f"account's{where}; takes at most {usd(fact.worst_usd)} from the balance"
    )


# --- for machines -------------------------------------------------------------------------


def story_json(log: Log, match: Match, story: Story, names: Names) -> dict[str, Any]:
    """Return the story as plain values; ``fact`` is the fact itself, in micro-units."""
    return {
        "asked": {"kind": match.kind, "id": match.name, "fact": match.told.fact.id},
        "start_ns": story.start_ns,
        "fills": [_node_json(Node(fill), log, story, names) for fill in story.fills],
        "story": _node_json(story.trunk, log, story, names),
        "corrections": [_node_json(node, log, story, names) for node in story.corrections],
    }


def _node_json(node: Node, log: Log, story: Story, names: Names) -> dict[str, Any]:
    fact = node.told.fact
    found: dict[str, Any] = {
        "seq": node.told.seq,
        "kind": kind_of(fact),
        "id": fact.id,
        "after_ms": (fact.ts_ns - story.start_ns) // NS_PER_MS,
        "text": told(fact, names),
        "notes": notes(node.told, log, names),
        "fact": msgspec.to_builtins(fact),
        "children": [_node_json(child, log, story, names) for child in node.children],
    }
    if isinstance(fact, LeaderFilled):
        found["seen_after_ms"] = (fact.seen_ns - fact.ts_ns) // NS_PER_MS
    if isinstance(fact, TargetSet):
        found["arithmetic"] = steps_json(fact)
    if isinstance(fact, OrderApproved | OrderRefused):
        found["rules"] = verdicts_json(fact.verdicts)
    return found
