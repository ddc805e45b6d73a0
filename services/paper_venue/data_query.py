"""How the Data API is asked and answers: parameters, cursors, pages, errors (protocol.md 6.1)."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final, Literal

import msgspec
from aiohttp import web

from services.paper_venue.http import answer, shell_of
from services.paper_venue.public import event_number
from services.paper_venue.state import Venue
from services.paper_venue.wire import Json
from shared.domain.ids import Wallet, condition_id, wallet
from shared.domain.units import parse_micro

routes = web.RouteTableDef()
LIMIT: Final = 100
LIMIT_MAX: Final = 1_000
CONDITIONS_MAX: Final = 20
EVENT_ID_MAX: Final = (1 << 31) - 1
_HUMP: Final = re.compile(r"(?<=[a-z0-9])[A-Z]")
_PAGING: Final = ("cursor", "limit")
Direction = Literal["ASC", "DESC"]
Handler = Callable[[web.Request], web.Response]


class BadQueryError(Exception):
    """A parameter that is refused; it says which."""

    def __init__(self, text: str, parameter: str) -> None:
        super().__init__(text)
        self.text, self.parameter = text, parameter


class _Place(msgspec.Struct, frozen=True):
    """Where a page ended; the names are production's."""

    l: int  # noqa: E741 - limit
    ts: int  # block time in seconds, or 0
    sq: str  # sequence, or how many rows were given


class _Signed(msgspec.Struct, frozen=True):
    type: str
    params: _Place


class _Cursor(msgspec.Struct, frozen=True):
    data: _Signed
    sig: str


class Query:
    """The parameters of one request, in snake_case whatever case they came in."""

    def __init__(self, request: web.Request, filters: Iterable[str] = ()) -> None:
        """Take a request; ``filters`` are the parameters that its cursors are bound to."""
        self._venue = shell_of(request).venue
        self._kind = request.path.rsplit("/", 1)[-1]
        self._filters = sorted(filters)
        self._given: dict[str, list[str]] = {}
        for name, value in request.query.items():
            snake = _HUMP.sub(lambda hump: "_" + hump[0].lower(), name)
            self._given.setdefault(snake, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str, default: str = "") -> str:
        return self._given.get(name, [default])[0]

    def many(self, name: str) -> list[str]:
        """Return a parameter's values, repeated or comma-joined."""
        texts = self._given.get(name, [])
        return [item.strip() for text in texts for item in text.split(",") if item.strip()]

    def whole(self, name: str, default: int) -> int:
        try:
            return int(self.text(name, str(default)))
        except ValueError:
            raise BadQueryError(f"{name} is not a whole number", name) from None

    def micro(self, name: str, default: str) -> int:
        try:
            return parse_micro(self.text(name, default))
        except ValueError as error:
            raise BadQueryError(str(error), name) from None

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name, str(default)).lower()
        if text not in ("true", "false"):
            raise BadQueryError(f"{name} is true or false", name)
        return text == "true"

    def choice(self, name: str, known: Iterable[str], default: str = "") -> str:
        """Return one of the known words, upper case; the default where nothing is given."""
        text = self.text(name).upper() or default
        if text and text != default and text not in known:
            raise BadQueryError(f"invalid {name}: {self.text(name)[:80]}", name)
        return text

    def wallet(self) -> Wallet | None:
        """Return ``user``; a list of wallets is no error, and names nobody."""
        text = self.text("user")
        if not text:
            return None
        if "," in text:
            return Wallet(text)
        try:
            return wallet(text)
        except ValueError as error:
            raise BadQueryError(str(error), "user") from None

    def needed_wallet(self) -> Wallet:
        user = self.wallet()
        if user is None:
            raise BadQueryError("user is required", "user")
        return user

    def conditions(self) -> set[str]:
        """Return the markets named by ``condition_id``; a structural id is padded."""
        named = self.many("condition_id")
        if len(set(named)) > CONDITIONS_MAX:
            raise BadQueryError(f"at most {CONDITIONS_MAX} condition_ids", "condition_id")
        try:
            return {condition_id(text) for text in named}
        except ValueError as error:
            raise BadQueryError(str(error), "condition_id") from None

    def events(self) -> set[int]:
        found = set()
        for text in self.many("event_id"):
            number = int(text) if text.isascii() and text.isdecimal() else 0
            if not 0 < number <= EVENT_ID_MAX:
                raise BadQueryError("event_id is a positive 32-bit integer", "event_id")
            found.add(number)
        return found

    def direction(self) -> Direction:
        return "ASC" if self.choice("sort_direction", ("ASC", "DESC"), "DESC") == "ASC" else "DESC"

    def limit(self, most: int = LIMIT_MAX) -> int:
        return max(1, min(self.whole("limit", LIMIT), most))

    def place(self) -> tuple[int, int] | None:
        """Return (block second, sequence) of the page before; None at the first page.

        Only a cursor that this venue wrote for the same question is taken.
        """
        if "offset" in self:
            raise BadQueryError("offset is not supported, use cursor", "offset")
        text = self.text("cursor")
        if not text:
            return None
        try:
            padded = text + "=" * (-len(text) % 4)
            cursor = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Cursor)
            place = cursor.data.params.ts, int(cursor.data.params.sq)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise BadQueryError("invalid cursor", "cursor") from None
        if cursor.data.type != self._kind or cursor.sig != self._signature(cursor.data):
            raise BadQueryError("cursor does not belong to these filters", "cursor")
        return place

    def cursor(self, block_s: int, sequence: int) -> str:
        """Write the opaque text that continues this question."""
        data = _Signed(self._kind, _Place(self.limit(), block_s, str(sequence)))
        sealed = msgspec.json.encode(_Cursor(data, self._signature(data)))
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def _signature(self, data: _Signed) -> str:
        bound = [(name, sorted(self.many(name))) for name in self._filters if name in self]
        key = str(self._venue.config.seed).encode()
        return blake2b(msgspec.json.encode((data, bound)), key=key, digest_size=16).hexdigest()


