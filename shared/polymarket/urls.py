"""Where the venue's services are: production, or one local port."""

from typing import Final

import msgspec

MARKET_PATH: Final = "/ws/market"
USER_PATH: Final = "/ws/user"
ACTIVITY_PATH: Final = "/rtds"
GEOBLOCK_PATH: Final = "/api/geoblock"


class VenueUrls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base URLs without a trailing slash; the defaults are production (protocol.md 0.4)."""

    clob: str = "https://clob.polymarket.com"
    data: str = "https://data-api.polymarket.com"
    gamma: str = "https://gamma-api.polymarket.com"
    market_ws: str = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
    user_ws: str = "wss://ws-subscriptions-clob.polymarket.com/ws/user"
    activity_ws: str = "wss://ws-live-data.polymarket.com"
    geoblock: str = "https://polymarket.com/api/geoblock"  # the site's host, not the API's

    @classmethod
    def local(cls, base_url: str) -> "VenueUrls":
        """Return the URLs of a venue that serves everything on one port, as the local one does."""
        base = base_url.rstrip("/")
        scheme, separator, host = base.partition("://")
        if scheme not in {"http", "https"} or not separator or not host:
            raise ValueError(f"not an http base url: {base_url[:80]!r}")
        socket = f"{'wss' if scheme == 'https' else 'ws'}://{host}"
        return cls(
            clob=base,
            data=base,
            gamma=base,
            market_ws=socket + MARKET_PATH,
            user_ws=socket + USER_PATH,
            activity_ws=socket + ACTIVITY_PATH,
            geoblock=base + GEOBLOCK_PATH,
        )


PRODUCTION: Final = VenueUrls()
