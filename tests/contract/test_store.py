"""What a store promises, whatever it is made of."""

import pytest

from shared.runtime.ports import Epoch, FencedError, Lane, Saved, Store

LANE = Lane("risk", 1)


def saved(state: bytes = b"{}", *, cursor: int = 5, said: int = 4, epoch: int = 7) -> Saved:
    return Saved(state, cursor, said, Epoch(epoch))


async def test_nothing_saved_is_nothing_loaded(store: Store) -> None:
    assert await store.load(LANE) is None


async def test_a_snapshot_comes_back_with_its_anchor(store: Store) -> None:
    await store.save(LANE, saved(b'{"a":1}'), {})
    assert await store.load(LANE) == saved(b'{"a":1}')
    assert await store.load(Lane("risk", 2)) is None


async def test_views_are_replaced_together_with_the_snapshot(store: Store) -> None:
    await store.save(LANE, saved(), {"driftless:view:a": b"1", "driftless:view:b": b"2"})
    found = await store.read_views(["driftless:view:b", "driftless:view:a", "driftless:view:c"])
    assert found == [b"2", b"1", None]


async def test_an_older_epoch_changes_neither_snapshot_nor_views(store: Store) -> None:
    await store.save(LANE, saved(b"new", epoch=9), {"driftless:view:a": b"new"})
    with pytest.raises(FencedError):
        await store.save(LANE, saved(b"old", epoch=8), {"driftless:view:a": b"old"})
    assert await store.load(LANE) == saved(b"new", epoch=9)
    assert await store.read_views(["driftless:view:a"]) == [b"new"]


async def test_the_same_epoch_may_save_again(store: Store) -> None:
    await store.save(LANE, saved(b"one"), {})
    await store.save(LANE, saved(b"two"), {})
    assert await store.load(LANE) == saved(b"two")


async def test_views_are_written_without_a_snapshot_too(store: Store) -> None:
    await store.write_views({"driftless:view:x": b"9"})
    assert await store.read_views(["driftless:view:x"]) == [b"9"]
