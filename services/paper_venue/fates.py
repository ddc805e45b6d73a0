"""What the rules in force do to a frame, a connection, a request: decided here, done elsewhere."""

from typing import Final

import msgspec

from services.paper_venue.kinds import Kind
from services.paper_venue.rules import Armed, Place, Rules
from services.paper_venue.state import Trade, Trouble
from services.paper_venue.wire import Json, encode
from shared.domain.units import NS_PER_MS

MOMENTARY: Final[tuple[Kind, ...]] = ("close", "close_1013", "half_open")
INSTEAD: Final[tuple[Kind, ...]] = (
    "drop_before",
    "hang_before",
    "server_error",
    "rate_limited",
    "too_early",
    "empty",
    "wrong_type",
)
AFTERWARDS: Final[tuple[Kind, ...]] = (
    "drop_after",
    "hang_after",
    "delayed_answer",
    "broken_json",
)


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one frame on one connection."""

    lost: bool = False
    without: tuple[str, ...] = ()  # frozen tokens and wallets, to be left out
    garbage: bool = False
    cut: bool = False
    twice: bool = False
    delay_ns: int = 0
    in_order: bool = True
    later: int = 0  # held until so many later frames went
    hold_ns: int = 0  # or so long


PLAIN: Final = Fate()
LOST: Final = Fate(lost=True)


def fate_of(rules: Rules, place: Place, now_ns: int, frame: int | None = None) -> Fate:
    """Return what becomes of a frame; what is lost spends no other rule."""
    if rules.quiet(frame):
        return PLAIN
    if rules.struck("silent", place, now_ns):
        return LOST
    without = frozen(rules, place, now_ns)
    if (without and set(without) >= set(place.tokens)) or set(without) & set(place.wallets):
        return LOST
    if rules.fire("drop", place, now_ns, frame):
        return LOST
    delay = rules.fire("delay", place, now_ns, frame)
    reorder = None if delay else rules.fire("reorder", place, now_ns, frame)
    return Fate(
        without=without,
        garbage=rules.fire("garbage", place, now_ns, frame) is not None,
        cut=rules.fire("truncated_frame", place, now_ns, frame) is not None,
        twice=rules.fire("twice", place, now_ns, frame) is not None,
        delay_ns=delay.delay_ns if delay else 0,
        in_order=delay.rule.keep_order if delay else True,
        later=reorder.random.randint(1, reorder.rule.n) if reorder else 0,
        hold_ns=reorder.delay_ns if reorder else 0,
    )


def frozen(rules: Rules, place: Place, now_ns: int) -> tuple[str, ...]:
    """Return what of a frame's tokens and wallets is frozen on its connection.

    A rule that names nothing freezes what the first frame it strikes is about.
    """
    found = []
    for armed in rules.live("freeze", now_ns):
        if not matches_freely(armed, place):
            continue
        rule, connection = armed.rule, place.connection
        default = (place.wallets if place.socket == "stream" else place.tokens)[:1]
        named = rule.token or rule.wallet.lower()
        subject = armed.frozen.get(connection) or named or "".join(default)
        if subject in (*place.tokens, *place.wallets) and rules.strikes(armed, place, now_ns):
            armed.frozen[connection] = subject
            found.append(subject)
    return tuple(found)


def matches_freely(armed: Armed, place: Place) -> bool:
    rule = armed.rule
    return rule.socket in ("all", place.socket) and rule.connection in (None, place.connection)


def rescue(rules: Rules, place: Place, now_ns: int) -> None:
    """Let a fresh subscription of an asset wake it, as it sometimes does in production."""
    for armed in rules.live("freeze", now_ns):
        asleep = armed.frozen.get(place.connection)
        if asleep in place.tokens and armed.met.get(place.connection):
            armed.met[place.connection] = armed.random.randrange(10_000) >= armed.rule.rescue_bps


def strikes(rules: Rules, places: list[Place], now_ns: int) -> list[tuple[int, Kind]]:
    """Return the connections that end now, and how; each has one chance with each rule."""
    found: list[tuple[int, Kind]] = []
    for kind in MOMENTARY:
        for armed in rules.live(kind, now_ns):
            for place in places:
                fresh = place.connection not in armed.met
                meant = fresh and matches_freely(armed, place) and not armed.over
                if meant and rules.strikes(armed, place, now_ns):
                    found.append((place.connection, kind))
            if armed.rule.for_s is None:
                rules.finish(armed)
    return found


def trouble(rules: Rules, trade: Trade) -> Trouble | None:
    """Return what goes wrong with the settlement of a trade that matched just now."""
    if rules.idle:
        return None
    place = Place(
        tokens=(trade.token, *(leg.token for leg in trade.legs)),
        wallets=(trade.taker, *(leg.wallet for leg in trade.legs)),
    )
    kinds: tuple[Kind, ...] = ("fail_settlement", "retry_settlement")
    for kind in kinds:
        armed = rules.fire(kind, place, trade.match_ns)
        if armed is not None:
            return Trouble(armed.delay_ns if kind == "retry_settlement" else None)
    return None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer given instead of the true one."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
    content_type: str = "application/json"


_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr></body></html>"
)


def answer_of(armed: Armed, now_ns: int) -> Answer:
    """Return what a rule of a kind in INSTEAD answers; the connection's ends are not answers."""
    rule = armed.rule
    headers = {}
    if rule.retry_after_s is not None:
        headers["Retry-After"] = str(rule.retry_after_s)
    match rule.kind:
        case "empty":
            return Answer(status=200, body=b"", content_type="text/html")
        case "wrong_type":
            return Answer(status=200, body=_HTML, content_type="text/html")
        case "rate_limited":
            if rule.signer:
                reset_s = now_ns // (1_000 * NS_PER_MS) + (rule.retry_after_s or 1)
                headers["Poly-RateLimit-Remaining"] = "0"
                headers["Poly-RateLimit-Reset"] = str(reset_s)
                headers["Poly-RateLimit-Tier"] = "Standard"
            return Answer(status=429, body=_error("rate limit exceeded"), headers=headers)
        case "too_early":
            return Answer(status=425, body=_error("too early"), headers=headers)
        case _:
            body = _error("internal server error") if rule.body is None else encode(rule.body)
            return Answer(status=rule.status, body=body)


