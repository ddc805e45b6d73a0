"""`polymarket-client`, unchanged, reads the rest of the Data API and of Gamma."""

import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from polymarket import PublicClient
from polymarket.errors import RequestRejectedError
from polymarket.models.data.tokens import TokenModule

from tests.clients.local_venue import KINDS, Kind, LocalVenue, local_venue
from tests.clients.sdk import fill

pytestmark = pytest.mark.xdist_group("sdk_more")


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVenue]:
    """A venue whose public side is of the moment: no cache before it, no delay in Gamma."""
    directory = tmp_path_factory.mktemp("venue")
    with local_venue(directory, cdn=False, gamma_close_delay_s=0) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_gamma_closes_a_market_that_is_over(
    venue: LocalVenue, client: PublicClient, kind: Kind
) -> None:
    listed = venue.market(kind)
    venue.admin("resolve", condition=listed.condition, payouts=["1", "0"])
    pages = client.list_markets(condition_ids=[listed.condition], closed=True)
    (over,) = pages.first_page().items
    assert (over.state.closed, over.state.accepting_orders) == (True, False)
    assert over.state.closed_time is not None
    assert (over.outcomes.yes.price, over.outcomes.no.price) == (1, 0)
    assert client.get_market(id=over.id) == over


def test_gamma_groups_markets_into_events(venue: LocalVenue, client: PublicClient) -> None:
    slug = "who-wins"
    members = [venue.market(event=slug, neg_risk=True, tags=["sports"]) for _ in range(3)]
    event = client.get_event(slug=slug)
    assert client.get_event(id=event.id) == event
    assert [each.slug for each in event.markets] == [each.slug for each in members]
    assert event.trading.neg_risk is True
    assert [tag.slug for tag in event.tags] == ["sports"]
    assert {each.events[0].id for each in event.markets} == {event.id}
    pages = list(client.list_events(page_size=1))
    slugs = [found.slug for page in pages for found in page.items]
    assert (slugs.count(slug), len(slugs)) == (1, len(set(slugs)))
    assert "sports" in {tag.slug for tag in client.list_tags().iter_items()}
    found = client.search(q="who-wins").first_page()
    assert found.items


def test_gamma_does_not_invent_what_it_lacks(venue: LocalVenue, client: PublicClient) -> None:
    with pytest.raises(RequestRejectedError) as unknown:
        client.get_market(slug="no-such-market")
    assert unknown.value.status == 404
    with pytest.raises(RequestRejectedError) as missing:
        client.get_event(slug="no-such-event")
    assert missing.value.status == 404


def test_a_market_in_play_has_no_resolution_yet(venue: LocalVenue, client: PublicClient) -> None:
    listed = venue.market()
    (before,) = client.get_resolutions(condition_ids=listed.condition)
    assert (before.status, before.payouts, before.resolved_at) == ("initialized", None, None)
    venue.admin("resolve", condition=listed.condition, payouts=["0", "1"])
    (after,) = client.get_resolutions(condition_ids=listed.condition)
    assert (after.status, after.payouts) == ("resolved", (0, 1))
    assert after.resolved_block is not None
    assert after.resolved_at is not None


def test_holders_and_open_interest_follow_the_tokens(
    venue: LocalVenue, client: PublicClient, wallet: str
) -> None:
    listed = venue.market()
    fill(venue, listed, wallet, "BUY", "20")
    groups = {
        group.asset_id: {holder.wallet: holder.amount for holder in group.holders}
        for page in client.list_market_holders(condition_ids=listed.condition)
        for group in page.items
    }
    assert groups[listed.tokens[0]][wallet] == 20
    (interest,) = client.get_open_interests(condition_ids=listed.condition)
    assert (interest.condition_id, interest.value) == (listed.condition, 20)
    (everything,) = client.get_open_interests()
    assert everything.condition_id is None
    assert everything.value >= 20


@pytest.mark.parametrize(
    ("kind", "module"),
    [("v1", TokenModule.V1_CTF), ("neg-risk", TokenModule.V1_CTF), ("v2", TokenModule.BINARY)],
)
def test_a_token_names_its_market(
    venue: LocalVenue, client: PublicClient, kind: Kind, module: TokenModule
) -> None:
    listed = venue.market(kind)
    rows = client.get_token_references(asset_ids=listed.tokens)
    assert [(row.asset_id, row.outcome_index) for row in rows] == [
        (token, outcome) for outcome, token in enumerate(listed.tokens)
    ]
    assert [row.opposite_asset_id for row in rows] == list(reversed(listed.tokens))
    assert {(row.condition_id, row.module, row.neg_risk) for row in rows} == {
        (listed.condition, module, kind == "neg-risk")
    }
    assert rows == client.get_token_references(condition_ids=listed.condition)
    venue.admin("resolve", condition=listed.condition, payouts=["1", "0"])
    after = client.get_token_references(asset_ids=listed.tokens)
    assert [(row.resolved, row.final_price) for row in after] == [(True, 1), (True, 0)]


