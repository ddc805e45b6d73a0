"""An order on record is signed and sent, once, and what is then known of it is said."""

from typing import Any

from services.executor.session import Session, terms_of
from services.executor.state import Answered, Lost, Refusal
from shared.domain.ids import Wallet
from shared.domain.messages import OrderPrepared
from shared.polymarket.auth import SignedOrder
from shared.polymarket.errors import RejectCode, Rejected, VenueError


async def place(session: Session, fact: OrderPrepared) -> bool:
    """Send the order on record, once; tell whether it was sent, so that it is to be followed."""
    await session.ready.wait()
    if session.clock.now_ns() > fact.expires_ns:
        late = Refusal(order=fact.order, reason="EXPIRED", detail="not sent in time")
        await session.lane.submit(late)
        return False
    await session.lane.submit(await _post(session, fact, signed_order(session, fact)))
    return True


def signed_order(session: Session, fact: OrderPrepared) -> SignedOrder:
    """Sign what is on record; the signature is deterministic, so are the bytes sent."""
    signer = session.world.signer
    terms = terms_of(fact, session.world.account, Wallet(signer.address.lower()))
    signed = signer.sign(terms, owner=session.account.credentials.api_key)
    assert signed.hash == fact.order, "the order on record is not the order signed"
    return signed


async def _post(session: Session, fact: OrderPrepared, signed: SignedOrder) -> Any:
    began_ns, status = session.clock.now_ns(), None
    try:
        answer = await session.venue.post_order(signed)
        status = 200
        latency_ns = session.clock.now_ns() - began_ns
        return Answered(order=fact.order, answer=answer, latency_ns=latency_ns)
    except Rejected as e:
        status = e.status
        return await _refusal(session, fact, e)
    except VenueError as e:
        if e.definitive:
            return Refusal(order=fact.order, reason=type(e).__name__, detail=str(e))
        return Lost(order=fact.order, reason=type(e).__name__)
    finally:
        end_ns = session.clock.now_ns()
        session.world.tracing.http(
            fact, "POST /order", start_ns=began_ns, end_ns=end_ns, status=status
        )


async def _refusal(session: Session, fact: OrderPrepared, e: Rejected) -> Any:
    """Believe a refusal only if the venue does not know the order: kills have had fills."""
    if e.code is RejectCode.DUPLICATED:
        return Lost(order=fact.order, reason="duplicated")
    try:
        report = await session.venue.order(fact.order)
        fills = await session.fills_of(fact.order, fact.ts_ns)
    except VenueError:
        return Lost(order=fact.order, reason=f"refused and unreadable: {e.code}")
    if fills or (report is not None and report.matched):
        return Lost(order=fact.order, reason=f"refused with fills: {e.code}")
    return Refusal(order=fact.order, reason=str(e.code), detail=e.text)
