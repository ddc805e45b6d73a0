"""What the CLOB believes an account has: a cached view, and what each exchange may spend (1.7).

Trades are the CLOB's own, so it knows them. What comes from outside (deposits, splits, merges,
redemptions, conversions) it sees once the account asks it to look. What leaves is seen at once.
"""

from typing import Final

from services.paper_venue.exchanges import EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, EXCHANGE_V3
from services.paper_venue.state import Venue
from shared.domain.ids import TokenId, Wallet
from shared.domain.market import Market

UNLIMITED: Final = (1 << 256) - 1
EXCHANGES: Final = (EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, EXCHANGE_V3)


def arrived(venue: Venue, wallet: Wallet, token: TokenId | None, amount: int) -> None:
    """Note dollars (``token`` None) or shares that came to or left a wallet outside the CLOB."""
    if not venue.config.cached_balances:
        return
    unseen = venue.unseen.get((wallet, token), 0) + amount
    if unseen > 0:
        venue.unseen[wallet, token] = unseen
    else:
        venue.unseen.pop((wallet, token), None)


def look(venue: Venue, wallet: Wallet, token: TokenId | None) -> None:
    """Bring the cached view of dollars or of one token up to date."""
    venue.unseen.pop((wallet, token), None)


def unseen(venue: Venue, wallet: Wallet, token: TokenId | None) -> int:
    return venue.unseen.get((wallet, token), 0)


def shown(venue: Venue, wallet: Wallet, token: TokenId | None) -> int:
    """Return the balance ``/balance-allowance`` tells: settled, as of the last look."""
    ledger = venue.ledger
    settled = ledger.settled_cash[wallet] if token is None else ledger.holding(wallet, token)
    return max(0, settled - unseen(venue, wallet, token))


def spender_of(market: Market) -> str:
    """Return the exchange that settles a market and so spends for its traders."""
    if market.protocol == "v2":
        return EXCHANGE_V3
    return EXCHANGE_V2_NEG_RISK if market.neg_risk else EXCHANGE_V2


def allowance(venue: Venue, wallet: Wallet, spender: str) -> int:
    return venue.allowances.get((wallet, spender), UNLIMITED)


def allow(venue: Venue, wallet: Wallet, spender: str, amount: int) -> None:
    venue.allowances[wallet, spender] = amount
