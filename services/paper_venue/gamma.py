"""Gamma over HTTP: markets and events, by cursor and by offset, search, tags (protocol.md 7)."""

import base64
import binascii
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from services.paper_venue.gamma_filters import Event, Filters, GammaError, event_slug, grouped
from services.paper_venue.gamma_rows import gamma_event, gamma_market, tag
from services.paper_venue.http import answer, shell_of
from services.paper_venue.public import event_number
from services.paper_venue.rest import clob_markets_page
from services.paper_venue.state import Listing
from services.paper_venue.wire import Json

routes = web.RouteTableDef()
SEARCH_MAX: Final = 50  # events of one page
Handler = Callable[[web.Request], web.Response]
_Item = TypeVar("_Item")


class _Cursor(msgspec.Struct, frozen=True):
    after: int  # the number of the last item of the page before


def _get(path: str) -> Callable[[Handler], Handler]:
    """Route a public read; what it refuses becomes Gamma's error body."""

    def register(handler: Handler) -> Handler:
        @routes.get(path)
        async def handle(request: web.Request) -> web.Response:
            try:
                return handler(request)
            except GammaError as error:
                return answer({"type": "validation error", "error": str(error)}, 422)

        return handler

    return register


@_get("/markets")
def get_markets(request: web.Request) -> web.Response:
    """Serve Gamma's list; the CLOB's, on the same path, is the one with ``next_cursor``."""
    if "next_cursor" in request.query:
        return clob_markets_page(request)
    filters = Filters(request)
    found = [listing for listing in filters.ordered() if filters.market(listing)]
    start = filters.whole("offset", 0)
    return answer([_market(request, one) for one in found[start : start + filters.limit()]])


@_get("/markets/keyset")
def get_markets_keyset(request: web.Request) -> web.Response:
    filters = Filters(request)
    listings = _rest(request, filters.ordered(), _listing_number)
    found = [listing for listing in listings if filters.market(listing)]
    page = found[: filters.limit()]
    body: Json = {"markets": [_market(request, listing) for listing in page]}
    if len(found) > len(page):
        body["next_cursor"] = _write_cursor(_listing_number(page[-1]))
    return answer(body)


@_get(r"/markets/{id:\d+}")
def get_market(request: web.Request) -> web.Response:
    return _one_market(request, "id", lambda listing: str(listing.number))


@_get("/markets/slug/{slug}")
def get_market_by_slug(request: web.Request) -> web.Response:
    return _one_market(request, "slug", lambda listing: listing.market.slug)


@_get("/events")
def get_events(request: web.Request) -> web.Response:
    filters = Filters(request)
    found = [event for event in grouped(filters.ordered()) if filters.event(event)]
    start = filters.whole("offset", 0)
    return answer([_event(request, one) for one in found[start : start + filters.limit()]])


@_get("/events/keyset")
def get_events_keyset(request: web.Request) -> web.Response:
    filters = Filters(request)
    events = _rest(request, grouped(filters.ordered()), _event_number)
    found = [event for event in events if filters.event(event)]
    page = found[: filters.limit()]
    body: Json = {"events": [_event(request, event) for event in page]}
    if len(found) > len(page):
        body["next_cursor"] = _write_cursor(_event_number(page[-1]))
    return answer(body)


@_get(r"/events/{id:\d+}")
def get_event(request: web.Request) -> web.Response:
    return _one_event(request, "id", lambda event: str(_event_number(event)))


@_get("/events/slug/{slug}")
def get_event_by_slug(request: web.Request) -> web.Response:
    return _one_event(request, "slug", lambda event: event_slug(event[0]))


@_get("/public-search")
def get_search(request: web.Request) -> web.Response:
    """Find events by words of their question, slug or tags; there are no profiles to find."""
    filters = Filters(request)
    words = request.query.get("q", "").lower().split()
    if not words:
        raise GammaError("q is required")
    found = []
    for event in grouped(filters.ordered()):
        texts = [(one.market.question, one.market.slug, *one.market.tags) for one in event]
        said = " ".join(" ".join(text) for text in texts).lower()
        if all(word in said for word in words):
            found.append(event)
    size = max(1, min(filters.whole("limit_per_type", 10), SEARCH_MAX))
    start = (max(1, filters.whole("page", 1)) - 1) * size
    page = found[start : start + size]
    return answer(
        {
            "events": [_event(request, event) for event in page],
            "tags": [],
            "profiles": [],
            "pagination": {
                "hasMore": start + len(page) < len(found),
                "totalResults": len(found),
            },
        }
    )


@_get("/tags")
def get_tags(request: web.Request) -> web.Response:
    filters = Filters(request)
    slugs = list(dict.fromkeys(slug for one in filters.ordered() for slug in one.market.tags))
    start = filters.whole("offset", 0)
    return answer([tag(slug) for slug in slugs[start : start + filters.limit()]])


@_get("/sports")
@_get("/series")
@_get("/comments")
def get_nothing(request: web.Request) -> web.Response:
    """Answer for what this venue has none of."""
    return answer([])


def _market(request: web.Request, listing: Listing) -> Json:
    shell = shell_of(request)
    with_tags = request.query.get("include_tag", "").lower() == "true"
    delay_s = shell.venue.config.gamma_close_delay_s
    return gamma_market(listing, shell.now_ns(), delay_s, with_tags=with_tags)


def _event(request: web.Request, event: Event) -> Json:
    shell = shell_of(request)
    return gamma_event(event, shell.now_ns(), shell.venue.config.gamma_close_delay_s)


def _one_market(
    request: web.Request, name: str, value_of: Callable[[Listing], str]
) -> web.Response:
    for listing in shell_of(request).venue.listings.values():
        if value_of(listing) == request.match_info[name]:
            return answer(_market(request, listing))
    return _not_found(name)


def _one_event(request: web.Request, name: str, value_of: Callable[[Event], str]) -> web.Response:
    for event in grouped(list(shell_of(request).venue.listings.values())):
        if value_of(event) == request.match_info[name]:
            return answer(_event(request, event))
    return _not_found(name)


def _not_found(what: str) -> web.Response:
    return answer({"type": "not found error", "error": f"{what} not found"}, 404)


def _listing_number(listing: Listing) -> int:
    return listing.number


def _event_number(event: Event) -> int:
    return event_number(event[0].market)


def _rest(
    request: web.Request, items: list[_Item], number_of: Callable[[_Item], int]
) -> list[_Item]:
    """Return what follows the item that ``after_cursor`` names: all where it names none."""
    text = request.query.get("after_cursor", "")
    if not text:
        return items
    try:
        padded = text + "=" * (-len(text) % 4)
        cursor = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Cursor)
        place = [number_of(item) for item in items].index(cursor.after)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise GammaError("invalid cursor") from None
    return items[place + 1 :]


def _write_cursor(number: int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_Cursor(number))).decode().rstrip("=")
