"""What the venue and our account must be like, probe by probe: pure judgements, with evidence.

All that this program takes for granted of the venue has moved before (docs/traps.md, 50). Each
judgement says what was expected, what was seen, and what to do. Who asks is ``probing.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from shared.domain.grid import TICKS
from shared.domain.ids import Wallet
from shared.domain.market import Market
from shared.domain.units import MICRO, NS_PER_MS, NS_PER_S, Usd, format_micro
from shared.polymarket import wire
from shared.polymarket.wallets import derived_type

Outcome = Literal["ok", "warn", "fail", "unknown"]  # unknown: not asked, or not answered

ORDER_VERSION: Final = 2  # of the orders that are signed here, as ``/version`` names it
GAMMA_VERSIONS: Final = frozenset({"v1", "v2"})  # of markets; each has its exchange
SKEW_WARN_MS: Final = 2_000
SKEW_FAIL_MS: Final = 10_000  # fills would look too old, or from the future
INDEX_LAG_WARN_NS: Final = 30 * NS_PER_S
INDEX_LAG_FAIL_NS: Final = 600 * NS_PER_S
KINDS: Final = ("EOA", "proxy wallet", "safe", "deposit wallet")  # by signature type
_DEPLOY: Final = "compare the protocol with what changed at the venue; do not trade before that"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One probe: did what was seen agree with what was expected."""

    name: str
    outcome: Outcome
    expected: str
    seen: str
    cure: str = ""  # what to do; empty where nothing is

    def __str__(self) -> str:
        cure = f"; {self.cure}" if self.cure else ""
        return f"{self.name}: expected {self.expected}, saw {self.seen}{cure}"


def _found(name: str, outcome: Outcome, expected: str, seen: str, cure: str) -> Finding:
    told = "" if outcome == "ok" else cure
    return Finding(name=name, outcome=outcome, expected=expected, seen=seen, cure=told)


def _agrees(name: str, agrees: bool, expected: str, seen: str, cure: str) -> Finding:  # noqa: FBT001 - a verdict is one
    return _found(name, "ok" if agrees else "fail", expected, seen, cure)


def skew_ms(ours_ns: int, theirs_ns: int) -> int:
    """Return how far the venue's clock is ahead; it tells whole seconds, cut off."""
    low_ms = (theirs_ns - ours_ns) // NS_PER_MS
    return 0 if low_ms <= 0 <= low_ms + 1_000 else min(low_ms, low_ms + 1_000, key=abs)


def clock(ours_ns: int, theirs_ns: int) -> Finding:
    ahead_ms = skew_ms(ours_ns, theirs_ns)
    outcome: Outcome = "ok"
    if abs(ahead_ms) > SKEW_WARN_MS:
        outcome = "fail" if abs(ahead_ms) > SKEW_FAIL_MS else "warn"
    seen = f"venue {ahead_ms:+,} ms from ours (it tells whole seconds)"
    cure = "set this machine's clock (NTP): ages, limits and signatures are made with it"
    return _found("clock", outcome, f"at most {SKEW_WARN_MS:,} ms", seen, cure)


def version(told: int) -> Finding:
    cure = f"orders signed here would be refused: {_DEPLOY}"
    agrees = told == ORDER_VERSION
    return _agrees("order version", agrees, f"version {ORDER_VERSION}", f"version {told}", cure)


def gamma(versions: Sequence[str | None]) -> Finding:
    """Judge the versions of markets that Gamma lists; one that tells none is of the first."""
    counts: dict[str, int] = {}
    for told in versions:
        counts[told or "v1"] = counts.get(told or "v1", 0) + 1
    seen = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no market"
    expected = f"markets of {' and '.join(sorted(GAMMA_VERSIONS))}"
    cure = f"the new kind has an exchange that is not known here: {_DEPLOY}"
    if not versions:
        return _found("market versions", "unknown", expected, seen, "is anything listed?")
    return _agrees("market versions", set(counts) <= GAMMA_VERSIONS, expected, seen, cure)


def book_hash(body: bytes) -> Finding:
    """Judge whether the venue hashes a book the way that this program verifies books by."""
    told, own = wire.decode(body, wire.Book, where="/book").hash, wire.book_hash(body)
    cure = f'books could not be verified: set ingester.book_hash_rest = "count", or {_DEPLOY}'
    return _agrees("book hash", told == own, f"hash {own[:12]}", f"hash {(told or '')[:12]}", cure)


