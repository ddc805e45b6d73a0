"""Rules of what goes wrong: where, how often, from when and for how long. Pure: time comes in.

A frame, a connection, a request or an order is a *chance* at a `Place`. A rule takes a share of
the chances at its place, drawn with its own seed, until it has fired ``count`` times or its time
is over. The same rules and the same chances make the same firings.
"""

import heapq
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from random import Random
from typing import Annotated, Final, Literal

import msgspec

from services.paper_venue.kinds import KINDS, PARAMETERS, Kind, SocketKind
from shared.domain.units import NS_PER_MS

ALL_BPS: Final = 10_000
MS_MAX: Final = 3_600_000  # an hour
RULES_MAX: Final = 50_000  # waiting and in force
ENDED_KEPT: Final = 1_000  # rules that are over and still listed
FIRINGS_KEPT: Final = 10_000

Bps = Annotated[int, msgspec.Meta(ge=0, le=ALL_BPS)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class RuleError(ValueError):
    """A rule that cannot be: it says which field, and what to do."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault; `kinds.PARAMETERS` says what each field means. Made by `read_rule`."""

    kind: Kind
    name: str = ""
    share_bps: Annotated[int, msgspec.Meta(ge=1, le=ALL_BPS)] = ALL_BPS
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    after_s: Seconds = 0
    for_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    seed: int | None = None

    socket: Literal["market", "user", "stream", "all"] = "all"
    connection: int | None = None
    token: str = ""
    wallet: str = ""
    together: bool = False
    type: Literal["", "trades", "orders_matched"] = ""
    path: Annotated[str, msgspec.Meta(pattern=r"^[/*?\[]")] = "*"
    method: Literal["", "GET", "POST", "DELETE"] = ""
    query: str = ""

    ms: Annotated[int, msgspec.Meta(ge=0, le=MS_MAX)] = 0
    n: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    keep_order: bool = True
    status: Annotated[int, msgspec.Meta(ge=0, le=599)] = 0
    body: object = None
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] | None = None
    signer: bool = False
    age_s: Seconds | None = None
    tick: Annotated[str, msgspec.Meta(pattern=r"^(0\.\d+)?$")] = ""
    rescue_bps: Bps = 0


def read_rule(told: Mapping[str, object]) -> Rule:
    """Return the rule that was told, defaults of its kind filled in, or raise RuleError."""
    kind = told.get("kind")
    info = KINDS.get(kind) if isinstance(kind, str) else None
    if info is None:
        raise RuleError(
            f"`kind` is {kind!r}{_meant(str(kind), KINDS)}: see GET /admin/faults/kinds"
        )
    for name in told:
        if name not in info.names:
            takes = ", ".join(sorted(info.names))
            raise RuleError(f"{kind} takes no `{name}`{_meant(name, info.names)}: it takes {takes}")
    try:
        rule = msgspec.convert({**info.told, **told}, Rule)
    except msgspec.ValidationError as error:
        named = re.search(r"\$\.(\w+)", str(error))
        words = f" ({named[1]}: {PARAMETERS[named[1]]})" if named else ""
        raise RuleError(f"{kind}: {error}{words}") from error
    if kind in ("reject", "server_error") and rule.status < 400:
        raise RuleError(f"{kind}: `status` is {rule.status}: an error is 400 to 599")
    return rule


def _meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}" if close else ""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chance is: a connection and what a frame is about, or a request."""

    socket: SocketKind | None = None
    connection: int = 0
    tokens: tuple[str, ...] = ()
    wallets: tuple[str, ...] = ()
    type: str = ""  # of an activity frame
    method: str = ""
    path: str = ""
    query: str = ""

    @property
    def words(self) -> str:
        if self.path:
            return f"{self.method} {self.path}" + (f"?{self.query}" if self.query else "")
        subject = " ".join((*self.tokens[:1], *self.wallets[:1]))
        return f"{self.socket} #{self.connection} {subject}".rstrip() if self.socket else subject


