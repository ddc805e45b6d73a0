"""A digest belongs to one message of its lane, and rides on the next."""

from shared.domain.messages import Digest
from shared.domain.units import NS_PER_S
from shared.runtime.digests import EVERY_S, Digests, hash_of

A_WHILE = EVERY_S * NS_PER_S


def test_a_saved_state_is_told_once_with_the_next_message() -> None:
    digests = Digests("shape")
    digests.saw(b"{}", said=7, now_ns=0)
    assert digests.next(said=7) == Digest(said=7, shape="shape", hash=hash_of(b"{}"))
    assert digests.next(said=7) is None


def test_not_every_snapshot_is_told() -> None:
    digests = Digests("shape")
    digests.saw(b"{}", said=7, now_ns=0)
    digests.next(said=7)
    digests.saw(b"[]", said=8, now_ns=A_WHILE - 1)
    assert digests.next(said=8) is None
    digests.saw(b"[]", said=8, now_ns=A_WHILE)
    assert digests.next(said=8) == Digest(said=8, shape="shape", hash=hash_of(b"[]"))


def test_a_state_the_lane_has_left_is_not_told() -> None:
    digests = Digests("shape")
    digests.saw(b"{}", said=7, now_ns=0)
    assert digests.next(said=8) is None
    digests.saw(b"[]", said=8, now_ns=1)
    assert digests.next(said=8) is not None, "the next snapshot makes up for it"


def test_a_lane_that_never_spoke_has_nothing_to_tell() -> None:
    digests = Digests("shape")
    digests.saw(b"{}", said=0, now_ns=0)
    assert digests.next(said=0) is None
