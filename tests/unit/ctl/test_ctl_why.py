"""`why` finds the whole story from any id in it, and says every number in human units."""

import io
import re
from typing import Any

import msgspec
import pytest
from rich.console import Console

from services.ctl import why
from services.ctl.errors import CtlError
from services.ctl.figures import Names, json_text
from services.ctl.story import Log, Told, walk
from shared.domain import messages as m
from shared.domain.ids import OrderHash
from shared.domain.units import Price, Shares
from tests.unit.ctl.ctl_everything import everything
from tests.unit.ctl.ctl_facts import (
    CONDITION,
    LEADER,
    MARKET,
    ORDER,
    TRADE,
    TX,
    YES,
    Chain,
    approval,
    copied,
    correction,
    count,
    fill,
    intent,
    prepared,
    target,
)


def log_of(chain: Chain) -> Log:
    return Log(Told(seq, fact) for seq, fact in enumerate(chain.facts, start=1))


def names() -> Names:
    known = Names({LEADER: "Ann"})
    known.learn(MARKET)
    return known


def shown(chain: Chain, identity: str) -> str:
    log = log_of(chain)
    match, story = why.explained(log, identity)
    page = Console(file=io.StringIO(), width=240, highlight=False)
    page.print(why.story_tree(log, match, story, names()))
    assert isinstance(page.file, io.StringIO)
    return page.file.getvalue()


def ids_in(chain: Chain) -> list[tuple[str, str]]:
    return [(m.kind_of(fact), fact.id) for fact in chain.facts]


async def test_the_ledger_is_read_whole() -> None:
    chain = everything()
    ledger = await chain.ledger()
    ledger.inject("driftless.risk.odd.00.facts", b"not json")
    log = await why.read_log(ledger)
    assert [told.fact for told in log.facts] == chain.facts
    assert log.facts[-1].seq == len(chain.facts)


@pytest.mark.parametrize(("kind", "identity"), ids_in(copied()))
def test_every_fact_of_a_chain_leads_to_the_same_story(kind: str, identity: str) -> None:
    chain = copied()
    _, story = why.explained(log_of(chain), identity)
    assert isinstance(story.trunk.told.fact, m.IntentFormed), kind
    told = {told.fact.id for told in walk(story.trunk)} | {f.fact.id for f in story.fills}
    counted = {fact.id for fact in chain.facts if isinstance(fact, m.FillCounted)}
    assert told | counted == {fact.id for fact in chain.facts}


@pytest.mark.parametrize("identity", [ORDER, ORDER[:8], ORDER[2:9], TRADE, TRADE[:6], TX, TX[2:10]])
def test_orders_trades_and_transactions_have_names_too(identity: str) -> None:
    _, story = why.explained(log_of(copied()), identity)
    assert len(story.fills) == 2


def test_a_redemption_is_told_from_its_transaction_back_to_the_markets_end() -> None:
    page = shown(everything(), "0x5e5e5e")
    for part in (
        "closed 20.00 Rain of will-it-rain, now a claim: Rain pays $1.00",
        "redeeming $20.00 of will-it-rain",
        "redeeming will-it-rain failed: wallet busy; again after 0 ms if the claim still stands",
        "redeeming $20.00 of will-it-rain, attempt 2",
        "redeemed will-it-rain: transaction 0x5e5e",
    ):
        assert part in page, part


