"""Accounts split, merge and redeem what they have and no more; rows tell what really moved."""

import pytest
from venue_build import ANN, CONDITION, FUNDS, T0, TOKENS, give, order, post, venue

from services.paper_venue.core import advance, execute_activity
from services.paper_venue.core import resolve_market as resolve
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.state import Refused, Row, RowKind, Venue
from shared.domain.ids import Wallet
from shared.domain.units import MICRO, NS_PER_S, Shares

STRANGER = Wallet("0x" + "d" * 40)
SECOND = T0 + 10 * NS_PER_S


def act(built: Venue, kind: RowKind, shares: int, who: Wallet = ANN) -> Row:
    stamp = Stamp(SECOND, new_tx(built))
    return execute_activity(built, who, kind, CONDITION, Shares(shares * MICRO), stamp)


def nothing_is_owed(built: Venue) -> None:
    ledger = built.ledger
    assert ledger.cash[ANN] >= 0
    for token in TOKENS:
        assert ledger.tokens[ANN, token] == ledger.holding(ANN, token) >= 0


def test_a_merge_takes_the_sets_that_are_there() -> None:
    built = venue()
    give(built, ANN, 0, "40")
    give(built, ANN, 1, "15")
    row = act(built, "MERGE", 1_000)
    assert (row.size, row.usd) == (15 * MICRO, 15 * MICRO)
    assert built.ledger.cash[ANN] == FUNDS + 15 * MICRO
    assert [built.ledger.holding(ANN, token) for token in TOKENS] == [25 * MICRO, 0]
    with pytest.raises(Refused, match="nothing to merge"):
        act(built, "MERGE", 1)


def test_what_is_being_sold_cannot_be_merged_as_well() -> None:
    built = venue()
    give(built, ANN, 0, "10")
    give(built, ANN, 1, "10")
    post(built, order("0.48", "6", side="SELL", kind="FAK"), SECOND)
    assert act(built, "MERGE", 10).size == 4 * MICRO
    advance(built, T0 + 60 * NS_PER_S)
    nothing_is_owed(built)


def test_nobody_redeems_what_he_does_not_hold() -> None:
    built = venue()
    give(built, ANN, 0, "10")
    resolve(built, CONDITION, (MICRO, 0), SECOND)
    assert act(built, "REDEEM", 1_000).size == 10 * MICRO
    with pytest.raises(Refused, match="nothing to redeem"):
        act(built, "REDEEM", 1)
    assert built.ledger.cash[ANN] == FUNDS + 10 * MICRO


def test_a_split_needs_its_dollars() -> None:
    built = venue()
    with pytest.raises(Refused, match="the dollars to split"):
        act(built, "SPLIT", FUNDS // MICRO + 1)
    act(built, "SPLIT", FUNDS // MICRO)
    nothing_is_owed(built)


def test_a_recorded_strangers_activity_stays_as_recorded() -> None:
    built = venue()
    assert act(built, "MERGE", 7, STRANGER).size == 7 * MICRO
    assert act(built, "SPLIT", 7, STRANGER).size == 7 * MICRO
