"""Which worker hears a session, and which workers are lost.

A worker is lost when its heartbeat has not changed for a while by this process's own clock, while Redis
answered all along: a Redis that is away, or this process standing still, says nothing about workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from dalston_engine.queue import AWAY

from dalston.errors import BadField, NotFound, NoWorker
from dalston.settings import Settings
from dalston.store import live as store
from dalston.store.client import Client

LOST_S = 1.5
LOOK_S = 0.25
STANDSTILL_S = 1.0
"""Looks further apart than this count for nothing."""


class Watch:
    """Looks after the workers that sessions of this process are at."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._seen: dict[str, tuple[str, float]] = {}
        self._looked = float("-inf")

    async def lost(self, workers: Sequence[str]) -> set[str]:
        """Those of `workers` that are lost."""
        try:
            found = await store.beats(self._redis, workers)
        except AWAY:
            self._seen.clear()
            return set()
        now = time.monotonic()
        if now - self._looked > STANDSTILL_S:
            self._seen.clear()
        self._looked = now
        lost, seen = set(), {}
        for worker, (state, beat) in found.items():
            before, since = self._seen.get(worker, ("", now))
            seen[worker] = (beat, since if beat == before else now)
            if now - seen[worker][1] > LOST_S or state == "broken":
                lost.add(worker)
        self._seen = seen
        return lost


def models_of(settings: Settings, wish: str) -> list[str]:
    """The models that will do for a wish, best first."""
    return settings.variants.get(wish, [wish])


async def begins(redis: Client, models: Sequence[str]) -> bool:
    """Whether a worker with one of these models is being started."""
    return any(
        one.state == "loading" and set(models) & one.models.keys() for one in await store.workers(redis)
    )


async def why_none(redis: Client, settings: Settings, wish: str, language: str | None) -> Exception:
    """What to tell somebody whose wish no worker can fulfil."""
    there = [one for one in await store.workers(redis) if one.state == "loading" or one.age < LOST_S * 2]
    known = {model for one in there for model in one.models}
    if not known:
        return NoWorker("No worker for live sessions is running; start an engine that can listen.")
    able = {one.state for one in there if one.models.keys() & set(models_of(settings, wish))}
    told = f"No running worker has a model for {wish[:80]!r}"
    listed = f"Running: {', '.join(sorted(known)[:20])}."
    if "ready" in able:
        told = f"{told} that knows the language {language}. {listed}"
        return BadField("language", told, code="unsupported_language")
    if able or wish in settings.variants:
        return NoWorker(f"{told} and is ready. {listed}")
    return NotFound(f"{told}. {listed}", code="unknown_model")
