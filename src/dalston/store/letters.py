"""Dead letters: tasks that were given up after their last attempt."""

from __future__ import annotations

import msgspec
from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from msgspec import Struct

from dalston.store.client import Client


class Letter(Struct, omit_defaults=True):
    """A task that was given up."""

    job: str
    task: str
    engine: str
    at: float
    """Seconds since 1970."""
    error: ErrorRecord


async def letters(redis: Client, limit: int) -> list[Letter]:
    """The newest dead letters of jobs that still exist."""
    engines = sorted(await redis.smembers(keys.QUEUES()))
    found = []
    for engine in engines:
        for entry, fields in await redis.xrevrange(keys.DEAD(engine=engine), count=limit):
            error = msgspec.json.decode(fields["error"], type=ErrorRecord)
            task, at = fields["task"], int(entry.split("-")[0]) / 1000
            found.append(Letter(task.split(".")[0], task, engine, at, error))
    newest = sorted(found, key=lambda letter: -letter.at)[:limit]
    async with redis.pipeline(transaction=False) as pipe:
        for letter in newest:
            pipe.zscore(keys.JOBS(), letter.job)
        known = await pipe.execute()
    return [letter for letter, score in zip(newest, known, strict=True) if score is not None]