def matches(rule: Rule, place: Place) -> bool:
    """Tell whether a rule is about a place."""
    return (
        rule.socket in ("all", place.socket)
        and rule.connection in (None, place.connection)
        and (not rule.token or rule.token in place.tokens)
        and (not rule.wallet or rule.wallet.lower() in place.wallets)
        and rule.type in ("", place.type)
        and rule.method in ("", place.method)
        and (rule.path == "*" or _path_matches(rule.path, place.path))
        and rule.query.lower() in place.query.lower()
    )


def _path_matches(pattern: str, path: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(path, pattern)
    return path == pattern or path.startswith(pattern.rstrip("/") + "/")


class Armed(msgspec.Struct, kw_only=True):
    """A rule with what it has done."""

    id: int
    rule: Rule
    from_ns: int
    until_ns: int | None
    random: Random
    fired: int = 0
    over: bool = False
    met: dict[int, bool] = msgspec.field(default_factory=dict)  # connection → was it struck
    frozen: dict[int, str] = msgspec.field(default_factory=dict)  # connection → token or wallet

    @property
    def delay_ns(self) -> int:
        return self.rule.ms * NS_PER_MS


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    at_ns: int
    rule: int
    kind: Kind
    where: str


class Rules:
    """The rules there are, those in force, and what fired."""

    def __init__(self, seed: int = 1) -> None:
        self._seed = seed
        self._count = 0
        self._armed: dict[int, Armed] = {}
        self._waiting: list[tuple[int, int]] = []  # heap of (from when, id)
        self._ending: list[tuple[int, int]] = []  # heap of (until when, id)
        self._live: dict[Kind, list[Armed]] = {}
        self._over: deque[int] = deque()
        self._standing: Counter[Kind] = Counter()
        self._frame: int | None = None
        self._shared: dict[int, bool] = {}  # the frame's draws for all its sockets
        self.firings: deque[Firing] = deque(maxlen=FIRINGS_KEPT)
        self.fired = 0  # since the start, also those no longer kept

    @property
    def idle(self) -> bool:
        """Tell that nothing is waiting or in force."""
        return not self._waiting and not self._live

    def quiet(self, frame: int | None = None) -> bool:
        """Tell that a frame meets no rule, not even a draw made for it on another socket."""
        return self.idle and (frame is None or frame != self._frame)

    def add(self, rules: Iterable[Rule], now_ns: int) -> list[int]:
        """Take rules and return their ids; those of a known name replace it."""
        fresh = list(rules)
        standing = len(self._armed) - len(self._over)
        if standing + len(fresh) > RULES_MAX:
            raise RuleError(f"at most {RULES_MAX} rules stand at a time: delete some first")
        return [self._add(rule, now_ns) for rule in fresh]

    def _add(self, rule: Rule, now_ns: int) -> int:
        if rule.name:
            self.end(rule.name)
        self._count += 1
        seed = f"{self._seed}/{self._count}" if rule.seed is None else f"seed/{rule.seed}"
        from_ns = now_ns + _ns(rule.after_s)
        armed = Armed(
            id=self._count,
            rule=rule,
            from_ns=from_ns,
            until_ns=None if rule.for_s is None else from_ns + _ns(rule.for_s),
            random=Random(seed),
        )
        self._armed[armed.id] = armed
        self._standing[rule.kind] += 1
        heapq.heappush(self._waiting, (from_ns, armed.id))
        if armed.until_ns is not None:
            heapq.heappush(self._ending, (armed.until_ns, armed.id))
        return armed.id

    def remove(self, rule_id: int | None = None) -> int:
        """Forget one rule or all of them; returns how many."""
        if rule_id is None:
            gone = len(self._armed)
            for kept in (self._armed, self._live, self._standing):
                kept.clear()
            for queue in (self._waiting, self._ending, self._over):
                queue.clear()
            return gone
        armed = self._armed.pop(rule_id, None)
        if armed is None:
            return 0
        self.finish(armed)
        self._over.remove(rule_id)
        return 1

    def end(self, name: str) -> None:
        """End the rule of a name, where one stands."""
        for armed in list(self._armed.values()):
            if armed.rule.name == name and not armed.over:
                self.finish(armed)

    def named(self, name: str) -> Armed | None:
        for armed in self._armed.values():
            if armed.rule.name == name and not armed.over:
                return armed
        return None

    def listed(self) -> list[Armed]:
        return list(self._armed.values())

    def standing(self, kind: Kind) -> bool:
        """Tell whether a rule of a kind waits or is in force."""
        return self._standing[kind] > 0

    def next_ns(self) -> int | None:
        """Return when the next rule comes in force."""
        return self._waiting[0][0] if self._waiting else None

    def live(self, kind: Kind, now_ns: int) -> list[Armed]:
        """Return the rules of a kind in force now, oldest first."""
        self.advance(now_ns)
        return list(self._live.get(kind, ()))

    def advance(self, now_ns: int) -> None:
        """Put in force what begins, and end what ends."""
        while self._waiting and self._waiting[0][0] <= now_ns:
            armed = self._armed.get(heapq.heappop(self._waiting)[1])
            if armed is not None and not armed.over:
                self._live.setdefault(armed.rule.kind, []).append(armed)
        while self._ending and self._ending[0][0] <= now_ns:
            armed = self._armed.get(heapq.heappop(self._ending)[1])
            if armed is not None:
                self.finish(armed)

    def fire(self, kind: Kind, place: Place, now_ns: int, frame: int | None = None) -> Armed | None:
        """Give the rules of a kind this chance; returns the first that takes it.

        ``frame`` numbers what goes to many sockets: a rule ``together`` draws once for it.
        """
        if frame is None or frame != self._frame:
            self._frame, self._shared = frame, {}
        for number, struck in self._shared.items():
            known = self._armed.get(number)
            if struck and known and known.rule.kind == kind and matches(known.rule, place):
                return known
        for armed in self.live(kind, now_ns):
            if armed.id not in self._shared and matches(armed.rule, place):
                struck = self.draw(armed, place, now_ns)
                if armed.rule.together:
                    self._shared[armed.id] = struck
                if struck:
                    return armed
        return None

    def strikes(self, armed: Armed, place: Place, now_ns: int) -> bool:
        """Tell whether a rule has struck a connection, which has one chance with it."""
        if place.connection not in armed.met:
            armed.met[place.connection] = self.draw(armed, place, now_ns)
        return armed.met[place.connection]

    def struck(self, kind: Kind, place: Place, now_ns: int) -> bool:
        """Tell whether a rule of a kind in force has struck a connection."""
        return any(
            matches(armed.rule, place) and self.strikes(armed, place, now_ns)
            for armed in self.live(kind, now_ns)
        )

    def draw(self, armed: Armed, place: Place, now_ns: int) -> bool:
        """Let a rule take a chance or leave it; a taken one is counted and noted."""
        rule = armed.rule
        if rule.count is not None and armed.fired >= rule.count:
            return False
        if rule.share_bps < ALL_BPS and armed.random.randrange(ALL_BPS) >= rule.share_bps:
            return False
        armed.fired += 1
        self.fired += 1
        self.firings.append(Firing(at_ns=now_ns, rule=armed.id, kind=rule.kind, where=place.words))
        if rule.count == armed.fired and rule.kind not in ("silent", "freeze"):
            self.finish(armed)  # what lasts goes on for the connections it struck
        return True

    def leave(self, connection: int) -> None:
        """Forget a connection that is gone."""
        for armed in self._armed.values():
            armed.met.pop(connection, None)
            armed.frozen.pop(connection, None)

    def finish(self, armed: Armed) -> None:
        """End a rule; it stays listed for a while."""
        if armed.over:
            return
        armed.over = True
        kind = armed.rule.kind
        self._standing[kind] -= 1
        if armed in self._live.get(kind, ()):
            self._live[kind] = [each for each in self._live[kind] if each is not armed]
            if not self._live[kind]:
                del self._live[kind]
        self._over.append(armed.id)
        if len(self._over) > ENDED_KEPT:
            self._armed.pop(self._over.popleft(), None)


def _ns(seconds: float) -> int:
    return int(seconds * 1_000) * NS_PER_MS