def terms(body: bytes, market: Market) -> Finding:
    """Judge a book's tick and least size: known to us, and the same as in the market's terms."""
    told = wire.decode(body, dict[str, object], where="/book")
    seen = f"tick {told.get('tick_size')}, least size {told.get('min_order_size')}"
    tick, least = format_micro(market.tick), format_micro(market.size_min)
    expected = f"tick {tick}, least size {least} as in the market's terms"
    same = (_number(told.get("tick_size")), _number(told.get("min_order_size"))) == (
        _number(tick),
        _number(least),
    )
    cure = f"prices and sizes would be rounded wrongly: {_DEPLOY}"
    if market.tick not in TICKS:
        known = ", ".join(format_micro(each) for each in sorted(TICKS))
        return _agrees("tick and size", agrees=False, expected=f"a tick of {known}", seen=seen,
                       cure=cure)  # fmt: skip
    return _agrees("tick and size", same, expected, seen, cure)


def _number(told: object) -> float | None:
    try:
        return float(str(told))
    except ValueError:
        return None


def index(lag_ns: int) -> Finding:
    outcome: Outcome = "ok"
    if lag_ns > INDEX_LAG_WARN_NS:
        outcome = "fail" if lag_ns > INDEX_LAG_FAIL_NS else "warn"
    cure = "what leaders do is seen late: wait until the venue's index has caught up"
    expected = f"at most {INDEX_LAG_WARN_NS // NS_PER_S} s behind the chain"
    seen = f"{lag_ns / NS_PER_S:,.0f} s behind"
    return _found("data index", outcome, expected, seen, cure)


def geoblock(told: wire.Geoblock) -> Finding:
    seen = f"{'blocked' if told.blocked else 'not blocked'}, in {told.country or 'no country'}"
    cure = "the venue refuses orders from here: run where it is permitted; do not go around it"
    return _agrees("geoblock", not told.blocked, "not blocked", seen, cure)


def closed_only(told: bool) -> Finding:  # noqa: FBT001 - the venue's word
    seen = "closed only" if told else "open"
    cure = "the venue lets this account only reduce: ask the venue why"
    return _agrees("closed only", not told, "an account that may open", seen, cure)


def wallet(owner: str, own: Wallet, signature_type: int) -> Finding:
    """Judge whether the configured wallet is one that this key can sign for.

    Only for an EOA is that certain: wallets may come from factories of before.
    """
    kind, address = KINDS[signature_type], Wallet(owner.lower())
    if signature_type == 0:
        cure = "account.wallet must be the key's own address, or account.signature_type is wrong"
        return _agrees("wallet", own == address, f"the key's address {address}", own, cure)
    if own == address:
        cure = "account.wallet is the key's own address: enter the wallet that it signs for"
        return _agrees("wallet", False, f"a {kind}", "the key's address", cure)  # noqa: FBT003
    derived = derived_type(address, own)
    if derived == signature_type:
        return _found("wallet", "ok", f"the key's {kind}", own, "")
    expected = f"the {kind} that the venue's factory makes for {address}"
    if derived is not None:
        cure = f"account.signature_type = {derived} belongs to this wallet"
        return _found("wallet", "fail", expected, f"its {KINDS[derived]}", cure)
    cure = "compare account.wallet with the address in your profile at the venue"
    return _found("wallet", "warn", expected, own, cure)


def balance(told: Usd) -> Finding:
    cure = "fund the wallet, then have the venue look again (docs/live.md)"
    seen = f"${format_micro(told)}"
    return _found("balance", "ok" if told > 0 else "warn", "some collateral", seen, cure)


def allowances(told: Mapping[str, int], exchanges: Mapping[str, str], least: Usd) -> Finding:
    """Judge what each exchange may spend; ``exchanges`` are addresses by name."""
    short = [
        f"{name} {format_micro(min(told.get(address.lower(), 0), 10**15 * MICRO))}"
        for name, address in exchanges.items()
        if told.get(address.lower(), 0) < least
    ]
    expected = f"${format_micro(least)} or more for each of {', '.join(exchanges)}"
    cure = "approve these exchanges once, in the venue's site or by a transaction (docs/live.md)"
    return _agrees("allowances", not short, expected, f"only {', '.join(short)}" if short else
                   "enough for each", cure)  # fmt: skip


def unanswered(name: str, expected: str, reason: str) -> Finding:
    cure = "try again; if it stays so, is the address right, and is the venue up?"
    return Finding(name=name, outcome="unknown", expected=expected, seen=reason, cure=cure)


def unreadable(name: str, expected: str, reason: str) -> Finding:
    return Finding(name=name, outcome="fail", expected=expected, seen=reason, cure=_DEPLOY)


def refused(name: str, expected: str, reason: str, cure: str) -> Finding:
    return Finding(name=name, outcome="fail", expected=expected, seen=reason, cure=cure)


def unasked(name: str, why: str) -> Finding:
    """Return what stands for a probe that could not be made for want of the key."""
    return Finding(name=name, outcome="unknown", expected="", seen=f"not asked: {why}")
