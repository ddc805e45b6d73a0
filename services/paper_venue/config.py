"""What the local venue assumes of the world, with units.

The assumptions, and what each stands for:

- *Latency.* A fill is known to the user channel at once, in the activity stream after
  ``rtds_delay_ms``, in the Data API after ``data_api_delay_ms`` (protocol.md 9). Nothing is added
  to HTTP: the wire between two processes on one machine is what it is.
- *Queue position.* A resting order stands behind all recorded depth of its price, always.
  It trades when a taker gets through that depth, or when a recorded snapshot crosses its price.
- *Market impact.* Takers consume recorded depth; what they took stays gone until the next
  recorded snapshot of that market restores it. Nobody reacts to our trading beyond that.
- *Counterparty.* Recorded depth belongs to one anonymous wallet with unlimited funds.
- *Trades.* What a posted order takes is one trade in one transaction, whatever the prices.
- *Sizes.* A buy order buys the shares it names; a better price lowers the dollars.
"""

from typing import Literal

import msgspec

from services.paper_venue.habits import Liquidity, kinds_of
from shared.domain.ids import Wallet
from shared.domain.units import Price, Usd


class Funded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account that exists from the start."""

    wallet: Wallet  # who holds the funds: an EOA, a proxy, a safe or a deposit wallet
    usd: Usd
    owner: Wallet | None = None  # the signing EOA where it is not the wallet itself
    signature_type: Literal[1, 2, 3] | None = None  # None: the factories', or its first order's


class VenueConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting of the local venue; the defaults are the paper defaults."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: the system chooses a free one
    seed: int = 1  # of transaction hashes, credentials and synthetic leaders

    scenario: str = ""  # a TOML file of faults by the second (scenario.py); empty: none
    tape: str = ""  # a tape file or the recorded set's directory; empty: markets by /admin only
    speed: float = 1.0  # recorded milliseconds a real millisecond
    loop: bool = True  # start the tape again at its end, with fresh markets
    markets: int = 0  # that live at a time where no tape is played; 0: by /admin only
    market_life_s: int = 900  # of a synthetic market, from its opening to its end
    liquidity: Liquidity = Liquidity()  # of synthetic markets
    leaders: str = "none"  # none, synthetic, synthetic:all, or synthetic:KIND,KIND (habits.py)
    crowd_size: int = 0  # leaders, of the kinds asked for; 0: one of each
    accounts: tuple[Funded, ...] = ()
    eoa_makers: bool = True  # False: an EOA may be a maker only where it is one of `accounts`
    bind_owner_on_first_order: bool = True  # an ownerless wallet belongs to its first valid signer

    tick: Price = Price(10_000)  # of markets that name none
    size_min: int = 5_000_000  # micro-shares; of every order, takers too (protocol.md 2.6)
    fee_rate: int = 70_000  # millionths: crypto's 0.07 (protocol.md 2.8)
    fee_exponent: int = 1
    fine_tick_at_extremes: bool = True  # 0.01 becomes 0.001 beyond 0.04 and 0.96

    taker_delay_ms: int = 0  # how long markets with the short taker delay hold a marketable order
    mined_delay_ms: int = 2_000  # from the match to the block to wait for; 0: no waiting at all
    confirmed_delay_ms: int = 5_000  # from the match to CONFIRMED
    block_ms: int = 1_500  # between two blocks; a trade is MINED when its block appears
    rtds_delay_ms: int = 2_000  # from the match to the activity stream
    data_api_delay_ms: int = 2_900  # from the match to /v2/activity and /v2/trades
    index_jitter_ms: int = 0  # rows of one moment appear up to this much later, out of order
    cdn: bool = True  # the same question to the Data API gets the same answer for up to 300 s
    gamma_close_delay_s: int = 300  # from a market's resolution to Gamma's ``closed``
    rtds_clock_lead_s: int = 1  # the stream's whole-second time runs ahead of the block's
    rtds_bare: bool = False  # activity frames without topic and type, as was seen in June 2026
    rtds_idle_s: int = 360  # an activity socket that sends no PING for so long hears nothing more
    socket_idle_s: int = 60  # a market or user socket that sends no PING for so long is closed
    socket_auth_s: int = 10  # as is a user socket that has not said who it is
    anonymous_rows: bool = True  # recorded depth's own fills appear in public feeds as a stranger's
    trades_kept: int = (
        500_000  # about a gigabyte; then the oldest quarter and its rows are forgotten
    )
    book_history: int = 0  # published books of a market kept for /admin/book-history
    rate_limits: Literal["off", "warn", "on"] = "on"  # warn: signers are told, nobody is refused
    rate_limit_wait_ms: int = 2_000  # the longest a request waits for its IP's window, before 429
    post_only_after_restart_s: int = 120  # how long takers have to wait after a restart
    cached_balances: bool = True  # deposits, splits and redemptions count after a look (1.7)
    order_ahead_max_s: int = 300  # how far an order's creation time may lie ahead of the clock
    gtd_ahead_min_s: int = 180  # the nearest expiration the venue takes
    gtd_removed_early_s: int = 60  # an order leaves the book this long before its expiration

    def __post_init__(self) -> None:
        kinds_of(self.leaders)
        if self.markets < 0 or self.crowd_size < 0 or self.market_life_s < 1:
            raise ValueError("markets and crowd_size are 0 or more, market_life_s 1 or more")
