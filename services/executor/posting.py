"""An order on record is signed and sent, and what is then known of it is said."""

from typing import Final

from services.executor.session import Session, terms_of
from services.executor.state import NEVER_NS, WITHDRAWN, Answered, Lost, Order, Proved, Refusal
from shared.domain.ids import OrderHash, Wallet
from shared.domain.messages import OrderPrepared, OrderResent
from shared.domain.units import NS_PER_S
from shared.polymarket.auth import SignedOrder
from shared.polymarket.errors import (
    HeldBack,
    Mode,
    RejectCode,
    Rejected,
    Throttled,
    Unavailable,
    VenueError,
)

Outcome = Answered | Proved | Refusal | Lost
_WAIT_NS: Final = NS_PER_S  # of a venue that restarts or throttles, where it names no time
_CLOSED_TO_TAKERS: Final = (Mode.POST_ONLY, Mode.CANCEL_ONLY, Mode.DISABLED)


async def place(session: Session, fact: OrderPrepared) -> bool:
    """Send the order on record, once; tell whether it was sent, so that it is to be followed."""
    await session.ready.wait()
    if fact.side == "SELL":
        await session.before_sale(fact.token, fact.market.protocol)
    known = session.state.orders.get(fact.order)
    if known is not None and known.cancel:
        unsent = Refusal(order=fact.order, reason=WITHDRAWN, detail="not sent")
        await session.lane.submit(unsent)
        return False
    if session.clock.now_ns() > fact.expires_ns:
        late = Refusal(order=fact.order, reason="EXPIRED", detail="not sent in time")
        await session.lane.submit(late)
        return False
    await session.lane.submit(await _post(session, fact, _signed(session, fact), fact.ts_ns))
    return True


async def place_again(session: Session, order: Order, fact: OrderResent) -> Outcome | None:
    """Send the identical order again; None where its time to live has passed meanwhile."""
    if session.clock.now_ns() > fact.expires_ns:
        return None
    return await _post(session, fact, _signed(session, order), order.prepared_ns)


def _signed(session: Session, order: OrderPrepared | Order) -> SignedOrder:
    """Sign what is on record; signatures are deterministic, so the bytes are the same again."""
    signer = session.world.signer
    terms = terms_of(order, session.world.account, Wallet(signer.address.lower()))
    signed = signer.sign(terms, owner=session.account.credentials.api_key)
    assert signed.hash == order.order, "the order on record is not the order signed"
    return signed


async def _post(
    session: Session, fact: OrderPrepared | OrderResent, signed: SignedOrder, prepared_ns: int
) -> Outcome:
    began_ns, status = session.clock.now_ns(), None
    try:
        turn_s = max(0, fact.expires_ns - began_ns) / NS_PER_S
        answer = await session.venue.post_order(signed, turn_s=turn_s)
        status = 200
        latency_ns = session.clock.now_ns() - began_ns
        return Answered(order=fact.order, answer=answer, latency_ns=latency_ns)
    except Rejected as e:
        status = e.status
        if e.code is RejectCode.DUPLICATED:
            return Proved(order=fact.order, latency_ns=session.clock.now_ns() - began_ns)
        return await _refusal(session, fact.order, prepared_ns, e)
    except VenueError as e:
        return unclear(fact.order, e, session.clock.now_ns())
    finally:
        end_ns = session.clock.now_ns()
        session.world.tracing.http(
            fact, "POST /order", start_ns=began_ns, end_ns=end_ns, status=status
        )


def unclear(order: OrderHash, e: VenueError, now_ns: int) -> Refusal | Lost:
    """Return what follows from a POST without a yes or no (protocol.md 1.9(c), 1.10).

    Only the signer's own limit says for certain that nothing was executed. A venue that lets no
    taker in for now gets nothing again: the copy would be stale when it does.
    """
    if isinstance(e, HeldBack):
        return Refusal(order=order, reason="EXPIRED", detail=f"not sent: {e}")
    if e.definitive:
        return Refusal(order=order, reason=type(e).__name__, detail=str(e))
    retry_ns = 0
    if isinstance(e, Unavailable) and e.mode in _CLOSED_TO_TAKERS:
        retry_ns = NEVER_NS
    elif isinstance(e, Throttled) or (isinstance(e, Unavailable) and e.mode is Mode.RESTARTING):
        told_s = e.retry_after_s
        retry_ns = now_ns + (_WAIT_NS if told_s is None else int(told_s * NS_PER_S))
    return Lost(order=order, reason=type(e).__name__, retry_ns=retry_ns)


async def _refusal(session: Session, order: OrderHash, prepared_ns: int, e: Rejected) -> Outcome:
    """Believe a refusal only if the venue knows of no execution: kills have had fills.

    Refused is not to be sent again, whatever the look-up shows.
    """
    try:
        report = await session.venue.order(order)
        fills = await session.fills_of(order, prepared_ns)
    except VenueError:
        reason = f"refused and unreadable: {e.code}"
        return Lost(order=order, reason=reason, retry_ns=NEVER_NS)
    if fills or (report is not None and report.matched):
        return Lost(order=order, reason=f"refused with fills: {e.code}", retry_ns=NEVER_NS)
    return Refusal(order=order, reason=str(e.code), detail=e.text)
