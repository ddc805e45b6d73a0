"""One decision's story: from any id in it back to the leader's fills and forward to ours. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from shared.domain.messages import (
    Fact,
    FillCounted,
    IntentFormed,
    LeaderCorrected,
    LeaderFilled,
    OrderFilled,
    OrderPrepared,
    PositionCorrected,
    RedemptionEnded,
    WindowNetted,
)

PREFIX_MIN: Final = 6  # characters of an id that may stand for all of it
_DEPTH_MAX: Final = 200
Kind = Literal["order", "trade", "transaction", "fact"]


class Told(msgspec.Struct, frozen=True):
    """A fact and where it stands in the ledger."""

    seq: int
    fact: Fact


class Node(msgspec.Struct, frozen=True):
    told: Told
    children: tuple["Node", ...] = ()


class Match(msgspec.Struct, frozen=True):
    """What an id named: the fact that stands for it."""

    kind: Kind
    name: str  # the whole id
    told: Told


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """``trunk`` is an intent with all that followed, or the top of a chain that has none."""

    fills: tuple[Told, ...]  # the leader's fills the intent stands on
    trunk: Node
    corrections: tuple[Node, ...]  # of the same tokens, later
    start_ns: int  # times are told from here: the leader's first fill

    @property
    def key(self) -> str:
        return self.trunk.told.fact.id


class Log:
    """The ledger's facts, indexed as a story is told: by id, by cause, by fill."""

    def __init__(self, facts: Iterable[Told]) -> None:
        self.facts = list(facts)
        self._by_id = {told.fact.id: told for told in self.facts}
        self._followers: dict[str, list[Told]] = defaultdict(list)
        self._windows: dict[str, Told] = {}
        self._prepared: dict[str, Told] = {}
        for told in self.facts:
            fact = told.fact
            if fact.cause:
                self._followers[fact.cause].append(told)
            if isinstance(fact, IntentFormed | WindowNetted):
                self._windows.update(dict.fromkeys(fact.fills, told))
            if isinstance(fact, OrderPrepared):
                self._prepared[fact.order] = told

    def prepared(self, order: str) -> OrderPrepared | None:
        """Return the order as it was prepared."""
        told = self._prepared.get(order)
        return told.fact if told and isinstance(told.fact, OrderPrepared) else None

    def find(self, text: str) -> list[Match]:
        """Return what an id or a prefix of one names; a whole id wins over prefixes."""
        wanted = text.strip().lower()
        found: dict[tuple[str, str], Match] = {}
        exact: dict[tuple[str, str], Match] = {}
        for told in self.facts:
            for kind, name in _names(told.fact):
                bare = name.lower().removeprefix("0x")
                if bare.startswith(wanted.removeprefix("0x")):
                    match = Match(kind, name, self._anchor(kind, told))
                    found.setdefault((kind, name), match)
                    if bare == wanted.removeprefix("0x"):
                        exact.setdefault((kind, name), match)
        return list((exact or found).values())

    def _anchor(self, kind: Kind, told: Told) -> Told:
        if kind == "order":
            return self._prepared.get(getattr(told.fact, "order", ""), told)
        return told

    def story(self, told: Told) -> Story:
        """Return the whole story that a fact is part of."""
        top = self._top(told)
        if isinstance(top.fact, LeaderFilled | LeaderCorrected | FillCounted):
            fill = top.fact.cause if isinstance(top.fact, FillCounted) else top.fact.id
            top = self._windows.get(fill, top)
        return self._told(top)

    def _top(self, told: Told) -> Told:
        at = told
        for _ in range(_DEPTH_MAX):
            if isinstance(at.fact, IntentFormed | WindowNetted):
                return at
            above = self._by_id.get(at.fact.cause)
            if above is None:
                return at
            at = above
        return at

    def _told(self, top: Told) -> Story:
        trunk = self._node(top, 0)
        fills: tuple[Told, ...] = ()
        if isinstance(top.fact, IntentFormed | WindowNetted):
            fills = tuple(self._by_id[id_] for id_ in top.fact.fills if id_ in self._by_id)
        first = fills[0].fact.ts_ns if fills else top.fact.ts_ns
        return Story(
            fills=fills,
            trunk=trunk,
            corrections=self._corrections(trunk),
            start_ns=min([first, *(fill.fact.ts_ns for fill in fills)]),
        )

    def _node(self, told: Told, depth: int) -> Node:
        if depth >= _DEPTH_MAX:
            return Node(told)
        followers = self._followers.get(told.fact.id, ())
        return Node(told, tuple(self._node(each, depth + 1) for each in followers))

    def _corrections(self, trunk: Node) -> tuple[Node, ...]:
        """Return corrections of the tokens that the story's orders traded, after them."""
        facts = list(walk(trunk))
        known = {told.fact.id for told in facts}
        traded: dict[str, int] = {}
        for told in facts:
            if isinstance(told.fact, OrderPrepared):
                traded.setdefault(told.fact.token, told.seq)
        return tuple(
            self._node(told, 0)
            for told in self.facts
            if isinstance(told.fact, PositionCorrected)
            and told.fact.id not in known
            and told.seq > traded.get(told.fact.token, told.seq)
        )


def walk(node: Node) -> Iterable[Told]:
    """Yield a tree's facts, parents first."""
    yield node.told
    for child in node.children:
        yield from walk(child)


def _names(fact: Fact) -> list[tuple[Kind, str]]:
    """Return every id by which a person may ask for a fact."""
    names: list[tuple[Kind, str]] = [("fact", fact.id)]
    if isinstance(fact, LeaderFilled | RedemptionEnded) and fact.tx:
        names.append(("transaction", fact.tx))
    if isinstance(fact, OrderFilled):
        names.append(("trade", fact.trade))
    order = getattr(fact, "order", None)
    if isinstance(order, str):
        names.append(("order", order))
    return names