def _error(text: str) -> bytes:
    return encode({"error": text})


def shortened(body: bytes, rows: int) -> bytes | None:
    """Return a page without its last rows that claims to be the last; None: it has no rows."""
    try:
        page = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        data = msgspec.json.decode(page.get("data", b"null"), type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return None
    if not data:
        return None
    kept: Json = {**page, "data": data[:-rows]}
    if "pagination" in page:
        pagination = msgspec.json.decode(page["pagination"], type=dict[str, msgspec.Raw])
        kept["pagination"] = {**pagination, "has_more": False, "next_cursor": None}
    else:
        kept.update(count=len(data[:-rows]), next_cursor="LTE=")
    return encode(kept)


def stripped(text: str, without: tuple[str, ...]) -> str | None:
    """Return a market frame without what it says about some tokens; None: nothing is left."""
    frame = msgspec.json.decode(text, type=list[dict[str, msgspec.Raw]] | dict[str, msgspec.Raw])
    if isinstance(frame, list):
        books = [book for book in frame if not _is_about(book, without)]
        return encode(books).decode() if books else None
    if "price_changes" not in frame:
        return None if _is_about(frame, without) else text
    entries = msgspec.json.decode(frame["price_changes"], type=list[dict[str, msgspec.Raw]])
    kept = [entry for entry in entries if not _is_about(entry, without)]
    return encode({**frame, "price_changes": kept}).decode() if kept else None


def _is_about(part: dict[str, msgspec.Raw], tokens: tuple[str, ...]) -> bool:
    return "asset_id" in part and msgspec.json.decode(part["asset_id"]) in tokens
