"""Snapshots and views in Redis: one function call replaces state, cursor, epoch and views."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, cast

import redis.asyncio as redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.runtime.ports import Epoch, FencedError, Lane, Saved, StoreAwayError

_LIBRARY: Final = """#!lua name=driftless
-- KEYS: the lane's hash, then views; ARGV: epoch, cursor, said, shape, state, the views' values
redis.register_function('driftless_snapshot', function(keys, args)
  local held = tonumber(redis.call('HGET', keys[1], 'epoch') or '0')
  if tonumber(args[1]) < held then
    return redis.error_reply('FENCED epoch ' .. args[1] .. ' is older than ' .. held)
  end
  redis.call('HSET', keys[1],
    'epoch', args[1], 'cursor', args[2], 'said', args[3], 'shape', args[4], 'state', args[5])
  for i = 2, #keys do
    redis.call('SET', keys[i], args[4 + i])
  end
  return 1
end)
-- KEYS: views; ARGV: how many seconds each is kept, then their values
redis.register_function('driftless_show', function(keys, args)
  for i = 1, #keys do
    redis.call('SET', keys[i], args[1 + i], 'EX', args[1])
  end
  return 1
end)
"""
_FIELDS: Final = ["state", "cursor", "said", "epoch", "shape"]
_KEPT_S: Final = 86_400  # a view that nobody writes any more, as of a market that is over


def snapshot_key(lane: Lane) -> str:
    return f"driftless:{lane.service}:{lane.partition:02d}"


class RedisStore:
    """The store on Redis 7 or Valkey; losing it costs a rebuild, never a fact."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    async def load(self, lane: Lane) -> Saved | None:
        try:
            found = await cast(
                "Awaitable[list[bytes | None]]",
                self._redis.hmget(snapshot_key(lane), _FIELDS),
            )
        except (RedisConnectionError, RedisTimeoutError) as e:
            raise StoreAwayError(str(e)) from e
        state, cursor, said, epoch, shape = found
        if state is None or cursor is None or said is None or epoch is None:
            return None
        return Saved(state, int(cursor), int(said), Epoch(int(epoch)), (shape or b"").decode())

    async def save(self, lane: Lane, saved: Saved, views: Mapping[str, bytes]) -> None:
        keys = [snapshot_key(lane), *views]
        anchor = [saved.epoch, saved.cursor, saved.said, saved.shape]
        values: list[Any] = [*anchor, saved.state, *views.values()]
        try:
            await self._call("driftless_snapshot", keys, values)
        except ResponseError as e:
            if "FENCED" not in str(e):
                raise
            raise FencedError(f"{lane.name}: {e}") from e

    async def _call(self, function: str, keys: list[str], values: list[Any]) -> None:
        try:
            try:
                await self._redis.fcall(function, len(keys), *keys, *values)
            except ResponseError as e:
                if "not found" not in str(e).lower():
                    raise
                # The server is new or was emptied of functions: teach it ours, then say it again.
                await self._redis.function_load(_LIBRARY, replace=True)
                await self._redis.fcall(function, len(keys), *keys, *values)
        except (RedisConnectionError, RedisTimeoutError) as e:
            raise StoreAwayError(str(e)) from e

    async def read_views(self, keys: Sequence[str]) -> list[bytes | None]:
        try:
            return cast("list[bytes | None]", await self._redis.mget(keys))
        except (RedisConnectionError, RedisTimeoutError) as e:
            raise StoreAwayError(str(e)) from e

    async def find_views(self, prefix: str) -> list[str]:
        try:
            return sorted([key.decode() async for key in self._redis.scan_iter(f"{prefix}*")])
        except (RedisConnectionError, RedisTimeoutError) as e:
            raise StoreAwayError(str(e)) from e

    async def write_views(self, views: Mapping[str, bytes]) -> None:
        await self._call("driftless_show", [*views], [_KEPT_S, *views.values()])