def test_a_page_says_every_step_with_its_numbers_in_human_units() -> None:
    page = shown(copied(), ORDER)
    for part in (
        "the leader's fills (2)",
        "Ann bought 60.00 Rain of will-it-rain at $0.50 = $30.00 (seen 400 ms later by stream)",
        "exposure 0.00 -> 100.00 shares, 2 fills worth $50.00",
        "refused buy 20.00 in will-it-rain: BOOK_STALE 9,000 ms, limit 5,000 ms; tried again",
        "approved BUY 20.00 Rain of will-it-rain at $0.52 or better, at most $10.80",
        "trimmed by trade ($60.00 of $50.00) to 20.00 shares",
        "book: bid $0.49, ask $0.51, 400.00 shares within the limit, 120 ms old",
        "expected $0.5125, +250 bps to the leader",
        "accepted (matched) in 48 ms",
        "we bought 20.00 Rain of will-it-rain at $0.515 = $10.30, fee $0.35",
        "slippage: +300 bps to the leader's price, +49 bps to the estimate",
        "booked +20.00 Rain of will-it-rain to Ann, realised $0.25",
        "fill of 20.00 MINED",
        "closed: filled, 20.00 filled",
    ):
        assert part in page, part
    assert "price_moved  pass     200 bps (2.00 %)  500 bps (5.00 %)   24.00" in page
    assert "trade        trim               $60.00            $50.00   20.00   -4.00  TRADE" in page
    assert "levels: 15.00 at $0.51, 385.00 at $0.52" in page
    assert "counts for $10.80 of Ann's cap and $10.80 of the account's; takes at most" in page


def cells(page: str, rule: str) -> list[str]:
    """Return the cells of a rule's line, as columns stand two spaces or more apart."""
    (line,) = [line for line in page.splitlines() if f" {rule} " in line and "  " in line]
    return [cell for cell in re.split(r"\s{2,}", line.strip(" │├└─")) if cell]


def test_a_target_is_explained_step_by_step() -> None:
    page = shown(copied(), ORDER)
    assert cells(page, "fixed") == [
        "fixed", "sized", "$12.50 an intent, at his $0.50", "25.00", "$12.50",
    ]  # fmt: skip
    assert cells(page, "leader_added")[1:] == [
        "pass", "no more than the 100.00 shares he added", "25.00", "$12.50",
    ]  # fmt: skip
    assert cells(page, "trade_cap")[2] == "$12.50 at his price, at most $50.00 a trade"
    assert cells(page, "volatility")[1:] == [
        "less", "the mid moves 0.025 log-odds/√s, calm is 0.02 log-odds/√s: times 80.00 %",
        "20.00", "-5.00", "$10.00",
    ]  # fmt: skip
    assert cells(page, "slippage")[2] == "orders came 0.12 % better than estimated, budget 1.00 %"
    assert cells(page, "depth_share")[2] == (
        "400.00 shares offered near the best, our share 200.00"
    )


def test_a_correction_of_the_leader_leads_to_what_it_closed() -> None:
    """An intent may stand on a correction instead of a fill."""
    chain = Chain()
    corrected = chain.say(
        m.LeaderCorrected, 0, leader=LEADER, condition=CONDITION, yes=Shares(-5), no=Shares(0),
        probable_cause="conversion", yes_price=Price(500_000),
    )  # fmt: skip
    meant = intent(chain, [fill(chain, 5)], 10)
    chain.facts[-1] = meant = msgspec.structs.replace(meant, cause="", fills=(corrected.id,))
    _, story = why.explained(log_of(chain), corrected.id)
    assert story.trunk.told.fact is meant
    assert [told.fact for told in story.fills] == [corrected]


def test_leaders_who_traded_with_each_other_are_a_story_too() -> None:
    chain = everything()
    netted = next(fact for fact in chain.facts if isinstance(fact, m.LeadersNetted))
    _, story = why.explained(log_of(chain), netted.id)
    assert [type(told.fact) for told in walk(story.trunk)] == [m.LeadersNetted, m.HoldingChanged]


def test_times_are_told_from_the_leaders_first_fill() -> None:
    lines = shown(copied(), ORDER).splitlines()
    (line,) = [line for line in lines if "order_prepared" in line]
    assert "+2,310 ms" in line
    assert line.endswith("<- asked for") or "<- asked for" in line
    assert sum("<- asked for" in each for each in lines) == 1


def test_a_correction_of_what_was_traded_is_part_of_the_story() -> None:
    page = shown(everything(), ORDER)
    assert "later corrections of what was traded" in page
    assert "position corrected -20.00 Rain of will-it-rain: sold outside" in page


