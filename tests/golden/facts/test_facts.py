"""A ledger once written is readable for ever: recorded facts decode to what they said.

Each file is a version of the vocabulary, kept as it is. A field added later, with its default,
changes what is encoded: record the new form of that kind in the next version. Only the newest
form of a kind is encoded to the same bytes; every older one still says what it said.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from shared.domain.messages import (
    Fact,
    LeaderFilled,
    OrderApproved,
    RegimeChanged,
    decode_batch,
    encode_batch,
    kind_of,
)

VERSIONS = {
    name: (Path(__file__).parent / f"{name}.jsonl").read_bytes().splitlines()
    for name in ("v1", "v2", "v3", "v4")
}
OLD = VERSIONS["v1"]
KINDS = sorted(kind.__struct_config__.tag for kind in get_args(Fact))
EACH = [(name, line) for name, lines in VERSIONS.items() for line in lines]


def kind_in(line: bytes) -> str:
    kind = json.loads(line)["facts"][0]["kind"]
    assert isinstance(kind, str)
    return kind


NEWEST = list({kind_in(line): line for lines in VERSIONS.values() for line in lines}.values())


def recorded(of: str, lines: list[bytes] = NEWEST) -> bytes:
    (line,) = [line for line in lines if kind_in(line) == of]
    return line


def with_fields(of: str, **fields: Any) -> bytes:
    """Return the recorded batch of one fact of a kind, with some of its fields changed."""
    batch = json.loads(recorded(of))
    batch["facts"][0].update(fields)
    return json.dumps(batch).encode()


def says(whole: Any, part: Any) -> bool:
    """Tell whether all that a recorded value says is still said, whatever was added to it."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and says(whole[key], value) for key, value in part.items()
        )
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(whole) == len(part)
            and all(says(*pair) for pair in zip(whole, part, strict=True))
        )
    return bool(type(whole) is type(part) and whole == part)


def defaulted(struct: msgspec.Struct, path: str) -> Iterator[str]:
    """Yield the fields, of a struct and of those inside it, that hold their default."""
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if field.default is not msgspec.NODEFAULT and value == field.default:
            yield f"{path}.{field.name}"
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, msgspec.Struct):
                yield from defaulted(each, f"{path}.{field.name}")


def test_every_kind_of_fact_is_recorded_once_a_version() -> None:
    assert sorted(map(kind_in, NEWEST)) == KINDS
    for lines in VERSIONS.values():
        assert len(set(map(kind_in, lines))) == len(lines)


@pytest.mark.parametrize("line", NEWEST, ids=kind_in)
def test_a_fact_is_recorded_with_every_field_set(line: bytes) -> None:
    """A field that holds its default would be read back even if it were not written at all."""
    (fact,) = decode_batch(line).facts
    assert list(defaulted(fact, kind_of(fact))) == []
    assert fact.cause


@pytest.mark.parametrize("line", NEWEST, ids=kind_in)
def test_a_recorded_batch_decodes_and_encodes_to_its_bytes(line: bytes) -> None:
    batch = decode_batch(line)
    assert encode_batch(batch) == line
    assert [kind_of(fact) for fact in batch.facts] == [kind_in(line)]


@pytest.mark.parametrize(
    ("version", "line"), EACH, ids=[f"{name}-{kind_in(line)}" for name, line in EACH]
)
def test_a_recorded_batch_still_says_what_it_said(version: str, line: bytes) -> None:
    batch = decode_batch(line)
    assert [kind_of(fact) for fact in batch.facts] == [kind_in(line)]
    assert says(json.loads(encode_batch(batch)), json.loads(line)), version


@pytest.mark.parametrize("lines", [VERSIONS["v1"], VERSIONS["v2"]], ids=["v1", "v2"])
def test_a_recorded_fill_says_what_it_said(lines: list[bytes]) -> None:
    (fact,) = decode_batch(recorded("leader_filled", lines)).facts
    assert isinstance(fact, LeaderFilled)
    assert (fact.side, fact.price, fact.size, fact.ordinal) == ("BUY", 500_000, 60_000_000, 0)


def test_what_an_older_version_did_not_say_is_the_default() -> None:
    (approved,) = decode_batch(recorded("order_approved", OLD)).facts
    assert isinstance(approved, OrderApproved)
    assert (approved.nets, approved.leader_usd, approved.quote.levels) == (False, None, ())
    (changed,) = decode_batch(recorded("regime_changed", OLD)).facts
    assert isinstance(changed, RegimeChanged)
    assert (changed.entered, changed.ordered, changed.unit) == ((), None, "")


@pytest.mark.parametrize(
    ("whole", "part", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": [1, {"c": 2, "d": 3}]}}, {"a": {"b": [1, {"c": 2}]}}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1}, {"a": True}, False),
    ],
)
def test_what_is_compared_is_all_that_was_said(whole: Any, part: Any, *, same: bool) -> None:
    assert says(whole, part) is same


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
        ("order_approved", "leader_usd", 0.5),
        ("order_approved", "nets", 1),
        ("fill_counted", "baseline", 1),
        ("drift_found", "usd", 0.1),
        ("leaders_netted", "shares", "5"),
        ("regime_changed", "ordered", "stopped"),
        ("unfollow_leader", "keep", "no"),
        ("config_changed", "changes", [["risk.retry_ms", "1000"]]),
        ("market_resolved", "payouts", [1000000]),
        ("reload_config", "config", {"mode": "paper"}),
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
