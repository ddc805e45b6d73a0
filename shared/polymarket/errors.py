"""What can go wrong between the venue and us, sorted by what may be concluded from it.

::

    VenueError
    ├── TransportError   no answer: time-out, connection lost
    ├── Throttled        429; definitive only when the signer's bucket refused it
    ├── HeldBack         not sent: its turn would have come too late; definitive
    ├── Unavailable      425, 5xx, restricted modes, and answers that say "maybe"
    ├── Rejected         a definitive no, with a code
    ├── NotFound         404: the venue does not know the thing
    ├── Outdated         an answer from before: of a cache, or of an index that went back
    └── WireError        something arrived that we cannot read

After a submit only ``definitive`` errors say that the order does not stand; after any other
its outcome is unknown and is asked for by hash (protocol.md 1.10).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

EXCERPT_CHARS_MAX: Final = 200


class RejectCode(StrEnum):
    """Why the venue said no, as far as its text tells."""

    AUTH = "auth"  # credentials or headers are wrong: stop
    KEY_PAIRING = "key_pairing"  # the API key does not belong to this signer or owner: stop
    WALLET_KIND = "wallet_kind"  # the venue wants another kind of wallet: stop
    ORDER_VERSION = "order_version"  # signed for an exchange that is no longer served
    BANNED = "banned"
    CLOSE_ONLY = "close_only"  # only position-reducing orders pass
    TICK = "tick"  # our tick is out of date
    SIZE_MIN = "size_min"
    NOTIONAL_MIN = "notional_min"  # a marketable BUY below $1
    ALLOWANCE = "allowance"
    BALANCE = "balance"
    DUPLICATED = "duplicated"  # this very order was accepted before: look it up
    POST_ONLY_CROSSES = "post_only_crosses"
    KILLED = "killed"  # nothing rests, yet parts may have been filled: read the trades
    NOT_READY = "not_ready"
    EXPIRATION = "expiration"
    NONCE = "nonce"
    NOT_MATCHABLE = "not_matchable"  # refused while matching; definite for this order
    TOO_MANY = "too_many"
    INVALID_PAYLOAD = "invalid_payload"
    FORBIDDEN = "forbidden"
    OTHER = "other"


class Mode(StrEnum):
    """What the venue is doing instead of answering."""

    RESTARTING = "restarting"
    POST_ONLY = "post_only"
    CANCEL_ONLY = "cancel_only"
    DISABLED = "disabled"
    UNCERTAIN = "uncertain"  # it may or may not have taken the order
    FAULT = "fault"  # any other 5xx


class VenueError(Exception):
    """A call to the venue did not give what it was made for."""

    definitive = False  # True: the request certainly had no effect

    def __init__(self, endpoint: str, message: str) -> None:
        super().__init__(f"{endpoint}: {message}")
        self.endpoint = endpoint


class TransportError(VenueError):
    """No answer came: a time-out or a lost connection, so an effect may or may not stand."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint, reason)
        self.reason = reason


class Throttled(VenueError):  # noqa: N818 - named for what happened to us
    """Too many requests; without the signer's headers a submit may still have got through."""

    def __init__(self, endpoint: str, *, definitive: bool, retry_after_s: float | None) -> None:
        super().__init__(endpoint, f"throttled, retry after {retry_after_s} s")
        self.definitive = definitive
        self.retry_after_s = retry_after_s


class HeldBack(VenueError):  # noqa: N818 - named for what happened to us
    """Not sent: a limit of the venue would have kept it waiting for longer than it was good for."""

    definitive = True

    def __init__(self, endpoint: str, waited_s: float) -> None:
        super().__init__(endpoint, f"no turn within {waited_s:.3g} s under the venue's limits")


