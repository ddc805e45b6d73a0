"""The relayer's one read that clients make before they trade: does this wallet exist on chain?"""

from aiohttp import web

from services.paper_venue.http import answer, parameter, shell_of
from services.paper_venue.state import Refused
from shared.domain.ids import wallet


async def get_deployed(request: web.Request) -> web.Response:
    """Answer whether a proxy, safe or deposit wallet is known here: funded, or owned by an EOA."""
    venue = shell_of(request).venue
    try:
        who = wallet(parameter(request, "address"))
    except ValueError as error:
        raise Refused(str(error)) from None
    return answer({"deployed": who in venue.owner_of or who in venue.ledger.cash})
