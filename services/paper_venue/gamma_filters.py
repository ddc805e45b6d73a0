"""What a question to Gamma asks for: filters, order and bounds (protocol.md 7.1)."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final

from aiohttp import web

from services.paper_venue.gamma_rows import depth_usd, is_closed, tag_number
from services.paper_venue.http import shell_of
from services.paper_venue.public import event_number
from services.paper_venue.state import Listing
from shared.domain.ids import condition_id
from shared.domain.units import NS_PER_S, format_micro, parse_micro

LIMIT: Final = 100
LIMIT_MAX: Final = 100  # more is clamped, whatever the documents say
Event = list[Listing]  # the markets of one event, never empty
# By what a list can be ordered; the plain names of amounts are text columns and sort as text.
_ORDERS: Final[dict[str, Callable[[Listing], Any]]] = {
    "id": lambda listing: listing.number,
    "volume": lambda listing: format_micro(listing.volume),
    "volumeNum": lambda listing: listing.volume,
    "liquidity": depth_usd,
    "liquidityNum": depth_usd,
    "startDate": lambda listing: listing.opened_ns,
    "createdAt": lambda listing: listing.opened_ns,
    "updatedAt": lambda listing: listing.changed_ns,
    "endDate": lambda listing: listing.market.end_ns,
    "slug": lambda listing: listing.market.slug,
}
_AMOUNTS: Final[dict[str, Callable[[Listing], int]]] = {
    "volume": lambda listing: listing.volume,
    "volume_num": lambda listing: listing.volume,
    "liquidity": depth_usd,
    "liquidity_num": depth_usd,
    "end_date": lambda listing: listing.market.end_ns,
    "start_date": lambda listing: listing.opened_ns,
}


class GammaError(Exception):
    """A question that Gamma refuses."""


class Filters:
    """The filters of one request, read once; an empty set asks for everything."""

    def __init__(self, request: web.Request) -> None:
        shell = shell_of(request)
        self._query = request.query
        self._now_ns = shell.now_ns()
        self._close_delay_s = shell.venue.config.gamma_close_delay_s
        self._listings = list(shell.venue.listings.values())
        self._ids, self._slugs = self.many("id"), self.many("slug")
        self._conditions = {_condition(text) for text in self.many("condition_ids")}
        self._questions = self.many("question_ids")
        self._tokens, self._positions = self.many("clob_token_ids"), self.many("position_ids")
        self._versions = self.many("version")
        self._tags = self.many("tag_id")
        self._bounds = [bound for name in _AMOUNTS for bound in self._bounds_of(name)]

    def ordered(self) -> list[Listing]:
        """Return every market in the order that is asked for; equals as they were opened."""
        listings = list(self._listings)
        descending = self._query.get("ascending", "true").lower() == "false"
        for field in reversed(self._query.get("order", "").split(",")):
            if field.strip() and field.strip() not in _ORDERS:
                raise GammaError("order fields are not valid")
            if field.strip():
                listings.sort(key=_ORDERS[field.strip()], reverse=descending)
        return listings

    def market(self, listing: Listing) -> bool:
        """Tell whether a market is asked for."""
        market = listing.market
        tokens = set(market.tokens)
        v2 = market.protocol == "v2"
        return (
            (not self._ids or str(listing.number) in self._ids)
            and (not self._slugs or market.slug in self._slugs)
            and (not self._conditions or market.condition in self._conditions)
            and (not self._questions or market.condition in self._questions)
            and (not self._tokens or (not v2 and not tokens.isdisjoint(self._tokens)))
            and (not self._positions or (v2 and not tokens.isdisjoint(self._positions)))
            and self._says("closed", value=self._closed(listing))
            and self._passes(listing)
        )

    def event(self, event: Event) -> bool:
        """Tell whether an event is asked for: by itself, and with a market that passes."""
        closed = all(self._closed(listing) for listing in event)
        return (
            (not self._ids or str(event_number(event[0].market)) in self._ids)
            and (not self._slugs or event_slug(event[0]) in self._slugs)
            and self._says("closed", value=closed)
            and any(self._passes(listing) for listing in event)
        )

    def many(self, name: str) -> set[str]:
        """Return a parameter's values, repeated or comma-joined."""
        texts = self._query.getall(name, [])
        return {item.strip() for text in texts for item in text.split(",") if item.strip()}

    def limit(self) -> int:
        return max(1, min(self.whole("limit", LIMIT), LIMIT_MAX))

    def whole(self, name: str, default: int) -> int:
        try:
            return max(0, int(self._query.get(name, default)))
        except ValueError:
            raise GammaError(f"{name} is not a whole number") from None

    def _passes(self, listing: Listing) -> bool:
        """Apply the filters that markets and events share."""
        market = listing.market
        state = "active" if listing.payouts is None else "resolved"
        return (
            self._says("active", value=True)
            and self._says("archived", value=False)
            and (not self._versions or market.protocol in self._versions)
            and (not self._tags or any(str(tag_number(tag)) in self._tags for tag in market.tags))
            and self._query.get("resolution_status", state) == state
            and all(allows(listing) for allows in self._bounds)
        )

    def _closed(self, listing: Listing) -> bool:
        return is_closed(listing, self._now_ns, self._close_delay_s)

    def _says(self, name: str, *, value: bool) -> bool:
        """Tell whether a flag asks for this value, or for none."""
        text = str(value).lower()
        return self._query.get(name, text).lower() == text

    def _bounds_of(self, name: str) -> Iterator[Callable[[Listing], bool]]:
        read = _moment_ns if name.endswith("date") else _micro
        for end, sign in (("min", 1), ("max", -1)):
            text = self._query.get(f"{name}_{end}")
            if text:
                yield partial(_reaches, _AMOUNTS[name], sign, sign * read(text))


def _reaches(amount: Callable[[Listing], int], sign: int, bound: int, listing: Listing) -> bool:
    return sign * amount(listing) >= bound


def grouped(listings: list[Listing]) -> list[Event]:
    """Gather the markets of each event, in the order of their first."""
    events: dict[str, Event] = {}
    for listing in listings:
        events.setdefault(event_slug(listing), []).append(listing)
    return list(events.values())


def event_slug(listing: Listing) -> str:
    return listing.market.event or listing.market.slug


def _condition(text: str) -> str:
    try:
        return condition_id(text)
    except ValueError as error:
        raise GammaError(str(error)) from None


def _micro(text: str) -> int:
    try:
        return parse_micro(text)
    except ValueError as error:
        raise GammaError(str(error)) from None


def _moment_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise GammaError(f"not a date: {text[:40]!r}") from None
    return int(moment.timestamp()) * NS_PER_S