def test_prices_are_remembered(venue: LocalVenue, client: PublicClient, wallet: str) -> None:
    listed = venue.market()
    fill(venue, listed, wallet, "BUY", "30")  # 25 at 0.5, then 5 at 0.53
    now_s = int(time.time())
    (point,) = (
        client.list_price_history(asset_id=listed.tokens[0], interval="1h").first_page().items
    )
    assert point.price == Decimal("0.53")
    assert point.resolution_seconds >= 60
    mirror = client.list_price_history(asset_id=listed.tokens[1], as_of=now_s + 5)
    (tick,) = mirror.first_page().items
    assert (tick.price, tick.resolution_seconds) == (Decimal("0.47"), 0)
    window = client.list_price_history(
        asset_id=listed.tokens[0], start=now_s - 3_600, end=now_s + 60
    )
    assert [each.price for each in window.first_page().items] == [Decimal("0.53")]


def test_volumes_and_ranks_count_what_was_traded(
    venue: LocalVenue, client: PublicClient, wallet: str
) -> None:
    listed = venue.market(event="counted")
    fill(venue, listed, wallet, "BUY", "20")
    fill(venue, listed, wallet, "SELL", "10")
    volume = client.get_user_volume(user=wallet, full_history=True)
    assert (volume.volume, volume.volume_usdc, volume.trade_count) == (30, Decimal("14.8"), 2)
    event = client.get_event(slug="counted")
    live = client.get_event_live_volume(event_ids=int(event.id))
    assert live.taker_volume_total == 30
    assert [(each.condition_id, each.taker_volume) for each in live.markets] == [
        (listed.condition, 30)
    ]
    ranked = [
        row for page in client.list_trader_leaderboard(sort_by="VOLUME") for row in page.items
    ]
    (mine,) = [row for row in ranked if row.wallet == wallet]
    assert mine.volume == 30
    assert [row.volume for row in ranked] == sorted((row.volume for row in ranked), reverse=True)


def test_positions_are_sorted_filtered_and_paged(
    venue: LocalVenue, client: PublicClient, wallet: str
) -> None:
    markets = [venue.market(question=f"Number {number}?") for number in range(3)]
    for listed, size in zip(markets, ("10", "20", "5"), strict=True):
        fill(venue, listed, wallet, "BUY", size)
    by_size = client.list_positions(user=wallet, sort_by="TOKENS", page_size=2)
    pages = list(by_size)
    assert [[row.current_size for row in page.items] for page in pages] == [[20, 10], [5]]
    upwards = client.list_positions(user=wallet, sort_by="TOKENS", sort_direction="ASC")
    assert [row.current_size for row in upwards.first_page().items] == [5, 10, 20]
    (named,) = client.list_positions(user=wallet, title="number 1").first_page().items
    assert named.condition_id == markets[1].condition
    large = client.list_positions(user=wallet, filter_type="TOKENS", filter_amount=15)
    assert [row.current_size for row in large.first_page().items] == [20]
    fill(venue, markets[2], wallet, "SELL", "5")
    (closed,) = client.list_positions(user=wallet, status="CLOSED").first_page().items
    assert (closed.condition_id, closed.status) == (markets[2].condition, "CLOSED")
    assert closed.realized_pnl < 0
    body = {"wallet": wallet, "condition": markets[0].condition}
    venue.admin("activity", type="SPLIT", size="7", **body)
    pairs = client.list_positions(user=wallet, status="MERGEABLE").first_page().items
    assert {row.asset_id for row in pairs} == set(markets[0].tokens)
    assert {(row.status, row.mergeable) for row in pairs} == {("OPEN", True)}


def test_a_cursor_goes_on_where_its_page_ended(
    venue: LocalVenue, client: PublicClient, wallet: str
) -> None:
    listed = venue.market()
    for _ in range(3):
        fill(venue, listed, wallet, "BUY", "5")
    everything = list(client.list_activity(user=wallet).iter_items())
    asked = client.list_activity(user=wallet, page_size=1)
    first = asked.first_page()
    fill(venue, listed, wallet, "SELL", "5")  # stands before the cursor, newest first
    assert [*first.items, *asked.from_cursor(first.next_cursor).iter_items()] == everything
