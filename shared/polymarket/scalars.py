"""One value of venue text to one domain value, or WireError: no other module converts."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Final

from shared.domain import ids
from shared.domain.market import Side
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Price, Shares, Usd, parse_micro
from shared.polymarket.errors import WireError
from shared.polymarket.wire import Stamp

FUTURE_NS_MAX: Final = 86_400 * NS_PER_S
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WIDE: Final = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
_DOUBLE_SLACK: Final = Decimal("0.001")  # of a micro-unit, below what any real digit could mean
_DOUBLE_ULPS: Final = Decimal(2) ** -50  # relative: what a few operations on doubles may lose


def price(text: str | Decimal | None, *, where: str) -> Price:
    """Return an exact price strictly between 0 and 1 dollar."""
    return _inside(_exact(text, where=where), text, where=where)


def price_derived(number: Decimal | None, *, where: str) -> Price:
    """Return a price that the venue computed as dollars / shares: rounded half-even to a micro.

    Only the Data API and RTDS report such prices; their last digits carry no information.
    """
    return _inside(_nearest(number, where=where)[0], number, where=where)


def valuation(number: Decimal | None, *, where: str) -> Price:
    """Return an average or current price of a holding: derived, and 0 and 1 are possible."""
    if number is None:
        return Price(0)
    micro = _nearest(number, where=where)[0]
    if not 0 <= micro <= MICRO:
        raise WireError("not between 0 and 1", where=where, seen=number)
    return Price(micro)


def dollars_derived(number: Decimal, *, where: str) -> Usd:
    """Return dollars that the venue computed, not negative: rounded half-even to a micro."""
    micro = _nearest(number, where=where)[0]
    if micro < 0:
        raise WireError("negative", where=where, seen=number)
    return Usd(micro)


def size(text: str | None, *, where: str) -> Shares:
    """Return an exact positive size."""
    micro = _exact(text, where=where)
    if micro <= 0:
        raise WireError("not a positive size", where=where, seen=text)
    return Shares(micro)


def amount(text: str | Decimal | None, *, where: str) -> int:
    """Return an exact amount in micro-units, not negative."""
    micro = _exact(text, where=where)
    if micro < 0:
        raise WireError("negative", where=where, seen=text)
    return micro


def size_from_double(number: Decimal | None, *, where: str) -> Shares:
    """Return a size that travelled as a binary double, not negative.

    Sizes are whole micro-shares on the chain, so digits behind the sixth decimal can only be
    what a double could not express (25.000000000000004). Such a tail is dropped; a tail too
    large for that is a different number than we think, and refused.
    """
    micro, off = _nearest(number, where=where)
    if off > _DOUBLE_SLACK + abs(micro) * _DOUBLE_ULPS:
        raise WireError("finer than a micro-share", where=where, seen=number)
    if micro < 0:
        raise WireError("negative", where=where, seen=number)
    return Shares(micro)


def moment_ns(stamp: Stamp, *, now_ns: int, where: str) -> int:
    """Return the time in ns of seconds, ms, us, ns or ISO text, told apart by magnitude."""
    if isinstance(stamp, str) and not (stamp.isascii() and stamp.isdigit()):
        moment = iso_ns(stamp, where=where)
    else:
        try:
            moment = _scaled(int(stamp or 0))
        except ValueError:
            raise WireError("not a time", where=where, seen=stamp) from None
    if moment <= 0:
        raise WireError("not a time", where=where, seen=stamp)
    if moment > now_ns + FUTURE_NS_MAX:
        raise WireError("more than a day in the future", where=where, seen=stamp)
    return moment


def iso_ns(text: str, *, where: str) -> int:
    """Return the time in ns of ISO 8601 text; without an offset it is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware - _EPOCH) // timedelta(microseconds=1) * 1_000
    except (ValueError, OverflowError):
        raise WireError("not a time", where=where, seen=text) from None


def side(text: str | None, *, where: str) -> Side:
    if text == "BUY":
        return "BUY"
    if text == "SELL":
        return "SELL"
    raise WireError("neither BUY nor SELL", where=where, seen=text)


def token(text: str | None, *, where: str) -> ids.TokenId:
    try:
        return ids.token_id(text or "")
    except ValueError as e:
        raise WireError(str(e), where=where, seen=text) from None


def condition(text: str | None, *, where: str) -> ids.ConditionId:
    try:
        return ids.condition_id(text or "")
    except ValueError as e:
        raise WireError(str(e), where=where, seen=text) from None


def wallet(text: str | None, *, where: str) -> ids.Wallet:
    try:
        return ids.wallet(text or "")
    except ValueError as e:
        raise WireError(str(e), where=where, seen=text) from None


def order_hash(text: str | None, *, where: str) -> ids.OrderHash:
    try:
        return ids.order_hash(text or "")
    except ValueError as e:
        raise WireError(str(e), where=where, seen=text) from None


def tx_hash(text: str | None, *, where: str) -> ids.TxHash:
    try:
        return ids.tx_hash(text or "")
    except ValueError as e:
        raise WireError(str(e), where=where, seen=text) from None


def _exact(text: str | Decimal | None, *, where: str) -> int:
    try:
        return parse_micro("" if text is None else text)
    except ValueError as e:
        raise WireError(str(e), where=where, seen=text) from None


def _inside(micro: int, seen: object, *, where: str) -> Price:
    if not 0 < micro < MICRO:
        raise WireError("not strictly between 0 and 1", where=where, seen=seen)
    return Price(micro)


def _nearest(number: Decimal | None, *, where: str) -> tuple[int, Decimal]:
    """Return the nearest micro-unit, halves to even, and how far off it is in micro-units."""
    if number is None or not number.is_finite() or number.adjusted() > 15:
        raise WireError("not an amount", where=where, seen=number)
    scaled = _WIDE.scaleb(number, 6)
    nearest = scaled.to_integral_value(ROUND_HALF_EVEN)
    return int(nearest), abs(scaled - nearest)


def _scaled(number: int) -> int:
    if number < 10**11:
        return number * NS_PER_S
    if number < 10**14:
        return number * NS_PER_MS
    return number * 1_000 if number < 10**17 else number
