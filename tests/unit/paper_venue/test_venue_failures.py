"""A settlement that fails takes with it what was built on it; wallets answer to their own type."""

from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from venue_bench import OWNER, Bench
from venue_build import ANN, ASKS, BIDS, BOB, CONDITION, FUNDS, T0, TOKENS, order, post, venue
from venue_caller import call

from services.paper_venue.__main__ import funded
from services.paper_venue.core import advance, execute_activity, set_depth
from services.paper_venue.core import resolve_market as resolve
from services.paper_venue.keyring import deposit_wallet, proxy_wallet, safe_wallet
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.state import Refused, Trade, Trouble, Venue, no_trouble
from shared.domain.units import MICRO, NS_PER_S, Shares, Usd


def failing(built: Venue) -> Trade:
    """Buy ten shares in a trade that will fail."""
    built.trouble = lambda trade: Trouble()
    (trade,) = post(built, order("0.5", "10", kind="FAK")).trades
    built.trouble = no_trouble
    return trade


def test_who_sold_what_a_failed_trade_brought_him_has_sold_nothing() -> None:
    built = venue()
    bought = failing(built)
    (sold,) = post(built, order("0.48", "10", side="SELL", kind="FAK")).trades
    advance(built, T0 + 60 * NS_PER_S)
    assert (bought.status, sold.status) == ("FAILED", "FAILED")
    assert built.ledger.cash[ANN] == built.ledger.settled_cash[ANN] == FUNDS
    assert built.ledger.tokens[ANN, TOKENS[0]] == built.ledger.holding(ANN, TOKENS[0]) == 0
    assert [row for row in built.rows if row.wallet == ANN] == [], "nor does the public see it"


def test_who_paid_with_what_a_failed_sale_brought_him_has_bought_nothing() -> None:
    built = venue()
    post(built, order("0.5", "10", kind="FAK"))
    advance(built, T0 + 10 * NS_PER_S)
    built.ledger.fund(ANN, Usd(-built.ledger.cash[ANN]))
    built.trouble = lambda trade: Trouble()
    (sold,) = post(built, order("0.48", "10", side="SELL", kind="FAK"), T0 + 10 * NS_PER_S).trades
    built.trouble = no_trouble
    (bought,) = post(built, order("0.53", "5", kind="FAK"), T0 + 10 * NS_PER_S).trades
    advance(built, T0 + 60 * NS_PER_S)
    assert (sold.status, bought.status) == ("FAILED", "FAILED")
    assert built.ledger.cash[ANN] == 0
    assert built.ledger.tokens[ANN, TOKENS[0]] == 10 * MICRO


def test_a_resting_sale_of_what_a_failed_trade_brought_is_cancelled() -> None:
    built = venue()
    failing(built)
    resting = order("0.9", "10", side="SELL")
    post(built, resting)
    advance(built, T0 + 60 * NS_PER_S)
    assert resting.status == "CANCELED_NOT_ENOUGH_BALANCE"


