"""The line before the door: who finds no room waits, keys in turn, each one's requests in order."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from dalston_engine.queue import AWAY
from msgspec import Struct
from starlette.requests import ClientDisconnect

from dalston.errors import Limited, Unavailable
from dalston.gateway.access import Caller
from dalston.store.access_keys import Limits
from dalston.store.admission import ENDS, Verdict, admit, pace, release
from dalston.store.client import Client
from dalston.store.events import Change, Events

LOOK_S = 0.5
"""How long nobody looks whether there is room, if no job ends."""
SWEEP_S = 2.0
"""How often all of the line is looked at for clients that have hung up."""
LONGEST = 1000
"""Who comes when so many wait is refused at once: each holds a connection and a recording."""
SOON_S, LATE_S = 1.0, 3600.0
"""What a caller is told to wait at least and at most."""
MEASURE_S = 1.0
"""How long a measured speed counts."""
TOLD = {
    "QUOTA": ("quota_exceeded", 429, "This key has used up its minutes of audio for an hour."),
    "CONCURRENT": (
        "concurrent_limit_exceeded",
        429,
        "This key has as many jobs and live sessions as it may.",
    ),
    "RATE": ("rate_limit_exceeded", 429, "This key has asked for as many transcriptions as it may."),
    "FULL": ("queue_full", 503, "The server has as many jobs as it takes."),
}


class Waiter(Struct, eq=False):
    """A request that waits."""

    caller: Caller
    job: str
    gone: Callable[[], Awaitable[bool]]
    """Whether the client has hung up."""
    done: asyncio.Future[None]
    verdict: Verdict
    """What was in the way at the last look."""

    @property
    def waits(self) -> bool:
        return not self.done.done()

    async def look(self) -> None:
        """End the wait of a client that has hung up."""
        if self.waits and await self.gone() and self.waits:
            self.done.set_exception(ClientDisconnect())


@dataclass
class Place:
    """What a job that was let in holds."""

    kept: bool = False


class Line:
    """Who waits at this gateway: a row for each access key, or owner without one."""

    def __init__(self, redis: Client, events: Events, room: int) -> None:
        self.redis, self.events, self.room = redis, events, room
        self._rows: OrderedDict[str, deque[Waiter]] = OrderedDict()
        self._walk: asyncio.Task[None] | None = None
        self._pace, self._measured = 0.0, -math.inf

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @contextlib.asynccontextmanager
    async def entered(
        self, caller: Caller, job: str, patience: float, gone: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[Place]:
        """A place for the job, which goes to others unless it is `kept`.

        Raises Limited when there is none for `patience` seconds.
        """
        verdict = self._ahead(caller) or await self._ask(caller, job)
        if verdict.word != "OK" and patience and verdict.wait <= patience and self._room_for(caller):
            waiter = Waiter(caller, job, gone, asyncio.get_running_loop().create_future(), verdict)
            with contextlib.suppress(TimeoutError):
                await self._wait(waiter, patience)
            verdict = waiter.verdict if waiter.verdict.word == "OK" else self._ahead(caller) or verdict
        async with self._placed(caller, job, verdict) as place:
            yield place

    @contextlib.asynccontextmanager
    async def passed(self, caller: Caller, session: str) -> AsyncIterator[Place]:
        """The same for a live session: at once, and whatever room there is for jobs."""
        verdict = await admit(self.redis, session, caller.key, caller.limits, 0)
        async with self._placed(caller, session, verdict) as place:
            yield place

    @contextlib.asynccontextmanager
    async def _placed(self, caller: Caller, job: str, verdict: Verdict) -> AsyncIterator[Place]:
        if verdict.word != "OK":
            raise await self._refusal(verdict)
        place = Place()
        try:
            yield place
        finally:
            if not place.kept:
                with contextlib.suppress(*AWAY):
                    await release(self.redis, job, caller.key)

    def _ahead(self, caller: Caller) -> Verdict | None:
        """What keeps those waiting who come before this caller; None when nobody does."""
        firsts = [row[0] for row in self._rows.values() if row]
        before = [one for one in firsts if one.verdict.word == "FULL" or _row(one.caller) == _row(caller)]
        return before[0].verdict if before else None

    async def _wait(self, waiter: Waiter, patience: float) -> None:
        self._rows.setdefault(_row(waiter.caller), deque()).append(waiter)
        if self._walk is None or self._walk.done():
            self._walk = asyncio.create_task(self._run())
        async with asyncio.timeout(patience):
            await waiter.done

    def _room_for(self, caller: Caller) -> bool:
        """Whether a caller may wait: no row takes all the room there is for others."""
        row = self._rows.get(_row(caller), ())
        return len(self) < LONGEST and len(row) < LONGEST // 2

    async def _run(self) -> None:
        """Let in whoever may, at every end of a job and now and then, while anybody waits."""
        try:
            looked = swept = -math.inf
            while self._rows and not self.events.closed:
                async with contextlib.aclosing(self.events.changes(None, LOOK_S)) as news:
                    async for changes in news:
                        if time.monotonic() > swept + SWEEP_S:
                            await self._let_go()
                            swept = time.monotonic()
                        if time.monotonic() > looked + LOOK_S or any(map(_ends, changes)):
                            await self._round()
                            looked = time.monotonic()
                        if not self._rows:
                            break
        finally:
            for waiter in [one for row in self._rows.values() for one in row if one.waits]:
                waiter.done.set_exception(Unavailable("The server lets nobody in just now; try again soon."))
            self._rows.clear()

    async def _let_go(self) -> None:
        """Take those out of the line who have hung up or waited long enough."""
        for name, row in list(self._rows.items()):
            for waiter in list(row):
                await waiter.look()
            for waiter in [one for one in row if not one.waits]:
                row.remove(waiter)
            if not row:
                self._rows.pop(name, None)

    async def _round(self) -> None:
        """Ask for the first of every row in turn, until nobody gets in."""
        let_in = True
        while let_in:
            let_in = False
            for name in list(self._rows):
                word = ""
                with contextlib.suppress(*AWAY):
                    word = await self._first(self._rows[name])
                if not self._rows[name]:
                    del self._rows[name]
                elif word == "OK":
                    self._rows.move_to_end(name)
                if word == "FULL":
                    return
                let_in |= word == "OK"

    async def _first(self, row: deque[Waiter]) -> str:
        """What the first in a row who is still there is told; empty when there is nobody."""
        while row:
            first = row[0]
            await first.look()
            if not first.waits:
                row.popleft()
                continue
            verdict = await self._ask(first.caller, first.job)
            if not first.waits:  # he gave up meanwhile
                await release(self.redis, first.job, first.caller.key)
                continue
            first.verdict = verdict
            if verdict.word == "OK":
                row.popleft()
                first.done.set_result(None)
            return verdict.word
        return ""

    async def _ask(self, caller: Caller, job: str) -> Verdict:
        """Whether the job may come in; without Redis nobody knows, and only who has limits is kept out."""
        try:
            return await admit(self.redis, job, caller.key, caller.limits, self.room)
        except AWAY:
            if caller.limits != Limits():
                raise
            return Verdict("OK")

    async def _refusal(self, verdict: Verdict) -> Limited:
        """The error for whoever is not let in, with the wait as known, or reckoned by what is measured."""
        if not (wait := verdict.wait):
            if time.monotonic() > self._measured + MEASURE_S:
                self._pace, self._measured = await pace(self.redis), time.monotonic()
            wait = (len(self) + 1) * self._pace
        code, status, message = TOLD[verdict.word]
        return Limited(message, retry_after=min(max(wait, SOON_S), LATE_S), code=code, status=status)


def _ends(change: Change) -> bool:
    return change.task is None and change.state in ENDS


def _row(caller: Caller) -> str:
    return caller.key or caller.owner
