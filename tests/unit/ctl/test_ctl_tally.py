"""The tally counts what the facts say, and its statistics are the ones it names."""

from typing import Any

import msgspec
import pytest

from services.ctl.figures import json_text
from services.ctl.summary import Summary, summary_json, summary_table
from services.ctl.tally import Tally, percentile, tally_json
from services.lab.replay import LaneReport
from shared.domain import messages as m
from shared.domain.ids import OrderHash
from shared.domain.units import Price, Usd
from shared.domain.views import FeedsView, FeedView
from tests.unit.ctl.ctl_everything import everything
from tests.unit.ctl.ctl_facts import (
    MS,
    ORDER,
    START_NS,
    Chain,
    approval,
    copied,
    fill,
    filled,
    intent,
    prepared,
    target,
)
from tests.unit.ctl.test_ctl_show import page_of


def tally_of(chain: Chain) -> Tally:
    tally = Tally()
    for fact in chain.facts:
        tally.hear(fact)
    return tally


def test_every_step_is_counted() -> None:
    counts = tally_of(copied()).counts
    assert counts["leader_fills"] == 2
    assert counts["intents"] == counts["approved"] == counts["orders"] == counts["accepted"] == 1
    assert counts["fills"] == counts["filled_orders"] == counts["refused"] == counts["trimmed"] == 1


def test_troubles_are_counted_by_reason() -> None:
    tally = tally_of(everything())
    assert tally.refused == {"BOOK_STALE": 1, "NO_DEPTH": 1}
    assert tally.rejected == {"killed": 1}
    assert tally.counts["unknown"] == tally.counts["failed_fills"] == 1
    assert tally.counts["corrections"] == 1


def test_what_leaders_trade_with_each_other_is_counted() -> None:
    tally = tally_of(everything())
    assert (tally.counts["leaders_netted"], tally.netted_usd) == (1, 2_500_000)
    allowed = next(fact for fact in copied().facts if isinstance(fact, m.OrderApproved))
    tally.hear(msgspec.structs.replace(allowed, nets=True))
    assert (tally.counts["approved"], tally.counts["netting_orders"]) == (2, 1)
    page = page_of(summary_table(summary(tally=tally)))
    assert "1 times, $2.50, without an order; 1 orders against what other leaders hold" in page


def test_putting_a_size_on_the_grid_is_no_trim() -> None:
    chain = copied()
    allowed = next(fact for fact in chain.facts if isinstance(fact, m.OrderApproved))
    grid = tuple(msgspec.structs.replace(v, reason="GRID") for v in allowed.verdicts)
    tally = Tally()
    tally.hear(msgspec.structs.replace(allowed, verdicts=grid))
    assert tally.counts["approved"] == 1
    assert tally.counts["trimmed"] == 0


def order_of(
    chain: Chain, at_ms: int, fills: list[tuple[int, int]], expected: int | None
) -> m.OrderPrepared:
    """Add one order with its fills (price, size) to a chain."""
    allowed = approval(chain, target(chain, intent(chain, [fill(chain, at_ms)], at_ms), at_ms), 0)
    name = OrderHash(ORDER[:-4] + f"{at_ms:04x}")
    order = prepared(chain, allowed, at_ms + 500, order=name)
    average = None if expected is None else Price(expected)
    quote = msgspec.structs.replace(order.quote, average=average)
    chain.facts[-1] = order = msgspec.structs.replace(order, quote=quote)
    for price, size in fills:
        filled(chain, order, at_ms + 600, price=price, size=size)
    return order


def test_slippage_is_weighted_by_dollars_and_rounded_against_us() -> None:
    """The leader paid 0.50: one order at +200 bps for $51, one at -100 bps for $9.90."""
    chain = Chain()
    order_of(chain, 0, [(510_000, 100_000_000)], 505_000)
    order_of(chain, 1_000, [(495_000, 20_000_000)], 495_000)
    found = tally_of(chain).slippage()
    assert found.orders == 2
    # (200 * 51 - 100 * 9.9) / 60.9 = 151.2, (100 * 51 - 100 * 9.9) / 60.9 = 67.5
    assert found.realised_bps == 152
    assert found.estimated_bps == 68
    # 0.51 against 0.505 is 99.01, rounded up to 100; the other order met its estimate
    assert found.against_estimate_bps == 84


def test_slippage_of_several_fills_is_of_their_average() -> None:
    chain = Chain()
    order_of(chain, 0, [(500_000, 10_000_000), (520_000, 10_000_000)], 510_000)
    found = tally_of(chain).slippage()
    assert (found.realised_bps, found.against_estimate_bps) == (200, 0)


def test_orders_that_did_not_fill_have_no_slippage() -> None:
    chain = Chain()
    order_of(chain, 0, [], 510_000)
    found = tally_of(chain).slippage()
    assert (found.orders, found.estimated_bps, found.realised_bps) == (0, None, None)


def test_a_fill_without_an_estimate_counts_as_realised_only() -> None:
    chain = Chain()
    order_of(chain, 0, [(510_000, 10_000_000)], None)
    found = tally_of(chain).slippage()
    assert (found.estimated_bps, found.realised_bps, found.orders) == (None, 200, 1)


