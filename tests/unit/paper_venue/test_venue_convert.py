"""Conversions and redemptions; and whatever anybody asks, dollars and shares are conserved."""

from contextlib import suppress
from random import Random

import msgspec
import pytest
from venue_bench import OWNER, Bench
from venue_build import ANN, BOB, CAT, FUNDS, MARKET, T0, levels, order

from services.paper_venue.balances import allow, look, spender_of
from services.paper_venue.config import Funded, VenueConfig
from services.paper_venue.convert import ADAPTER, convert
from services.paper_venue.core import (
    advance,
    execute_activity,
    fund,
    new_venue,
    open_market,
    resolve_market,
    set_depth,
)
from services.paper_venue.heartbeat import StaleBeatError, beat
from services.paper_venue.markets import change_tick, clear_orders, set_trading
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.state import Listing, Refused, Venue
from services.paper_venue.tape import invented_condition, invented_token
from services.paper_venue.trading import cancel_orders, post_order
from shared.domain.ids import ConditionId, Wallet
from shared.domain.units import (
    MICRO,
    NS_PER_S,
    Price,
    Shares,
    Usd,
    cost_up,
    format_micro,
    parse_micro,
)

WALLETS = (ANN, BOB, CAT)
SLUGS = ("red", "green", "blue")
CONDITIONS = tuple(invented_condition(slug) for slug in SLUGS)
BOTH = (MICRO // 2, MICRO // 2)
KINDS = ("GTC", "FAK", "FOK")
OF_WALLETS = ("post", "activity", "convert", "fund", "allow", "look", "beat")
OTHERS = ["fund", "allow", "look", "tick", "trading", "delay", "resolve", "beat"]


def event_venue() -> Venue:
    """Return a venue with one neg-risk event of three markets."""
    accounts = tuple(Funded(wallet=who, usd=FUNDS) for who in WALLETS)
    built = new_venue(VenueConfig(accounts=accounts, cached_balances=False))
    for slug in SLUGS:
        market = msgspec.structs.replace(
            MARKET,
            slug=slug,
            condition=invented_condition(slug),
            tokens=(invented_token(slug, 0), invented_token(slug, 1)),
            neg_risk=True,
            event="colours",
        )
        open_market(built, market, T0)
        bids, asks = levels(("0.3", "40")), levels(("0.35", "40"))
        set_depth(built, market.condition, bids, asks, T0)
    return built


def stamp(built: Venue, now_ns: int = T0) -> Stamp:
    return Stamp(now_ns, new_tx(built))


def shares(number: int) -> Shares:
    return Shares(number * MICRO)


def split(built: Venue, who: Wallet, condition: ConditionId, size: Shares) -> None:
    execute_activity(built, who, "SPLIT", condition, size, stamp(built))


def held(built: Venue, who: Wallet) -> list[tuple[int, int]]:
    """Return what a wallet holds of each market, in whole shares: YES, NO."""
    return [
        tuple(built.ledger.holding(who, token) // MICRO for token in listing.market.tokens)
        for listing in built.listings.values()
    ]


def check_conserved(built: Venue, funded: int) -> None:
    """Every share has its counterpart, and dollars with what shares are worth stay the same."""
    ledger, worth = built.ledger, 0
    for listing in built.listings.values():
        tokens = listing.market.tokens
        totals = [
            sum(size for (_, token), size in ledger.tokens.items() if token == name)
            for name in tokens
        ]
        if listing.payouts is None:
            assert totals[0] == totals[1]
            worth += totals[0] * MICRO
        else:
            worth += sum(
                total * payout for total, payout in zip(totals, listing.payouts, strict=True)
            )
    assert sum(ledger.cash.values()) * MICRO + worth == funded * MICRO


@pytest.mark.parametrize(("count", "dollars", "yes"), [(1, 0, 10), (2, 10, 10), (3, 20, None)])
def test_no_shares_of_n_markets_become_yes_of_the_others_and_dollars(
    count: int, dollars: int, yes: int | None
) -> None:
    built = event_venue()
    for condition in CONDITIONS[:count]:
        split(built, ANN, condition, shares(10))
    cash = built.ledger.cash[ANN]
    rows = convert(built, ANN, CONDITIONS[:count], shares(10), stamp(built))
    assert built.ledger.cash[ANN] == built.ledger.settled_cash[ANN] == cash + dollars * MICRO
    assert held(built, ANN) == [(10, 0)] * count + [(yes, 0)] * (3 - count)
    assert [(row.kind, row.condition, row.token) for row in rows] == [
        ("CONVERSION", condition, None) for condition in CONDITIONS[:count]
    ]
    assert [row.usd for row in rows] == [dollars * MICRO] + [0] * (count - 1)
    assert built.rows_of[ANN][-count:] == list(rows)
    check_conserved(built, 3 * FUNDS)


def test_a_conversion_costs_nobody_anything_whoever_wins() -> None:
    for winner in range(3):
        built = event_venue()
        for condition in CONDITIONS[:2]:
            split(built, ANN, condition, shares(10))
        convert(built, ANN, CONDITIONS[:2], shares(10), stamp(built))
        for place, condition in enumerate(CONDITIONS):
            payouts = (MICRO, 0) if place == winner else (0, MICRO)
            resolve_market(built, condition, payouts, T0)
            for who in (ANN, ADAPTER):
                execute_activity(built, who, "REDEEM", condition, shares(30), stamp(built))
        assert built.ledger.cash[ADAPTER] == 0
        assert built.ledger.cash[ANN] == FUNDS


@pytest.mark.parametrize(
    ("places", "size", "words"),
    [
        ((0,), 11, "does not hold"),
        ((0, 1), 10, "does not hold"),
        ((0, 0), 10, "market not found"),
        ((), 10, "market not found"),
    ],
)
def test_what_is_not_held_is_not_converted(places: tuple[int, ...], size: int, words: str) -> None:
    built = event_venue()
    split(built, ANN, CONDITIONS[0], shares(10))
    before = dict(built.ledger.tokens)
    with pytest.raises(Refused, match=words):
        convert(built, ANN, [CONDITIONS[each] for each in places], shares(size), stamp(built))
    assert dict(built.ledger.tokens) == before


def test_only_markets_of_one_open_neg_risk_event_convert() -> None:
    built = event_venue()
    alone = msgspec.structs.replace(MARKET, event="")
    open_market(built, alone, T0)
    split(built, ANN, alone.condition, shares(10))
    split(built, ANN, CONDITIONS[0], shares(10))
    for conditions in ([alone.condition], [CONDITIONS[0], alone.condition]):
        with pytest.raises(Refused, match="one neg-risk event"):
            convert(built, ANN, conditions, shares(10), stamp(built))
    resolve_market(built, CONDITIONS[2], (0, MICRO), T0)
    with pytest.raises(Refused, match="is resolved"):
        convert(built, ANN, CONDITIONS[:1], shares(10), stamp(built))


def test_an_order_that_sold_the_converted_shares_is_cancelled() -> None:
    built = event_venue()
    split(built, ANN, CONDITIONS[0], shares(10))
    selling = place(built, ANN, "SELL", 1, "0.9", "10", 0)
    assert selling.status == "LIVE"
    convert(built, ANN, CONDITIONS[:1], shares(10), stamp(built))
    assert selling.status == "CANCELED_NOT_ENOUGH_BALANCE"


@pytest.mark.parametrize(("payouts", "dollars"), [((MICRO, 0), 10), ((0, MICRO), 4), (BOTH, 7)])
def test_a_redemption_pays_what_each_outcome_is_worth(
    payouts: tuple[int, int], dollars: int
) -> None:
    built = event_venue()
    listing = built.listings[CONDITIONS[0]]
    split(built, ANN, CONDITIONS[0], shares(10))
    place(built, ANN, "SELL", 1, "0.65", "6", 0, kind="FAK")
    advance(built, T0 + 60 * NS_PER_S)
    cash = built.ledger.cash[ANN]
    with pytest.raises(Refused, match="nothing to redeem"):
        execute_activity(built, ANN, "REDEEM", CONDITIONS[0], shares(10), stamp(built))
    resolve_market(built, CONDITIONS[0], payouts, T0)
    row = execute_activity(built, ANN, "REDEEM", CONDITIONS[0], shares(10), stamp(built))
    assert (row.kind, row.usd) == ("REDEEM", dollars * MICRO)
    assert built.ledger.cash[ANN] == built.ledger.settled_cash[ANN] == cash + dollars * MICRO
    assert [built.ledger.holding(ANN, token) for token in listing.market.tokens] == [0, 0]
    with pytest.raises(Refused, match="nothing to redeem"):
        execute_activity(built, ANN, "REDEEM", CONDITIONS[0], shares(10), stamp(built))
    check_conserved(built, 3 * FUNDS)


async def test_the_operator_converts_and_the_data_api_tells(bench: Bench) -> None:
    markets = [
        await bench.admin("market", slug=slug, neg_risk=True, event="colours") for slug in SLUGS
    ]
    conditions = [market["condition"] for market in markets]
    for condition in conditions[:2]:
        await bench.admin("activity", wallet=OWNER, type="SPLIT", condition=condition, size="5")
    done = await bench.admin("convert", wallet=OWNER, conditions=conditions[:2], size="5")
    assert [row["type"] for row in done["rows"]] == ["CONVERSION", "CONVERSION"]
    await bench.pass_ms(5_000)
    told = (await bench.get("/v2/activity", user=OWNER, type="CONVERSION"))["data"]
    assert {row["condition_id"] for row in told} == set(conditions[:2])
    assert all((row["token_id"], row["side"], row["size"]) == ("", "", 5) for row in told)
    assert sum(row["usdc_size"] for row in told) == 5
    assert {row["transaction_hash"] for row in told} == {done["tx"]}
    refused = await bench.admin("convert", wallet=OWNER, conditions=conditions[:2], size="5")
    assert refused == {"error": "the wallet does not hold the NO shares to convert"}


def place(
    built: Venue,
    who: Wallet,
    side: str,
    outcome: int,
    price: str,
    size: str,
    market: int,
    kind: str = "GTC",
) -> object:
    listing = built.listings[CONDITIONS[market]]
    posted = order(price, size, wallet=who, side=side, outcome=outcome, kind=kind)
    posted.condition, posted.token = CONDITIONS[market], listing.market.tokens[outcome]
    post_order(built, posted, cost_up(posted.price, posted.size), T0)
    return posted


def any_call(random: Random) -> tuple:
    """Draw a call that may well be refused."""
    who, number = random.choice(WALLETS), random.randrange(3)
    size = format_micro(random.choice([10_000, random.randrange(1, 3_000) * 10_000, 5 * MICRO]))
    price = format_micro(random.choice([random.randrange(101), random.randrange(28, 38)]) * 10_000)
    kind = random.choice(
        ["post"] * 8 + ["activity"] * 2 + ["convert", "wait", "cancel"] * 2 + OTHERS
    )
    pick = random.choice
    told: dict[str, tuple] = {
        "post": (pick(["BUY", "SELL"]), random.randrange(2), price, size, number, pick(KINDS)),
        "activity": (pick(["SPLIT", "SPLIT", "MERGE", "REDEEM"]), number, size),
        "convert": (random.choices(range(3), k=random.randrange(4)), size),
        "fund": (pick([-9_000, -100, 0, 5_000]),),
        "allow": (pick([0, 10 * MICRO, 1 << 256, 1 << 256]),),
        "look": (),
        "beat": (pick(["", "stale"]),),
        "cancel": (random.randrange(30),),
        "wait": (random.randrange(1, 12),),
        "tick": (number, pick([1_000, 10_000, 30_000])),
        "trading": (number, random.random() < 0.8, random.random() < 0.5),
        "delay": (number, random.randrange(3)),
        "resolve": (number, pick([(MICRO, 0), (0, MICRO), BOTH])),
    }
    if kind == "resolve" and random.random() < 0.9:
        kind = "wait"
    named = (who,) if kind in OF_WALLETS else ()
    return (kind, *named, *told[kind])


def ask(built: Venue, call: tuple, now_ns: int) -> tuple[int, int]:
    """Make one call, legal or not; returns the time after it and the dollars it brought in."""
    match call:
        case ("fund", wallet, dollars):
            fund(built, Funded(wallet=wallet, usd=Usd(dollars * MICRO)), now_ns)
            return now_ns, dollars * MICRO
        case ("wait", seconds):
            advance(built, now_ns + seconds * NS_PER_S)
            return now_ns + seconds * NS_PER_S, 0
        case ("tick" | "trading" | "delay" | "resolve", number, *told):
            operate(built, call[0], built.listings[CONDITIONS[number]], told, now_ns)
        case _:
            trade(built, call, now_ns)
    return now_ns, 0


def operate(built: Venue, what: str, listing: Listing, told: list, now_ns: int) -> None:
    match what:
        case "tick":
            change_tick(built, listing, Price(told[0]), now_ns)
        case "trading":
            set_trading(listing, accepts=told[0])
            if told[1]:
                clear_orders(built, listing, now_ns)
        case "delay":
            listing.seconds_delay = told[0]
        case "resolve":
            resolve_market(built, listing.market.condition, told[0], now_ns)


def trade(built: Venue, call: tuple, now_ns: int) -> None:
    match call:
        case ("post", *terms):
            place(built, *terms)
        case ("activity", wallet, kind, number, size):
            amount = Shares(parse_micro(size))
            execute_activity(built, wallet, kind, CONDITIONS[number], amount, stamp(built))
        case ("convert", wallet, numbers, size):
            conditions = [CONDITIONS[number] for number in numbers]
            convert(built, wallet, conditions, Shares(parse_micro(size)), stamp(built))
        case ("cancel", number):
            owners = {f"key-{wallet[2:5]}" for wallet in WALLETS}
            cancel_orders(built, owners, list(built.orders)[number : number + 2], now_ns)
        case ("allow", wallet, amount):
            allow(built, wallet, spender_of(built.listings[CONDITIONS[0]].market), amount)
        case ("look", wallet):
            look(built, wallet, None)
        case ("beat", wallet, named):
            beat(built, f"key-{wallet[2:5]}", named, now_ns)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_asked_dollars_and_shares_are_conserved(seed: int) -> None:
    random = Random(seed)
    built, now_ns, funded = event_venue(), T0, 3 * FUNDS
    for _ in range(200):
        with suppress(Refused, StaleBeatError):
            now_ns, brought = ask(built, any_call(random), now_ns)
            funded += brought
        check_conserved(built, funded)
    advance(built, now_ns + 60 * NS_PER_S)
    check_conserved(built, funded)
    for wallet in WALLETS:
        check_reserves(built, wallet)
        assert built.ledger.settled_cash[wallet] == built.ledger.cash[wallet]


def check_reserves(built: Venue, wallet: Wallet) -> None:
    """What is reserved is what resting orders can cost or give away."""
    for token in (None, *built.by_token):
        reserved = sum(
            cost_up(each.price, each.left) if token is None else each.left
            for each in built.orders.values()
            if each.wallet == wallet
            and each.status == "LIVE"
            and (
                each.side == "BUY" if token is None else (each.side, each.token) == ("SELL", token)
            )
        )
        assert built.ledger.reserved[wallet, token] == reserved