class Unavailable(VenueError):  # noqa: N818 - named for what the venue is
    """The venue answered that it cannot say yes or no now."""

    def __init__(
        self,
        endpoint: str,
        *,
        status: int,
        mode: Mode,
        text: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        self.text = excerpt(text)
        super().__init__(endpoint, f"{status} {mode}: {self.text}")
        self.status = status
        self.mode = mode
        self.retry_after_s = retry_after_s


class Rejected(VenueError):  # noqa: N818 - named for what happened to us
    """The venue refused. DUPLICATED is the one refusal that proves an earlier acceptance."""

    def __init__(self, endpoint: str, *, status: int, code: RejectCode, text: str) -> None:
        self.text = excerpt(text)
        super().__init__(endpoint, f"{status} {code}: {self.text}")
        self.status = status
        self.code = code
        self.definitive = code is not RejectCode.DUPLICATED


class NotFound(VenueError):  # noqa: N818 - named for the answer
    """The venue does not know what was asked for."""

    definitive = True

    def __init__(self, endpoint: str, text: str) -> None:
        self.text = excerpt(text)
        super().__init__(endpoint, f"not found: {self.text}")


class Outdated(VenueError):  # noqa: N818 - named for the answer
    """The answer is older than the question: what is not in it may exist all the same."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint, reason)
        self.reason = reason


class WireError(VenueError):
    """A body or frame does not parse; ``what`` is wrong, ``where`` it was, and how it looked."""

    def __init__(self, what: str, *, where: str, seen: object = "") -> None:
        self.what = what
        self.where = where
        self.excerpt = excerpt(seen)
        super().__init__(where, f"{what}: {self.excerpt!r}")


class _ErrorBody(msgspec.Struct):
    error: object = None
    error_msg: object = None
    errorMsg: object = None  # noqa: N815 - the venue's name
    retry_after_seconds: object = None


_UNCERTAIN: Final = (
    "order match delayed",
    "could not insert order",
    "could not run the execution",
    "order timed out",
    "context canceled",
)

_MODES: Final = (
    ("post-only mode", Mode.POST_ONLY),
    ("post_only_mode", Mode.POST_ONLY),
    ("cancel-only", Mode.CANCEL_ONLY),
    ("trading is disabled", Mode.DISABLED),
    ("trading is currently disabled", Mode.DISABLED),
)

# Status first (None: any), then the first substring that occurs. Order matters: the texts of
# "balance / allowance" contain each other's words.
_REJECTS: Final[tuple[tuple[int | None, str, RejectCode], ...]] = (
    (401, "", RejectCode.AUTH),
    (None, "closed only mode", RejectCode.CLOSE_ONLY),
    (None, "address banned", RejectCode.BANNED),
    (403, "", RejectCode.FORBIDDEN),
    (None, "invalid l1 request headers", RejectCode.AUTH),
    (None, "invalid api key", RejectCode.AUTH),
    (None, "has to be the owner of the api key", RejectCode.KEY_PAIRING),
    (None, "has to be the address of the api key", RejectCode.KEY_PAIRING),
    (None, "deposit wallet flow", RejectCode.WALLET_KIND),
    (None, "invalid order version", RejectCode.ORDER_VERSION),
    (None, "order_version_mismatch", RejectCode.ORDER_VERSION),
    (None, "minimum tick size rule", RejectCode.TICK),
    (None, "lower than the minimum", RejectCode.SIZE_MIN),
    (None, "marketable buy order", RejectCode.NOTIONAL_MIN),
    (None, "the allowance is not enough", RejectCode.ALLOWANCE),
    (None, "not enough balance", RejectCode.BALANCE),
    (None, "duplicated", RejectCode.DUPLICATED),
    (None, "order crosses book", RejectCode.POST_ONLY_CROSSES),
    (None, "couldn't be fully filled", RejectCode.KILLED),
    (None, "no orders found to match", RejectCode.KILLED),
    (None, "not yet ready to process", RejectCode.NOT_READY),
    (None, "invalid expiration", RejectCode.EXPIRATION),
    (None, "invalid nonce", RejectCode.NONCE),
    (None, "canceled in the ctf exchange contract", RejectCode.NOT_MATCHABLE),
    (None, "there are no matching orders", RejectCode.NOT_MATCHABLE),
    (None, "rounding issues", RejectCode.NOT_MATCHABLE),
    (None, "has a discrepancy", RejectCode.NOT_MATCHABLE),
    (None, "too many orders in payload", RejectCode.TOO_MANY),
    (None, "invalid order payload", RejectCode.INVALID_PAYLOAD),
)


def excerpt(seen: object) -> str:
    """Return at most 200 characters of what was seen, as printable text."""
    text = seen[:EXCERPT_CHARS_MAX] if isinstance(seen, bytes) else str(seen)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text[:EXCERPT_CHARS_MAX]


def refusal(endpoint: str, *, status: int, text: str) -> Rejected | Unavailable:
    """Return the error for a refusing text: uncertain where the venue itself is not sure."""
    lowered = text.lower()
    if any(phrase in lowered for phrase in _UNCERTAIN):
        return Unavailable(endpoint, status=status, mode=Mode.UNCERTAIN, text=text)
    for only_status, phrase, code in _REJECTS:
        if only_status in {None, status} and phrase in lowered:
            return Rejected(endpoint, status=status, code=code, text=text)
    return Rejected(endpoint, status=status, code=RejectCode.OTHER, text=text)


def failure(endpoint: str, *, status: int, headers: Mapping[str, str], body: bytes) -> VenueError:
    """Return the error that an HTTP answer other than 2xx stands for (protocol.md 1.10)."""
    text, told_s = _error_text(body)
    retry_after_s = _seconds(headers.get("Retry-After")) if told_s is None else told_s
    if status == 429:
        by_signer = any(name.lower().startswith("poly-ratelimit-") for name in headers)
        return Throttled(endpoint, definitive=by_signer, retry_after_s=retry_after_s)
    if status == 425 or status >= 500:
        return Unavailable(
            endpoint,
            status=status,
            mode=_mode(status, text.lower()),
            text=text,
            retry_after_s=retry_after_s,
        )
    if status == 404:
        return NotFound(endpoint, text)
    if 400 <= status < 500:
        return refusal(endpoint, status=status, text=text)
    return WireError(f"HTTP status {status}", where=endpoint, seen=body)


def _mode(status: int, lowered: str) -> Mode:
    if status == 425:
        return Mode.RESTARTING
    if any(phrase in lowered for phrase in _UNCERTAIN):
        return Mode.UNCERTAIN
    return next((mode for phrase, mode in _MODES if phrase in lowered), Mode.FAULT)


def _error_text(body: bytes) -> tuple[str, float | None]:
    try:
        told = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return excerpt(body), None
    text = told.error or told.error_msg or told.errorMsg or excerpt(body)
    return str(text), _seconds(told.retry_after_seconds)


def _seconds(told: object) -> float | None:
    try:
        seconds = float(str(told))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


class Garbage(msgspec.Struct, frozen=True):
    """A ``WireError`` as data, where one bad piece must not stop the pieces around it."""

    excerpt: str
    reason: str

    @classmethod
    def of(cls, error: WireError) -> "Garbage":
        return cls(excerpt=error.excerpt, reason=f"{error.where}: {error.what}")
