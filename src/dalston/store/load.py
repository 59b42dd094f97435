"""How busy engines are: what waits, what runs, how much audio that is."""

from __future__ import annotations

from collections.abc import Sequence

from dalston_engine import keys
from dalston_engine.keys import GROUP
from msgspec import Struct

from dalston.store.client import Client

COUNTED = 1000
"""The longest queue whose audio is added up."""


class Load(Struct, omit_defaults=True):
    """One engine's queue."""

    engine: str
    waiting: int
    running: int
    audio_seconds_ahead: float | None = None
    """Seconds of audio waiting and running; absent when one is not known yet, or the queue is long."""


async def loads(redis: Client, engines: Sequence[str]) -> list[Load]:
    """What waits and runs for each of these engines."""
    lanes = [lane for engine in engines for lane in _lanes(engine)]
    async with redis.pipeline(transaction=False) as pipe:
        for lane in lanes:
            pipe.xlen(lane)
            pipe.xpending(lane, GROUP)
        answers = await pipe.execute(raise_on_error=False)  # a queue nobody has claimed from has no group
    found = []
    for n, engine in enumerate(engines):
        length, taken, length_high, taken_high = answers[4 * n : 4 * n + 4]
        running = sum(one["pending"] for one in (taken, taken_high) if isinstance(one, dict))
        found.append(Load(engine, length + length_high - running, running))
    return found


async def load(redis: Client, engine: str) -> Load:
    """One engine's queue, with the seconds of audio in it."""
    (found,) = await loads(redis, [engine])
    found.audio_seconds_ahead = await _audio(redis, engine)
    return found


async def _audio(redis: Client, engine: str) -> float | None:
    """Seconds of audio in an engine's queue, as preparing it has told."""
    async with redis.pipeline(transaction=False) as pipe:
        for lane in _lanes(engine):
            pipe.xrange(lane, count=COUNTED + 1)
        entries = [entry for lane in await pipe.execute() for entry in lane]
    if len(entries) > COUNTED:
        return None
    async with redis.pipeline(transaction=False) as pipe:
        for _, fields in entries:
            pipe.hget(keys.TASK(task=fields["task"]), "needs")
        needs = [(needs or "").split() for needs in await pipe.execute()]
    async with redis.pipeline(transaction=False) as pipe:
        for first, *_ in filter(None, needs):
            pipe.hget(keys.TASK(task=first), "audio")
        seconds = await pipe.execute()
    if len(seconds) < len(entries) or not all(seconds):
        return None
    return round(sum(map(float, seconds)), 3)


def _lanes(engine: str) -> tuple[str, str]:
    return keys.QUEUE_HIGH(engine=engine), keys.QUEUE(engine=engine)
