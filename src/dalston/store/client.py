"""Makes the server's Redis clients, and refuses servers that would lose work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dalston_engine.errors import DalstonError
from dalston_engine.queue import AWAY
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

BLOCK_MS = 4000
"""The longest blocking read: below the socket's time-out, so a dead connection is noticed."""
AGAIN_S = 0.2


class UnusableRedis(DalstonError):
    """The Redis server cannot be used."""

    code, retryable = "unusable_redis", False


Client = Any
"""An asyncio redis client. redis-py types every answer as all that a command may ever return."""


def connect(url: str) -> Client:
    """An asyncio client; a command is tried again once after a lost connection."""
    retry = Retry(ConstantBackoff(0.05), 1)
    return Redis.from_url(url, decode_responses=True, socket_timeout=10, retry=retry)


def end_if_cancelled() -> None:
    """Raise CancelledError in a task that was cancelled: redis-py may have taken it for a lost connection."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def rest() -> None:
    """Wait a moment for the server to come back."""
    end_if_cancelled()
    await asyncio.sleep(AGAIN_S)


async def patiently(call: Callable[[], Awaitable[Any]]) -> None:
    """Call until the server takes it."""
    while True:
        try:
            await call()
            return
        except AWAY:
            await rest()


async def wait_until_up(redis: Client, seconds: float = 30) -> None:
    """Wait for the server to answer; raises UnusableRedis when it does not."""
    end = time.monotonic() + seconds
    while True:
        try:
            await _refuse_lossy(redis)
            return
        except AWAY as error:
            if time.monotonic() > end:
                raise UnusableRedis(f"Redis does not answer ({type(error).__name__}).") from None
            await asyncio.sleep(0.01)


async def _refuse_lossy(redis: Client) -> None:
    info: dict[str, Any] = await redis.info()
    kind, least = ("Valkey", 8) if "valkey_version" in info else ("Redis", 7)
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    if int(version.split(".")[0]) < least:
        raise UnusableRedis(f"{kind} {version} is too old: {kind} {least}.0 or later is needed.")
    if info.get("redis_mode") == "cluster":
        raise UnusableRedis("Redis Cluster cannot be used: scripts touch several keys. Use one primary.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnusableRedis(
            f"Redis evicts keys ({policy}), which loses work: set maxmemory-policy noeviction."
        )
