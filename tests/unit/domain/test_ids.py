"""Names are canonical or refused, and partitions are the ones nats-server computes."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.ids import (
    PARTITIONS,
    condition_id,
    content_id,
    order_hash,
    partition_of,
    token_id,
    tx_hash,
    wallet,
)

HEX40 = "Ab" * 20
HEX64 = "Cd" * 32


@pytest.mark.parametrize(
    ("key", "digest"),
    [("", 0x811C9DC5), ("a", 0xE40C292C), ("b", 0xE70C2DE5), ("foobar", 0xBF9CF968)],
)
def test_a_partition_is_fnv_1a_32_modulo_the_partitions(key: str, digest: int) -> None:
    assert partition_of(key) == digest % 16
    assert partition_of(key, 1 << 32) == digest
    assert partition_of(key, 1) == 0


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_a_partition_is_one_of_the_partitions(key: str) -> None:
    assert 0 <= partition_of(key) < PARTITIONS


def test_there_are_sixteen_partitions_for_ever() -> None:
    assert PARTITIONS == 16


def test_a_wallet_is_kept_in_lower_case() -> None:
    assert wallet("0x" + HEX40) == wallet("0X" + HEX40.upper()) == "0x" + HEX40.lower()


@pytest.mark.parametrize("parse", [tx_hash, order_hash, condition_id])
def test_a_hash_is_kept_in_lower_case(parse: Callable[[str], str]) -> None:
    assert parse("0x" + HEX64) == "0x" + HEX64.lower()


@pytest.mark.parametrize(
    "text",
    ["", "0x", HEX40, "0x" + "a" * 39, "0x" + "a" * 41, "0x" + "g" * 40, f"0x{'a' * 40}\n",
     " 0x" + "a" * 40, "0x" + "a" * 64],
)  # fmt: skip
def test_what_is_no_wallet_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a wallet address"):
        wallet(text)


@pytest.mark.parametrize("parse", [tx_hash, order_hash])
@pytest.mark.parametrize(
    "text",
    ["", "c" * 64, "0x" + "c" * 62, "0x" + "c" * 63, "0x" + "c" * 65, "0x" + "z" * 64,
     f"0x{'c' * 64}\n", "0x" + "c" * 40],
)  # fmt: skip
def test_what_is_no_hash_is_refused(parse: Callable[[str], str], text: str) -> None:
    with pytest.raises(ValueError, match="hash"):
        parse(text)


@pytest.mark.parametrize("text", ["1", "7100", "9" * 77, str((1 << 256) - 1)])
def test_a_canonical_uint256_is_a_token(text: str) -> None:
    assert token_id(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "0", "007", "+7", "-7", "7.0", "7e3", "0x7", "7_000", " 7", "7\n", "\u0667",
     str(1 << 256), "9" * 78, "9" * 79, "1" * 5_000],
)  # fmt: skip
def test_what_is_no_canonical_uint256_is_no_token(text: str) -> None:
    with pytest.raises(ValueError, match="not a canonical decimal token id"):
        token_id(text)


def test_a_condition_of_31_bytes_is_padded_on_the_right() -> None:
    assert condition_id("0x" + "C" * 62) == "0x" + "c" * 62 + "00"


@pytest.mark.parametrize(
    "text",
    ["", "0x", "c" * 64, "c" * 62, "0x" + "c" * 60, "0x" + "c" * 61, "0x" + "c" * 63,
     "0x" + "c" * 65, "0x" + "z" * 62, "0x" + "z" * 64],
)  # fmt: skip
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a condition id"):
        condition_id(text)


def test_a_refusal_quotes_at_most_the_beginning_of_the_text() -> None:
    for parse in (wallet, token_id, condition_id, order_hash, tx_hash):
        with pytest.raises(ValueError, match="not a") as refused:
            parse("z" * 100_000)
        assert len(str(refused.value)) < 160


def test_a_content_id_is_the_same_for_ever() -> None:
    assert content_id("leader_filled", "row", 0) == "1c9e8172153bf745add483373e293fd0"


parts = st.lists(st.one_of(st.text(max_size=5), st.integers(-5, 5)), max_size=4)


@settings(max_examples=100, deadline=None)
@given(parts, parts)
def test_content_ids_differ_where_any_part_differs(
    left: list[str | int], right: list[str | int]
) -> None:
    assert (content_id("kind", *left) == content_id("kind", *right)) == (left == right)
    assert content_id("kind", *left) != content_id("other", *left)


def test_parts_of_a_content_id_do_not_run_together() -> None:
    assert content_id("k", "a", "bc") != content_id("k", "ab", "c")
    assert content_id("k", "1") != content_id("k", 1)
