"""Every fault there is: what it does, what it can be told and in which unit, and the defaults."""

from typing import Final, Literal

import msgspec

Group = Literal["socket", "rest", "order"]
SocketKind = Literal["market", "user", "stream"]
Kind = Literal[
    "close",
    "close_1013",
    "half_open",
    "silent",
    "freeze",
    "drop",
    "twice",
    "reorder",
    "delay",
    "garbage",
    "truncated_frame",
    "ignored_subscription",
    "refuse",
    "late_dump",
    "stale_dump",
    "slow",
    "stale",
    "lagging",
    "truncated",
    "empty",
    "wrong_type",
    "rate_limited",
    "too_early",
    "server_error",
    "broken_json",
    "hang_before",
    "hang_after",
    "drop_before",
    "drop_after",
    "delayed_answer",
    "wrong_body",
    "reject",
    "killed_but_filled",
    "fail_settlement",
    "retry_settlement",
    "cancelled_by_venue",
    "tick_changed",
    "market_closed",
]

PARAMETERS: Final[dict[str, str]] = {
    "kind": "what goes wrong",
    "name": "a rule of the same name replaces this one",
    "share_bps": "how many of the chances it takes, in 1/10000; drawn with the rule's seed",
    "count": "how often it fires at most; left out: without end",
    "after_s": "seconds until it is in force",
    "for_s": "seconds it stays in force; left out: until it has fired `count` times or is deleted",
    "seed": "of its draws; left out: from the venue's seed and the rule's id",
    "socket": "market, user, stream or all",
    "connection": "the number of one connection, as GET /admin/sockets lists it",
    "token": "only what concerns this token id",
    "wallet": "only what concerns this wallet",
    "together": "one draw a frame decides for every connection it goes to",
    "type": "only frames of this type of the activity stream: trades, orders_matched",
    "path": "a path and what is below it, or a pattern with * ? [",
    "method": "GET, POST, DELETE; left out: any",
    "query": "text that the query contains, such as a wallet",
    "ms": "milliseconds",
    "n": "how many",
    "keep_order": "later frames of the connection wait too",
    "status": "HTTP status",
    "body": "JSON body of the answer",
    "retry_after_s": "seconds of Retry-After; left out: no such header",
    "signer": "with Poly-RateLimit headers: the signer's bucket, surely not executed",
    "age_s": "seconds before now; left out: as of the rule's beginning",
    "tick": "the new tick in dollars; left out: 0.001 becomes 0.01, anything else 0.001",
    "rescue_bps": "how many fresh subscriptions of the asset wake it, in 1/10000",
}
_EVERY: Final = ("kind", "name", "share_bps", "count", "after_s", "for_s", "seed")
_WHERE: Final[dict[Group, dict[str, object]]] = {
    "socket": {"socket": "all", "connection": None},
    "rest": {"path": "*", "method": "", "query": ""},
    "order": {"token": "", "wallet": ""},
}
_FRAME: Final[dict[str, object]] = {"token": "", "wallet": "", "together": False}


class KindInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of fault; ``told`` maps what it can be told to the default."""

    kind: Kind
    group: Group
    words: str
    told: dict[str, object]

    @property
    def names(self) -> set[str]:
        return {*_EVERY, *self.told}


def _kind(kind: Kind, group: Group, words: str, **told: object) -> KindInfo:
    return KindInfo(kind=kind, group=group, words=words, told={**_WHERE[group], **told})


_MOMENT: Final = "those open when it begins, and with for_s those that open meanwhile"

KINDS: Final[dict[str, KindInfo]] = {
    each.kind: each
    for each in (
        _kind("close", "socket", f"connections end without a goodbye: {_MOMENT}"),
        _kind("close_1013", "socket", f"connections end as those of slow consumers: {_MOMENT}"),
        _kind(
            "half_open",
            "socket",
            f"TCP stays, nothing comes back any more, PONG neither, for good: {_MOMENT}",
        ),
        _kind(
            "silent",
            "socket",
            "PONG comes back, frames are lost; one draw a connection",
            type="",
        ),
        _kind(
            "freeze",
            "socket",
            "one asset falls silent, other assets go on; without token and wallet the first "
            "asset (of the stream: the first wallet) that is told about; one draw a connection",
            token="",
            wallet="",
            rescue_bps=0,
        ),
        _kind("drop", "socket", "a frame is lost", **_FRAME, type=""),
        _kind("twice", "socket", "a frame is sent twice", **_FRAME),
        _kind(
            "reorder",
            "socket",
            "a frame is sent after 1 to n later ones of its connection, after ms at the latest",
            **_FRAME,
            n=3,
            ms=2_000,
        ),
        _kind("delay", "socket", "a frame is sent late", **_FRAME, ms=1_000, keep_order=True),
        _kind("garbage", "socket", "something undecodable stands before a frame", **_FRAME),
        _kind("truncated_frame", "socket", "a frame loses its second half", **_FRAME),
        _kind(
            "ignored_subscription",
            "socket",
            "a subscription is taken without a word, and nothing is delivered for it",
            token="",
        ),
        _kind(
            "refuse",
            "socket",
            "a new connection is answered with the status instead; 0: it is reset",
            status=503,
        ),
        _kind("late_dump", "socket", "the first book of an asset comes late", token="", ms=5_000),
        _kind(
            "stale_dump",
            "socket",
            "the first book of an asset is an old one, at most as old as the rule",
            token="",
            age_s=5.0,
        ),
        _kind("slow", "rest", "a request waits before anything happens", ms=1_000),
        _kind("stale", "rest", "the last answer of the same URL again (but for `_`), 200"),
        _kind(
            "lagging", "rest", "the Data API's rows and status as of an earlier time", age_s=None
        ),
        _kind("truncated", "rest", "a page loses its last n rows and says it is the last", n=1),
        _kind("empty", "rest", "200 with nothing, as text/html; nothing was done"),
        _kind("wrong_type", "rest", "200 with an HTML error page; nothing was done"),
        _kind("rate_limited", "rest", "429; nothing was done", retry_after_s=None, signer=False),
        _kind("too_early", "rest", "425: the engine restarts", retry_after_s=None),
        _kind("server_error", "rest", "a 5xx; nothing was done", status=500, body=None),
        _kind("broken_json", "rest", "the answer's first half; it was done"),
        _kind("hang_before", "rest", "nothing done, no answer until the client gives up"),
        _kind("hang_after", "rest", "done, no answer until the client gives up"),
        _kind("drop_before", "rest", "nothing done, the connection ends without a goodbye"),
        _kind("drop_after", "rest", "done, the connection ends without a goodbye"),
        _kind(
            "delayed_answer",
            "rest",
            "done at once, answered late: sockets tell what it did before the answer",
            ms=500,
        ),
        _kind("wrong_body", "rest", "the answer about another token, where the query names one"),
        _kind("reject", "order", "an order is refused", status=400, body=None),
        _kind("killed_but_filled", "order", "an FOK or FAK order fills, the answer says killed"),
        _kind("fail_settlement", "order", "a trade goes MATCHED, RETRYING, FAILED"),
        _kind("retry_settlement", "order", "a trade is RETRYING so long, then mined", ms=30_000),
        _kind("cancelled_by_venue", "order", "a resting order becomes INVALID after ms", ms=0),
        _kind("tick_changed", "order", "the tick changes just before an order arrives", tick=""),
        _kind(
            "market_closed",
            "order",
            "the market takes no orders from just before one arrives, for ms; 0: for good",
            ms=0,
        ),
    )
}


def kinds_told() -> list[dict[str, object]]:
    """Return the catalogue as ``GET /admin/faults/kinds`` answers it."""
    every = {name: PARAMETERS[name] for name in _EVERY if name != "kind"}
    return [
        {
            "kind": info.kind,
            "group": info.group,
            "words": info.words,
            "parameters": {
                **{
                    name: {"words": PARAMETERS[name], "default": default}
                    for name, default in info.told.items()
                },
                **{name: {"words": words} for name, words in every.items()},
            },
        }
        for info in KINDS.values()
    ]