def get(path: str) -> Callable[[Handler], Handler]:
    """Route a public read; what it refuses becomes the Data API's error body."""

    def register(handler: Handler) -> Handler:
        @routes.get(path)
        async def handle(request: web.Request) -> web.Response:
            try:
                return handler(request)
            except BadQueryError as error:
                return refused(request, error.text, error.parameter)

        return handler

    return register


def refused(request: web.Request, text: str, parameter: str, status: int = 400) -> web.Response:
    """Return an error in the Data API's shape, its trace in the body and in the header."""
    seed = f"{request.rel_url}/{shell_of(request).now_ns()}".encode()
    trace = blake2b(seed, digest_size=16).hexdigest()
    body = {
        "error": text,
        "code": "invalid_request" if status == 400 else "gone",
        "parameter": parameter,
        "retryable": False,
        "trace_id": trace,
    }
    response = answer(body, status)
    response.headers["x-trace-id"] = trace
    return response


def envelope(data: list[Json], limit: int, next_cursor: str | None) -> Json:
    return {
        "data": data,
        "pagination": {
            "limit": limit,
            "offset": 0,
            "has_more": next_cursor is not None,
            "next_cursor": next_cursor,
        },
    }


def page_of(query: Query, found: list[Json], most: int = LIMIT_MAX) -> web.Response:
    """Answer with one page of a list that is made anew for every request."""
    limit, place = query.limit(most), query.place()
    start = place[1] if place else 0
    end = start + limit
    next_cursor = query.cursor(0, end) if end < len(found) else None
    return answer(envelope(found[start:end], limit, next_cursor))


def conditions_of(venue: Venue, query: Query) -> set[str] | None:
    """Return the markets that ``condition_id`` or ``event_id`` name; None: all of them."""
    conditions, events = query.conditions(), query.events()
    if conditions and events:
        raise BadQueryError("condition_id and event_id exclude each other", "event_id")
    if events:
        return {
            condition
            for condition, listing in venue.listings.items()
            if event_number(listing.market) in events
        }
    return conditions or None
