"""What the signed numbers of an order may be: decimals by the tick, prices, times and salts."""

from typing import Any

import pytest
from py_clob_client_v2.config import get_contract_config
from py_clob_client_v2.order_utils import ExchangeOrderBuilderV2, OrderV2, SignatureTypeV2
from py_clob_client_v2.order_utils import Side as SdkSide
from venue_bench import SIGNER, Bench
from venue_caller import call, order_of

from services.paper_venue.amounts import amount_decimals, signed_price
from services.paper_venue.state import Refused
from shared.domain.units import MICRO, Price, Shares, Usd

SCALES = ((100_000, 3), (10_000, 4), (5_000, 5), (2_500, 6), (1_000, 5), (100, 6))


def resigned(body: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Return a body with other numbers, signed again by the same key."""
    signed = {**body["order"], **changed}
    config = get_contract_config(137)
    builder = ExchangeOrderBuilderV2(config.exchange_v2, 137, SIGNER, domain_version="2")
    order = OrderV2(
        salt=str(signed["salt"]),
        maker=signed["maker"],
        signer=signed["signer"],
        tokenId=signed["tokenId"],
        makerAmount=str(signed["makerAmount"]),
        takerAmount=str(signed["takerAmount"]),
        side=SdkSide.BUY if signed["side"] == "BUY" else SdkSide.SELL,
        signatureType=SignatureTypeV2(signed["signatureType"]),
        timestamp=str(signed["timestamp"]),
        metadata=signed["metadata"],
        builder=signed["builder"],
    )
    try:
        signature = builder.build_order_signature(builder.build_order_typed_data(order))
    except ValueError:  # not a number: no client could sign it
        signature = signed["signature"]
    return {**body, "order": {**signed, "signature": signature}}


@pytest.mark.parametrize(("tick", "decimals"), SCALES)
def test_the_dollars_decimals_follow_the_tick(tick: int, decimals: int) -> None:
    assert amount_decimals(Price(tick)) == decimals


@pytest.mark.parametrize(
    ("kind", "gives", "gets", "words"),
    [
        ("GTC", 500_090_000, 1_000 * MICRO, r"Price \(0.50009\) breaks minimum tick size rule"),
        ("GTC", 4_530_000, 10_010_000, "breaks minimum tick size rule"),
        ("GTC", 4_504_500, 10_010_000, ""),
        ("GTC", 2_250_450, 5_001_000, "max accuracy of 4 decimals, taker amount a max of 2"),
        ("FAK", 5_000_000, 10 * MICRO, ""),
        ("FAK", 5_000_000, 9_803_900, ""),  # five dollars at 0.51: shares rounded down
        ("FAK", 5_000_000, 9_803_921, "max accuracy of 2 decimals, taker amount a max of 4"),
        ("FAK", 5_000_000, 9_790_000, "breaks minimum tick size rule"),
        ("FAK", 5_000_100, 10 * MICRO, "max accuracy of 2 decimals"),
    ],
)
async def test_amounts_have_so_many_decimals_and_mean_a_price_of_the_grid(
    bench: Bench, kind: str, gives: int, gets: int, words: str
) -> None:
    body = resigned(order_of(bench, kind), makerAmount=str(gives), takerAmount=str(gets))
    told = await call(bench, "POST", "/order", body)
    assert (told.status == 200) == (not words), told.body
    if words:
        with pytest.raises(Refused, match=words):
            raise Refused(told.body["error"])


@pytest.mark.parametrize(
    "changed",
    [
        {"makerAmount": "4_500_000"},
        {"makerAmount": " 4500000"},
        {"takerAmount": "+10000000"},
        {"takerAmount": "9" * 90},
        {"makerAmount": "-1"},
        {"makerAmount": "0"},
        {"timestamp": "0"},
        {"timestamp": "1793318400"},
        {"timestamp": "1793318400_000"},
        {"timestamp": "1793318400000000"},
        {"salt": "12345"},
        {"salt": 2**53 + 2},
        {"salt": -1},
        {"signatureType": "0"},
        {"expiration": "x"},
    ],
)
async def test_numbers_that_no_client_sends_are_refused(bench: Bench, changed: dict) -> None:
    body = order_of(bench)
    told = await call(bench, "POST", "/order", {**body, "order": {**body["order"], **changed}})
    assert (told.status, told.body) == (400, {"error": "Invalid order payload"})


async def test_an_order_is_not_from_the_future(bench: Bench) -> None:
    ahead_ms = bench.clock.ns // 1_000_000 + bench.shell.venue.config.order_ahead_max_s * 1_000
    for late_ms, status in ((0, 200), (1, 400)):
        body = resigned(order_of(bench), timestamp=str(ahead_ms + late_ms))
        assert (await call(bench, "POST", "/order", body)).status == status


async def test_an_order_on_record_stays_a_duplicate_when_the_grid_has_changed(
    bench: Bench,
) -> None:
    body = order_of(bench, price=0.45)
    assert (await call(bench, "POST", "/order", body)).status == 200
    await bench.admin("tick", condition=bench.condition, tick="0.1")
    told = await call(bench, "POST", "/order", body)
    assert "is invalid. Duplicated." in told.body["error"]


@pytest.mark.parametrize("tick", [tick for tick, _ in SCALES])
@pytest.mark.parametrize("buys", [True, False])
def test_what_the_clients_round_is_read_as_the_price_they_meant(tick: int, *, buys: bool) -> None:
    """As protocol.md 2.5 rounds: shares of a market buy down, everything else exact."""
    unit = 10 ** (6 - amount_decimals(Price(tick)))
    for price in range(tick, MICRO, max(tick, 7 * tick)):
        for cents in (100, 199, 1_234, 99_999):
            if buys:
                dollars = cents * 10_000
                shares = dollars * MICRO // price // unit * unit
            else:
                shares = cents * 10_000
                dollars = price * shares // MICRO
                assert dollars * MICRO == price * shares
            read = signed_price(Usd(dollars), Shares(shares), Price(tick), rounded=buys)
            assert read == price
