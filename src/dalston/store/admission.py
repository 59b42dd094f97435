"""Letting jobs in: each access key within its limits, all of them while there is room."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from dalston_engine import keys

from dalston.store.access_keys import Limits
from dalston.store.client import Client
from dalston.store.scripts import ADMIT, RELEASE, run

NEWS, WINDOW_S, LEAST_S = 2000, 300.0, 1.0
"""How far back in the events, and in time, jobs' ends are counted; and how short a time that may be."""
ENDS = {"completed", "failed", "cancelled"}


class Verdict(NamedTuple):
    """Whether a job is let in."""

    word: Literal["OK", "QUOTA", "CONCURRENT", "FULL", "RATE"]
    wait: float = 0.0
    """Seconds until it may be; 0 where nobody knows."""


async def admit(redis: Client, job: str, key: str, limits: Limits, room: int) -> Verdict:
    """Let a job of an access key in, or say what is in the way; `room`: jobs at work, 0 for any number.

    A live session counts as a job, if somebody holds it at least once a minute.
    """
    if not room and limits == Limits():
        return Verdict("OK")
    word, wait = await run(
        ADMIT,
        redis,
        job=job,
        key=key,
        rate=limits.requests_per_minute or 0,
        concurrent=limits.concurrent_jobs or 0,
        minutes=limits.audio_minutes_per_hour or 0,
        room=room,
    )
    return Verdict(word, int(wait) / 1000)


async def release(redis: Client, job: str, key: str) -> None:
    """Give the place of a job that does not come to others; the request it was still counts."""
    await run(RELEASE, redis, job=job, key=key)


async def pace(redis: Client) -> float:
    """Seconds from one job's end to the next, as measured over the last minutes.

    Where none has ended, as long as that has been so.
    """
    now = oldest = time.time()
    ends = 0
    for id, fields in await redis.xrevrange(keys.EVENTS(), count=NEWS):
        oldest = max(int(id.split("-")[0]) / 1000, now - WINDOW_S)
        if oldest == now - WINDOW_S:
            break
        ends += not fields["task"] and fields["state"] in ENDS
    return max(now - oldest, LEAST_S) / max(ends, 1)
