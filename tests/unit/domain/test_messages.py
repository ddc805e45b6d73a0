"""Every kind of message survives the wire, and the same facts have the same batch id."""

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from shared.domain.messages import (
    Batch,
    Fact,
    Message,
    batch_id,
    decode_batch,
    encode_batch,
    kind_of,
)
from tests.support.builders import a_fill

KINDS: tuple[type[Message], ...] = get_args(Fact)


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Return values of a field, whatever it holds."""
    match kind:
        case inspect.IntType():
            return st.integers(-(2**63), 2**63 - 1)
        case inspect.StrType():
            return st.text(max_size=8)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.UnionType(types=types):
            return st.one_of(*map(values_of, types))
        case inspect.TupleType(item_types=types):
            return st.tuples(*map(values_of, types))
        case inspect.VarTupleType(item_type=item):
            return st.lists(values_of(item), max_size=2).map(tuple)
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: values_of(field.type) for field in fields})
        case _:
            raise AssertionError(f"a message holds what no message held before: {kind}")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_message_of_every_kind_survives_the_wire(
    kind: type[Message], data: st.DataObject
) -> None:
    facts = tuple(data.draw(st.lists(values_of(inspect.type_info(kind)), min_size=1, max_size=2)))
    batch = Batch(epoch=3, through=7, facts=facts)
    encoded = encode_batch(batch)
    assert decode_batch(encoded) == batch
    assert encode_batch(decode_batch(encoded)) == encoded
    assert {type(fact) for fact in decode_batch(encoded).facts} == {kind}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_its_class_name_in_words(kind: type[Message]) -> None:
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")
    assert kind.__struct_config__.tag == words


def test_the_kind_of_a_fact_is_its_tag() -> None:
    assert kind_of(a_fill()) == "leader_filled"


def test_no_two_kinds_share_a_tag() -> None:
    assert len({kind.__struct_config__.tag for kind in KINDS}) == len(KINDS)


def test_the_id_of_a_single_fact_is_that_of_its_batch() -> None:
    assert batch_id((a_fill("one"),)) == a_fill("one").id


def test_a_batch_id_names_its_facts_in_their_order() -> None:
    one, two = a_fill("one"), a_fill("two")
    ids = {batch_id(facts) for facts in ((one,), (two,), (one, two), (two, one), (one, two, one))}
    assert len(ids) == 5
    assert batch_id((one, two)) == batch_id((a_fill("one"), a_fill("two")))


def test_a_batch_id_is_the_same_for_ever() -> None:
    assert batch_id((a_fill("one"), a_fill("two"))) == "54428ccf4a7ec08893ead3ec5b72352e"


def test_a_batch_id_survives_the_wire() -> None:
    batch = Batch(epoch=1, through=2, facts=(a_fill("one"), a_fill("two")))
    assert batch_id(decode_batch(encode_batch(batch)).facts) == batch_id(batch.facts)


def test_facts_are_immutable() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        a_fill().size = 1  # type: ignore[misc,assignment]


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b"[]", b'{"epoch":1}', b"\xff"])
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_batch(data)
