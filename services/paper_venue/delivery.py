"""Open sockets, and the way of a frame to them through the faults in force."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from services.paper_venue.config import VenueConfig
from services.paper_venue.fates import PLAIN, Fate, fate_of, strikes, stripped
from services.paper_venue.kinds import SocketKind
from services.paper_venue.rules import Place, Rules
from shared.domain.ids import Wallet
from shared.domain.units import NS_PER_S

QUEUE_MAX: Final = 50_000  # frames waiting for a slow reader; then it is cut, as in production
HELD_MAX: Final = 50_000  # frames held back on request on all sockets; then theirs is cut too
GARBAGE: Final[dict[SocketKind, str]] = {
    "stream": '{"topic":"activity","type":',
    "market": '[{"event_type":"book","asset_id":',
    "user": '{"event_type":"order","id":',
}


class Peer:
    """One open socket, its subscriptions, and the frames it has not taken yet."""

    def __init__(self, kind: SocketKind) -> None:
        self.kind = kind
        self.number = 0  # of the connection, from 1; given by `Delivery.join`
        self.opened_ns = 0
        self.abort: Callable[[], None] = lambda: None  # ends the connection without a goodbye
        self.tokens: set[str] = set()
        self.extras = False  # custom_feature_enabled
        self.address: Wallet | None = None
        self.owners: set[str] = set()
        self.named = False  # it said whose it is, and that was true
        self.markets: set[str] | None = None  # None: all of the account's
        self.stream_kinds: set[str] = set()
        self.ignored: set[str] = set()  # tokens taken without a word and never delivered
        self.queue: deque[str] = deque()
        self.ready = asyncio.Event()
        self.too_slow = False
        self.over = ""  # why the venue closes it; empty while it stands
        self.half_open = False  # the other side hears nothing any more
        self.sent = 0  # frames, PONG and other replies included
        self.held: list[Held] = []  # frames that wait for later ones
        self.pinged = True  # since the last activity frame; connecting counts
        self.pinged_ns = 0
        self.heard_ns = 0  # when it last said PING; connecting counts
        self.not_before_ns = 0  # later frames wait so long behind a delayed one

    def send(self, text: str) -> None:
        if self.half_open:
            return
        if len(self.queue) >= QUEUE_MAX:
            self.too_slow = True
        else:
            self.queue.append(text)
            self.sent += 1
        self.ready.set()

    def is_awake(self, now_ns: int, idle_s: int) -> bool:
        """Tell whether the activity stream still speaks to a socket: it falls asleep unpinged."""
        if self.pinged:
            self.pinged, self.pinged_ns = False, now_ns
        return now_ns - self.pinged_ns < idle_s * NS_PER_S

    def silent_from_ns(self, config: VenueConfig) -> int | None:
        """Return when it has been silent too long; None: never, or it is over anyway."""
        if self.kind == "stream" or self.half_open or self.over:
            return None
        due_ns = self.heard_ns + config.socket_idle_s * NS_PER_S
        if self.kind == "user" and not self.named:
            due_ns = min(due_ns, self.opened_ns + config.socket_auth_s * NS_PER_S)
        return due_ns

    def is_over(self) -> bool:
        return self.too_slow or bool(self.over)

    def end(self, why: str) -> None:
        self.over = why
        self.ready.set()

    def cut_as_slow(self) -> None:
        self.too_slow = True
        self.ready.set()

    def place(
        self, tokens: tuple[str, ...] = (), wallets: tuple[str, ...] = (), kind: str = ""
    ) -> Place:
        """Return this connection with what a frame is about, and its type on the stream."""
        return Place(
            socket=self.kind, connection=self.number, tokens=tokens, wallets=wallets, type=kind
        )


class Held(msgspec.Struct, kw_only=True, eq=False):
    """A frame that waits for its time, or for later frames of its connection."""

    peer: Peer
    build: Callable[[], str]  # nothing is sent where it returns nothing
    later: int = 0
    gone: bool = False


class SocketView(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as ``GET /admin/sockets`` lists it."""

    connection: int
    socket: SocketKind
    opened_ns: int
    tokens: list[str]
    ignored: list[str]  # tokens
    subscriptions: list[str]  # the stream's kinds, the user's markets
    sent: int
    waiting: int
    half_open: bool