def test_latency_counts_from_when_the_fill_was_seen() -> None:
    """Seen at 400 ms, on record at 2,310 ms, accepted at 2,360 ms, intended at 1,200 ms."""
    tally = tally_of(copied())
    assert tally.latency_ns("seen_to_prepared", 50) == (2_310 - 400) * MS
    assert tally.latency_ns("seen_to_accepted", 99) == (2_360 - 400) * MS
    assert tally.latency_ns("intent_to_prepared", 50) == (2_310 - 1_200) * MS
    assert tally.latencies("seen_to_prepared") == 1


def test_a_retry_is_no_latency() -> None:
    chain = copied()
    again = next(fact for fact in chain.facts if isinstance(fact, m.OrderApproved))
    prepared(chain, again, 9_000, order=OrderHash(ORDER[:-1] + "0"))
    tally = tally_of(chain)
    assert tally.latencies("seen_to_prepared") == 1
    assert tally.latency_ns("seen_to_prepared", 99) == (2_310 - 400) * MS


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, None), ([7], 1, 7), ([7], 99, 7), ([1, 2], 50, 1), ([1, 2, 3], 50, 2),
        (list(range(1, 101)), 99, 99), (list(range(1, 101)), 50, 50), (list(range(1, 11)), 99, 10),
    ],
)  # fmt: skip
def test_percentiles(values: list[int], percent: int, expected: int | None) -> None:
    assert percentile(values, percent) == expected


def feeds(now_ns: int, heard_ns: int) -> FeedsView:
    feed = FeedView(name="activity", state="connected", heard_ns=heard_ns)
    return FeedsView(as_of_ns=now_ns, feeds=(feed,))


def test_the_worst_silence_of_a_feed_is_kept() -> None:
    tally = Tally()
    for silent_ms in (100, 900, 300):
        tally.watch(feeds(START_NS, START_NS - silent_ms * MS), START_NS)
    tally.watch(feeds(START_NS, 0), START_NS)  # not heard yet: no silence
    assert tally.silence_ns == {"activity": 900 * MS}


def report(verdict: Any = "identical", **fields: Any) -> LaneReport:
    common = {"messages": 3, "facts": 4, "bytes": 5, "said": 6, "duration_ns": MS}
    return LaneReport(**{"service": "risk", "partition": 0, "verdict": verdict, **common, **fields})


def summary(**fields: Any) -> Summary:
    return Summary(
        **{
            "seconds": 60,
            "tally": tally_of(everything()),
            "drift_usd": Usd(1_250_000),
            "memory": {"risk": 50 << 20, "executor": 70 << 20},
            "restarts": {"risk": 1},
            "reports": (report(service="ledger"), report()),
            "attribution": "books by somebody; the leaders are synthetic",
            "quiet_ms": 500,
            **fields,
        }
    )


def test_the_summary_for_machines_has_stable_keys() -> None:
    told = msgspec.json.decode(json_text(summary_json(summary())))
    assert set(told) == {
        "seconds", "leader_fills", "intents", "netted_windows", "approved", "trimmed", "refused",
        "declined", "orders", "accepted", "rejected", "unknown", "fills", "filled_orders",
        "failed_fills", "closed", "corrections", "partly_filled_orders", "refused_by_reason",
        "rejected_by_reason", "shortfall", "filled_usd", "fees_usd", "slippage", "latency_ms",
        "feed_silence_max_ms", "drift_usd", "memory_bytes", "restarts", "verified",
        "processes_left", "attribution", "leaders_netted", "netting_orders", "leaders_netted_usd",
    }  # fmt: skip
    assert told["drift_usd"] == 1.25
    assert told["filled_usd"] == 10.3
    assert told["memory_bytes"]["total"] == 120 << 20
    assert told["verified"] == {"identical": True, "lanes": 1, "facts": 4}
    assert told["latency_ms"]["seen_to_prepared"] == {"count": 1, "p50": 1910, "p99": 1910}


def test_an_empty_run_has_a_summary_too() -> None:
    told = tally_json(Tally())
    assert told["orders"] == 0
    assert told["latency_ms"]["seen_to_accepted"] == {"count": 0, "p50": None, "p99": None}
    page = page_of(summary_table(summary(tally=Tally(), reports=(), drift_usd=None)))
    assert "nothing was filled" in page
    assert "unknown; 0 corrections" in page


def test_the_summary_for_people_says_it_all() -> None:
    page = page_of(summary_table(summary()))
    for part in (
        "60 seconds", "BOOK_STALE 1, NO_DEPTH 1", "realised +300 bps", "$1.25; 1 corrections",
        "p50 1,910 ms, p99 1,910 ms of 1", "120 MiB resident", "risk 1x",
        "1 lanes rebuilt and identical, byte for byte: 4 facts", "books by somebody",
    ):  # fmt: skip
        assert part in page, part


def test_a_lane_that_differs_spoils_the_summary() -> None:
    assert not summary(reports=(report(service="ledger"), report("differs"))).identical
