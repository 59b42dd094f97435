"""Hearing of changes: one read of the event stream serves every waiter and listener of a process.

A waiter subscribes first, then reads the job's state, then waits, and reads again on time-out, so
nothing depends on an event being seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from dalston_engine import keys
from dalston_engine.queue import AWAY
from msgspec import Struct

from dalston.store.client import BLOCK_MS, Client, end_if_cancelled

log = logging.getLogger("dalston.events")

TOLD = "told"
"""What is no change: the job has new segments."""
BATCH = 500
BEHIND = 100
"""How many batches a listener may be behind; one that is more is let go, and comes back where it was."""


class Change(Struct, omit_defaults=True):
    """A job, or one of its tasks, has a new state."""

    id: str
    """Its place in the stream."""
    job: str
    state: str
    task: str | None = None
    """The task's name in the job's plan; absent for the job itself."""


class Events:
    """The event stream of one process."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._listeners: set[asyncio.Queue[Sequence[Change] | None]] = set()
        self.closed = False
        """Whether this process is about to end."""

    async def run(self) -> None:
        """Read the stream, wake those whose job ended and tell all listeners, until cancelled."""
        last = ""
        while True:
            end_if_cancelled()
            try:
                last = last or await self._newest()
                streams = await self._redis.xread({keys.EVENTS(): last}, count=BATCH, block=BLOCK_MS)
            except AWAY:
                log.warning("redis cannot be reached; still trying")
                await asyncio.sleep(0.5)
                continue
            entries = streams[0][1] if streams else []
            for entry, fields in entries:
                last = entry
                if fields["state"] == TOLD:
                    self._wake(keys.SEGMENTS(job=fields["job"]))
                elif not fields["task"]:
                    self._wake(fields["job"])
            if entries and self._listeners:
                self._tell([_change(*entry) for entry in entries])

    def close(self) -> None:
        """Let all listeners go: this process is about to end."""
        self.closed = True
        self._tell(None)

    @contextlib.asynccontextmanager
    async def of(self, *names: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set at a job's next change of state; by the key of its segments, at new ones."""
        event = asyncio.Event()
        for name in names:
            self._waiters[name].add(event)
        try:
            yield event
        finally:
            for name in names:
                self._waiters[name].discard(event)
                if not self._waiters[name]:
                    del self._waiters[name]

    async def changes(self, after: str | None, idle: float) -> AsyncGenerator[Sequence[Change]]:
        """Changes as they happen, those that came `after` a place in the stream first.

        Yields nothing in between after every `idle` seconds without one; ends when this process does, or
        when whoever listens falls far behind.
        """
        heard: asyncio.Queue[Sequence[Change] | None] = asyncio.Queue(BEHIND)
        self._listeners.add(heard)
        try:
            while after is not None and (missed := await self._after(after)):
                yield [change for change in missed if change.state != TOLD]
                after = missed[-1].id
            while not self.closed and heard in self._listeners:
                try:
                    news = await asyncio.wait_for(heard.get(), idle)
                except TimeoutError:
                    news = []
                if news is None:
                    return
                new = [change for change in news if after is None or _place(change.id) > _place(after)]
                yield [change for change in new if change.state != TOLD]
        finally:
            self._listeners.discard(heard)

    async def _newest(self) -> str:
        """The place to begin after, once: `$` would be another one at every read."""
        newest = await self._redis.xrevrange(keys.EVENTS(), count=1)
        return str(newest[0][0]) if newest else "0-0"

    async def _after(self, place: str) -> list[Change]:
        try:
            entries = await self._redis.xrange(keys.EVENTS(), f"({place}", count=BATCH)
        except AWAY:
            entries = []  # what comes is told all the same
        return [_change(*entry) for entry in entries]

    def _wake(self, name: str) -> None:
        for event in self._waiters.get(name, ()):
            event.set()

    def _tell(self, news: Sequence[Change] | None) -> None:
        for heard in list(self._listeners):
            try:
                heard.put_nowait(news)
            except asyncio.QueueFull:
                self._listeners.discard(heard)


def _change(id: str, fields: dict[str, str]) -> Change:
    job, task = fields["job"], fields["task"]
    return Change(id, job, fields["state"], task.removeprefix(f"{job}.") or None)


def _place(id: str) -> tuple[int, ...]:
    return tuple(map(int, id.split("-")))