def test_what_is_sold_already_cannot_be_redeemed_as_well() -> None:
    built = venue()
    post(built, order("0.5", "10", kind="FAK"))
    advance(built, T0 + 10 * NS_PER_S)
    post(built, order("0.48", "6", side="SELL", kind="FAK"), T0 + 10 * NS_PER_S)
    resolve(built, CONDITION, (MICRO // 2, MICRO // 2), T0 + 10 * NS_PER_S)
    stamp = Stamp(T0 + 10 * NS_PER_S, new_tx(built))
    row = execute_activity(built, ANN, "REDEEM", CONDITION, Shares(10 * MICRO), stamp)
    assert (row.size, row.usd) == (4 * MICRO, 2 * MICRO)
    advance(built, T0 + 60 * NS_PER_S)
    assert built.ledger.tokens[ANN, TOKENS[0]] == built.ledger.holding(ANN, TOKENS[0]) == 0


def storm(seed: int) -> Venue:
    """Let two wallets of little means trade while settlements fail and are retried."""
    random = Random(seed)
    built, now_ns = venue(), T0
    for who in (ANN, BOB):
        built.ledger.fund(who, Usd(60 * MICRO - built.ledger.cash[who]))
    built.trouble = lambda _: random.choice(
        (None, None, None, Trouble(), Trouble(retry_ns=random.randrange(1, 8) * NS_PER_S))
    )
    for _ in range(80):
        with suppress(Refused):
            posted = order(
                random.choice(("0.47", "0.48", "0.49", "0.5", "0.53")),
                random.choice(("5", "10", "20")),
                wallet=random.choice((ANN, BOB)),
                side=random.choice(("BUY", "SELL", "SELL")),
                outcome=random.randrange(2),
                kind=random.choice(("GTC", "FAK")),
            )
            post(built, posted, now_ns)
        now_ns += random.randrange(3) * NS_PER_S
        advance(built, now_ns)
        set_depth(built, CONDITION, BIDS, ASKS, now_ns)
    built.trouble = no_trouble
    advance(built, now_ns + 60 * NS_PER_S)
    return built


def test_whatever_fails_nobody_owes_shares_or_dollars_in_the_end() -> None:
    states: Counter[str] = Counter()
    for seed in range(60):
        built = storm(seed)
        states.update(trade.status for trade in built.trades.values())
        ledger = built.ledger
        for who in (ANN, BOB):
            assert ledger.cash[who] == ledger.settled_cash[who] >= 0
            for token in TOKENS:
                assert ledger.tokens[who, token] == ledger.holding(who, token) >= 0
        first, second = (
            sum(size for (_, held), size in ledger.tokens.items() if held == token)
            for token in TOKENS
        )
        assert first == second
        assert sum(ledger.cash.values()) + first == FUNDS + 2 * 60 * MICRO
    assert set(states) == {"CONFIRMED", "FAILED"}
    assert min(states.values()) > 100, states


def derived() -> dict[int, str]:
    owner = bytes.fromhex(OWNER[2:])
    wallets = (proxy_wallet(owner), safe_wallet(owner), deposit_wallet(owner))
    return {kind: each.lower() for kind, each in enumerate(wallets, start=1)}


async def test_each_signature_type_shows_its_own_wallets_dollars(bench: Bench) -> None:
    for kind, each in derived().items():
        await bench.admin("fund", wallet=each, usd=str(kind * 100), owner=OWNER)
    for kind in (1, 2, 3):
        told = await call(
            bench, "GET", "/balance-allowance", asset_type="COLLATERAL", signature_type=str(kind)
        )
        assert told.body["balance"] == str(kind * 100 * MICRO)


async def test_a_wallet_of_unknown_make_answers_to_any_type_until_its_first_order(
    bench: Bench,
) -> None:
    await bench.admin("fund", wallet="0x" + "77" * 20, usd="50", owner=OWNER)
    for kind in ("1", "2", "3"):
        told = await call(
            bench, "GET", "/balance-allowance", asset_type="COLLATERAL", signature_type=kind
        )
        assert told.body["balance"] == str(50 * MICRO)


async def test_a_wallet_funded_with_a_type_answers_to_that_one_only(bench: Bench) -> None:
    for number, kind in enumerate((1, 2, 3), start=5):
        who = "0x" + f"{number}{number}" * 20
        await bench.admin("fund", wallet=who, usd=str(number), owner=OWNER, signature_type=kind)
    for number, kind in enumerate((1, 2, 3), start=5):
        told = await call(
            bench, "GET", "/balance-allowance", asset_type="COLLATERAL", signature_type=str(kind)
        )
        assert told.body["balance"] == str(number * MICRO)


def test_the_command_line_names_an_owner_and_a_type() -> None:
    who, owner = "0x" + "1" * 40, "0x" + "2" * 40
    assert funded(f"{who}=5").signature_type is None
    assert funded(f"{who}@{owner}=5").owner == owner
    told = funded(f"{who}@{owner}/2=5.5")
    assert (told.owner, told.signature_type, told.usd) == (owner, 2, 5_500_000)
    with pytest.raises(ValueError, match="signature_type"):
        funded(f"{who}@{owner}/4=5")
