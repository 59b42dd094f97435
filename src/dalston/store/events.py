"""Waiting for a job by notification: one read of the event stream serves every waiter.

A waiter subscribes first, then reads the job's state, then waits, and reads again on time-out, so
nothing depends on an event being seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator

from dalston_engine import keys
from dalston_engine.queue import AWAY

from dalston.store.client import BLOCK_MS, Client, end_if_cancelled

log = logging.getLogger("dalston.events")


class Events:
    """The event stream of one process."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Read the stream and wake those whose job ended, until cancelled."""
        last = "$"
        while True:
            end_if_cancelled()
            try:
                streams = await self._redis.xread({keys.EVENTS(): last}, count=500, block=BLOCK_MS)
            except AWAY:
                log.warning("redis cannot be reached; still trying")
                await asyncio.sleep(0.5)
                continue
            for entry, fields in streams[0][1] if streams else []:
                last = entry
                if not fields["task"]:
                    self._wake(fields["job"])

    @contextlib.asynccontextmanager
    async def of(self, job: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set at the job's next change of state."""
        event = asyncio.Event()
        self._waiters[job].add(event)
        try:
            yield event
        finally:
            self._waiters[job].discard(event)
            if not self._waiters[job]:
                del self._waiters[job]

    def _wake(self, job: str) -> None:
        for event in self._waiters.get(job, ()):
            event.set()
