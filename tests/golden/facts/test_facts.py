"""A ledger once written is readable for ever: recorded facts decode, and encode to their bytes.

A field added later, with its default, changes what is encoded: keep this file as it is, for
decoding, and record the new form beside it as the next version.
"""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from shared.domain.messages import Fact, LeaderFilled, decode_batch, encode_batch, kind_of

RECORDED = (Path(__file__).parent / "v1.jsonl").read_bytes().splitlines()
KINDS = sorted(kind.__struct_config__.tag for kind in get_args(Fact))


def kind_in(line: bytes) -> str:
    kind = json.loads(line)["facts"][0]["kind"]
    assert isinstance(kind, str)
    return kind


def with_fields(of: str, **fields: Any) -> bytes:
    """Return the recorded batch of one fact of a kind, with some of its fields changed."""
    (line,) = [line for line in RECORDED if kind_in(line) == of]
    batch = json.loads(line)
    batch["facts"][0].update(fields)
    return json.dumps(batch).encode()


def test_every_kind_of_fact_is_recorded_once() -> None:
    assert sorted(map(kind_in, RECORDED)) == KINDS


@pytest.mark.parametrize("line", RECORDED, ids=kind_in)
def test_a_recorded_batch_decodes_and_encodes_to_its_bytes(line: bytes) -> None:
    batch = decode_batch(line)
    assert encode_batch(batch) == line
    assert [kind_of(fact) for fact in batch.facts] == [kind_in(line)]


def test_a_recorded_fill_says_what_it_said() -> None:
    (line,) = [line for line in RECORDED if kind_in(line) == "leader_filled"]
    (fact,) = decode_batch(line).facts
    assert isinstance(fact, LeaderFilled)
    assert (fact.side, fact.price, fact.size, fact.ordinal) == ("BUY", 500_000, 60_000_000, 0)


@pytest.mark.parametrize("kind", ["leader_vanished", "", "LeaderFilled", 7, None])
def test_an_unknown_kind_is_refused(kind: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$.facts\[0\]"):
        decode_batch(with_fields("leader_filled", kind=kind))


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("leader_filled", "size", 1.5),
        ("leader_filled", "size", 2.0),
        ("leader_filled", "price", "500000"),
        ("leader_filled", "ts_ns", 1.79e18),
        ("leader_filled", "ordinal", None),
        ("leader_filled", "outcome", 2),
        ("leader_filled", "side", "buy"),
        ("order_filled", "fee", True),
        ("fill_counted", "baseline", 1),
        ("drift_found", "usd", 0.1),
    ],
)
def test_a_field_of_another_type_is_refused(kind: str, field: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.facts\[0\]\.{field}"):
        decode_batch(with_fields(kind, **{field: value}))


def test_a_fact_without_one_of_its_fields_is_refused() -> None:
    batch = json.loads(with_fields("leader_filled"))
    del batch["facts"][0]["size"]
    with pytest.raises(msgspec.ValidationError, match="missing required field `size`"):
        decode_batch(json.dumps(batch).encode())


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_a_later_version_is_tolerated(kind: str) -> None:
    later = decode_batch(with_fields(kind, added_later={"any": [1, "thing"]}))
    assert later == decode_batch(with_fields(kind))
