"""Views have keys that never change, and one that is not there is told from one that is wrong."""

import msgspec
import pytest

from shared.domain.book import Book
from shared.domain.units import Usd
from shared.domain.views import (
    ACCOUNT,
    DRIFT,
    POSITIONS,
    RISK,
    AccountView,
    book_key,
    decode,
    encode,
    exposure_key,
    feed_key,
    market_key,
)
from tests.support.builders import CONDITION, T0_NS, YES, a_book, level

KEYS = {
    ACCOUNT: "driftless:view:account",
    POSITIONS: "driftless:view:positions",
    RISK: "driftless:view:risk",
    DRIFT: "driftless:view:drift",
    book_key(YES): f"driftless:view:book:{YES}",
    market_key(CONDITION): f"driftless:view:market:{CONDITION}",
    feed_key("a1"): "driftless:view:feeds:a1",
    exposure_key(7): "driftless:view:exposures:07",
}


def test_every_view_has_a_key_of_its_own() -> None:
    assert list(KEYS) == list(KEYS.values())
    assert len(KEYS) == 8


def test_a_view_survives_the_store() -> None:
    book = a_book(bids=[level(49, 5)], asks=[level(50, 7)])
    assert decode(encode(book), Book) == book
    account = AccountView(as_of_ns=T0_NS, collateral=Usd(5), closed_only=False, orders=())
    assert decode(encode(account), AccountView) == account


def test_a_view_that_is_not_there_is_none() -> None:
    assert decode(None, Book) is None


@pytest.mark.parametrize("data", [b"{}", b"null", b'{"token":7}'])
def test_a_view_of_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(data, Book)
