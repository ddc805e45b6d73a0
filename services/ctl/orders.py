"""`driftless end-order`: the operator's word on an order whose end nobody could find."""

import asyncio
from typing import Annotated, Any

import typer

from services.ctl.asking import DEADLINE_S, ask
from services.ctl.commands import ReasonOption
from services.ctl.errors import UsageError
from services.ctl.figures import decimal, json_text, shares
from services.ctl.options import ConfigOption, JsonOption
from services.ctl.session import USER, find_place, session
from shared.domain.ids import content_id
from shared.domain.messages import EndOrder, OrderClosed
from shared.domain.views import POSITIONS, SURRENDERED, OpenOrderView, PositionsView, decode
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.ports import Ledger, Store

OrderArgument = Annotated[
    str, typer.Argument(metavar="ORDER", help="The order's hash, or the beginning of it.")
]


def end_order(
    order: OrderArgument,
    reason: ReasonOption = "by hand",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an order count no longer whose end was not found, after you looked at the venue.

    Only for orders that `driftless status` names with LOOK: their token takes no other order until
    they have ended. Cancel it at the venue first if it stands there. What it filled by what is
    booked stays; a fill that is told later is booked all the same, and what nobody tells is found
    when positions are compared.

    Example: driftless end-order 0x9f3c --reason "not at the venue"

    Exit codes: 0 ended, 1 no answer from the executor in time, 2 no such order or not
    surrendered, 3 NATS or Redis away.
    """
    asyncio.run(_end(order, reason, config, as_json))


async def _end(written: str, reason: str, config: Any, as_json: bool) -> None:
    async with session(find_place(config)) as at:
        done = await end(at.ledger, at.store, written, reason, SystemClock())
    print(json_text(done) if as_json else done["text"])


async def end(
    ledger: Ledger,
    store: Store,
    written: str,
    reason: str,
    clock: Clock,
    *,
    deadline_s: float = DEADLINE_S,
) -> dict[str, Any]:
    """Give the command and return what became of it; raises UsageError, UnansweredError."""
    (data,) = await store.read_views([POSITIONS])
    view = decode(data, PositionsView)
    order = surrendered(written, view.orders if view else ())
    now_ns = clock.now_ns()
    id_ = content_id("end_order", USER, order.order, reason, now_ns)
    command = EndOrder(
        id=id_, cause="", root=id_, ts_ns=now_ns, order=order.order, reason=reason, actor=USER
    )
    answer = await ask(ledger, command, deadline_s=deadline_s)
    assert isinstance(answer.said, OrderClosed)
    filled = answer.said.filled
    return {
        "order": order.order,
        "filled": decimal(filled),
        "size": decimal(order.size),
        "text": f"order {order.order} has ended with {shares(filled)} of {shares(order.size)} "
        "filled; its token takes orders again",
        "command_seq": answer.seq,
        "fact": answer.said.id,
    }


def surrendered(written: str, orders: tuple[OpenOrderView, ...]) -> OpenOrderView:
    """Return the one surrendered order that a hash begins like; raises UsageError."""
    named = [each for each in orders if each.order.startswith(written.lower())]
    if len(named) > 1:
        raise UsageError(f"{len(named)} open orders begin with {written}: give more of the hash")
    if not named:
        waiting = ", ".join(each.order for each in orders if each.status == SURRENDERED)
        raise UsageError(f"no open order {written}: waiting for you are {waiting or 'none'}")
    (order,) = named
    if order.status != SURRENDERED:
        raise UsageError(
            f"order {order.order} is {order.status}: it is still followed, and ends by itself"
        )
    return order