class Delivery:
    """Sends frames to sockets, or does to them what the rules say."""

    def __init__(self, rules: Rules, now_ns: Callable[[], int], config: VenueConfig) -> None:
        self.rules = rules
        self.now_ns = now_ns
        self._config = config
        self._look_ns: int | None = None  # no socket has been silent too long before
        self.wake: Callable[[int], None] = lambda now_ns: None  # told when something was held
        self.peers: dict[int, Peer] = {}
        self._joined = 0
        self._frames = 0
        self._waiting: list[tuple[int, int, Held]] = []  # heap of (due, number, frame)

    def join(self, peer: Peer) -> None:
        self._joined += 1
        peer.number, peer.opened_ns = self._joined, self.now_ns()
        peer.heard_ns = peer.opened_ns
        self.peers[peer.number] = peer
        self._strike([peer])
        silent_ns = peer.silent_from_ns(self._config)
        if silent_ns is not None:
            self._look_ns = min(silent_ns, silent_ns if self._look_ns is None else self._look_ns)
            self.wake(self.now_ns())

    def leave(self, peer: Peer) -> None:
        del self.peers[peer.number]
        self.rules.leave(peer.number)

    def views(self) -> list[SocketView]:
        return [
            SocketView(
                connection=peer.number,
                socket=peer.kind,
                opened_ns=peer.opened_ns,
                tokens=sorted(peer.tokens),
                ignored=sorted(peer.ignored),
                subscriptions=sorted(peer.stream_kinds | (peer.markets or set())),
                sent=peer.sent,
                waiting=len(peer.queue),
                half_open=peer.half_open,
            )
            for peer in self.peers.values()
        ]

    def tell(
        self,
        peers: Iterable[Peer],
        text: str,
        tokens: tuple[str, ...] = (),
        wallets: tuple[str, ...] = (),
        *,
        kind: str = "",
    ) -> None:
        """Send one frame about tokens and wallets, of the stream's ``kind``, to some sockets."""
        self._frames += 1
        now_ns = self.now_ns()
        self._release_due(now_ns)
        for peer in peers:
            fate = PLAIN
            if not self.rules.quiet(self._frames):
                fate = fate_of(self.rules, peer.place(tokens, wallets, kind), now_ns, self._frames)
            if fate is PLAIN and not peer.held and peer.not_before_ns <= now_ns:
                peer.send(text)
            elif not fate.lost:
                self._pass(peer, text, fate, now_ns)

    def later(self, peer: Peer, build: Callable[[], str], due_ns: int, later: int = 0) -> None:
        """Send what ``build`` returns at a time, or once so many later frames went."""
        if len(self._waiting) >= HELD_MAX:
            peer.cut_as_slow()
            return
        held = Held(peer=peer, build=build, later=later)
        self._frames += 1
        heapq.heappush(self._waiting, (due_ns, self._frames, held))
        if later:
            peer.held.append(held)
        self.wake(self.now_ns())

    def tend(self, now_ns: int) -> None:
        """Send what is due, and end the connections that are to end."""
        self._release_due(now_ns)
        if self._look_ns is not None and self._look_ns <= now_ns:
            self._end_silent(now_ns)
        if not self.rules.idle:
            self._strike(list(self.peers.values()))

    def _release_due(self, now_ns: int) -> None:
        while self._waiting and self._waiting[0][0] <= now_ns:
            held = heapq.heappop(self._waiting)[2]
            if held in held.peer.held:
                held.peer.held.remove(held)
            self._release(held)

    def _end_silent(self, now_ns: int) -> None:
        """Close the sockets that were silent too long, and note when to look again."""
        waiting: list[int] = []
        for peer in self.peers.values():
            silent_ns = peer.silent_from_ns(self._config)
            if silent_ns is not None and silent_ns <= now_ns:
                peer.end("no PING" if peer.named or peer.kind == "market" else "not authenticated")
            elif silent_ns is not None:
                waiting.append(silent_ns)
        self._look_ns = min(waiting, default=None)

    def next_due_ns(self) -> int | None:
        """Return when `tend` has something to do next."""
        due = [self._waiting[0][0]] if self._waiting else []
        moments = (*due, self.rules.next_ns(), self._look_ns)
        return min((each for each in moments if each is not None), default=None)

    def _pass(self, peer: Peer, text: str, fate: Fate, now_ns: int) -> None:
        shown: str | None = text
        if fate.without:
            shown = stripped(text, fate.without)
        if shown is None:
            return
        if fate.cut:
            shown = shown[: len(shown) // 2]
        for each in (*([GARBAGE[peer.kind]] * fate.garbage), shown, *([shown] * fate.twice)):
            self._send(peer, each, fate, now_ns)

    def _send(self, peer: Peer, text: str, fate: Fate, now_ns: int) -> None:
        if fate.later:
            self.later(peer, lambda: text, now_ns + fate.hold_ns, fate.later)
            return
        due_ns = now_ns + fate.delay_ns
        if fate.in_order:
            due_ns = max(due_ns, peer.not_before_ns)
            if fate.delay_ns:
                peer.not_before_ns = due_ns
        if due_ns > now_ns:
            self.later(peer, lambda: text, due_ns)
            return
        peer.send(text)
        for held in list(peer.held):
            held.later -= 1
            if held.later == 0:
                peer.held.remove(held)
                self._release(held)

    def _release(self, held: Held) -> None:
        if held.gone or held.peer.number not in self.peers:
            return
        held.gone = True
        text = held.build()
        if text:
            held.peer.send(text)

    def _strike(self, peers: list[Peer]) -> None:
        for number, kind in strikes(self.rules, [peer.place() for peer in peers], self.now_ns()):
            peer = self.peers[number]
            if kind == "close":
                peer.abort()
            elif kind == "close_1013":
                peer.cut_as_slow()
            else:
                peer.half_open = True
                peer.queue.clear()