def test_a_correction_before_the_order_is_not() -> None:
    chain = Chain()
    correction(chain, chain.say(m.DriftSuspected, 0, token=YES, believed=Shares(0),
                                observed=Shares(1)), 1)  # fmt: skip
    fills = [fill(chain, 10)]
    prepared(chain, approval(chain, target(chain, intent(chain, fills, 20), 30), 40), 50)
    assert "later corrections" not in shown(chain, ORDER)


def test_a_drift_is_explained_from_its_first_suspicion() -> None:
    chain = everything()
    found = next(fact for fact in chain.facts if isinstance(fact, m.DriftFound))
    _, story = why.explained(log_of(chain), found.id)
    kinds = [type(told.fact) for told in walk(story.trunk)]
    assert kinds == [
        m.DriftSuspected, m.DriftFound, m.PositionCorrected, m.HoldingChanged, m.DriftCleared,
    ]  # fmt: skip


def test_a_fill_whose_window_is_open_is_told_as_far_as_it_goes() -> None:
    chain = Chain()
    count(chain, fill(chain, 0), 5)
    _, story = why.explained(log_of(chain), chain.facts[1].id)
    assert [type(told.fact) for told in walk(story.trunk)] == [m.LeaderFilled, m.FillCounted]


def test_a_netted_window_is_the_end_of_its_fills() -> None:
    chain = everything()
    netted = next(fact for fact in chain.facts if isinstance(fact, m.WindowNetted))
    _, story = why.explained(log_of(chain), netted.fills[0])
    assert story.trunk.told.fact is netted


def test_an_unknown_id_says_what_ids_look_like() -> None:
    with pytest.raises(CtlError, match=r"order hash .* trade id"):
        why.explained(log_of(copied()), "0xdeadbeef")


def test_a_prefix_of_two_stories_is_not_guessed() -> None:
    chain = Chain()
    for n in range(2):
        allowed = approval(chain, target(chain, intent(chain, [fill(chain, n)], 5), 6), 7)
        other = OrderHash(ORDER[:-2] + f"0{n}")
        prepared(chain, allowed, 8, order=other)
    with pytest.raises(CtlError, match=f"beginning of 2 ids: order {ORDER[:-2]}00, order"):
        why.explained(log_of(chain), ORDER[:10])


def test_the_json_is_the_same_story_with_stable_keys() -> None:
    log = log_of(copied())
    match, story = why.explained(log, ORDER)
    told: dict[str, Any] = msgspec.json.decode(
        json_text(why.story_json(log, match, story, names()))
    )
    assert set(told) == {"asked", "start_ns", "fills", "story", "corrections"}
    assert told["asked"]["kind"] == "order"
    assert told["asked"]["id"] == ORDER
    assert [each["kind"] for each in told["fills"]] == ["leader_filled"] * 2
    assert set(told["story"]) == {
        "seq", "kind", "id", "after_ms", "text", "notes", "fact", "children",
    }  # fmt: skip
    approved = told["story"]["children"][0]["children"][1]
    assert approved["kind"] == "order_approved"
    assert approved["after_ms"] == 2_300
    assert approved["fact"]["verdicts"][1]["rule"] == "trade"
    assert approved["rules"][1] == {
        "rule": "trade", "outcome": "trim", "reason": "TRADE_CAP", "actual": 60, "limit": 50,
        "unit": "usd", "size": 20,
    }  # fmt: skip
    refused = told["story"]["children"][0]["children"][0]
    assert refused["rules"][0] == {
        "rule": "book_age", "outcome": "refuse", "reason": "BOOK_STALE", "actual": 9_000,
        "limit": 5_000, "unit": "ms", "size": None,
    }  # fmt: skip
    assert told["story"]["children"][0]["arithmetic"][3] == {
        "rule": "volatility", "mark": "less", "reason": "", "size": 20, "change": -5,
        "text": "the mid moves 0.025 log-odds/√s, calm is 0.02 log-odds/√s: times 80.00 %",
    }  # fmt: skip
    assert approved["fact"]["condition"] == CONDITION
