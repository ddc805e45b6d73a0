"""The cache between the Data API and everybody else (protocol.md 6.1).

The same address with the same query gets the same answer until it is too old; what the request
says of caching is ignored, so only a query that varies reaches the index.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from aiohttp import web

from services.paper_venue.http import Handler, shell_of
from shared.domain.units import NS_PER_S

MAX_AGE_S: Final = {
    "/v2/trades": 300,
    "/v2/oi": 300,
    "/v2/activity": 15,
    "/v2/positions": 5,
}
ENTRIES_MAX: Final = 2_048
BYTES_MAX: Final = 32 << 20  # of all bodies kept; then the least recently asked for go


class Kept(NamedTuple):
    body: bytes
    content_type: str
    since_ns: int


class Cache:
    """Answers by path and query, the least recently asked for first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._size = 0

    def find(self, key: str, since_ns: int) -> Kept | None:
        """Return what was kept not before ``since_ns``; an older answer is dropped."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.since_ns <= since_ns:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def keep(self, key: str, kept: Kept) -> None:
        self._drop(key)
        self._kept[key] = kept
        self._size += len(kept.body)
        while len(self._kept) > ENTRIES_MAX or self._size > BYTES_MAX:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= len(kept.body)


CACHE: Final = web.AppKey("cdn", Cache)


@web.middleware
async def cached(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer from the cache what it still has; keep what the venue answers well."""
    max_age_s = MAX_AGE_S.get(request.path)
    shell = shell_of(request)
    if max_age_s is None or request.method != "GET" or not shell.venue.config.cdn:
        return await handler(request)
    now_ns, key, cache = shell.now_ns(), request.path_qs, request.app[CACHE]
    kept = cache.find(key, now_ns - max_age_s * NS_PER_S)
    if kept is not None:
        hit = web.Response(body=kept.body, content_type=kept.content_type)
        hit.headers["Age"] = str((now_ns - kept.since_ns) // NS_PER_S)
        return _labelled(hit, "Hit", max_age_s)
    response = await handler(request)
    if not isinstance(response, web.Response) or response.status != 200:
        response.headers["X-Cache"] = "Error from cloudfront"
        return response
    if isinstance(response.body, bytes):
        cache.keep(key, Kept(response.body, response.content_type, now_ns))
    return _labelled(response, "Miss", max_age_s)


def _labelled(response: web.Response, how: str, max_age_s: int) -> web.Response:
    response.headers["Cache-Control"] = f"public, max-age={max_age_s}"
    response.headers["X-Cache"] = f"{how} from cloudfront"
    return response
