"""Which worker hears a session, and which workers are lost.

A worker is lost when its heartbeat has not changed for a while by this process's own clock, while Redis
answered all along: a Redis that is away, or this process standing still, says nothing about workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from dalston_engine.queue import AWAY

from dalston.errors import BadField, NoWorker
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


async def why_none(redis: Client, wish: str, language: str | None) -> Exception:
    """What to tell somebody whose wish no worker can fulfil."""
    ready = [one for one in await store.workers(redis) if one.state == "ready" and one.age < LOST_S * 2]
    known = sorted({model for one in ready for model in one.models})
    if not ready:
        return NoWorker("No worker for live sessions is running; start an engine that can listen.")
    if wish in known:
        told = f"The model {wish} does not know the language {language}."
        return BadField("language", told, code="unsupported_language")
    listed = ", ".join(known[:20])
    told = f"No running worker has a model for {wish[:80]!r}" + (
        f" that knows {language}" if language else ""
    )
    return NoWorker(f"{told}. Running: {listed}.", code="no_worker")
