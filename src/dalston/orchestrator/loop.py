"""The orchestrator's two loops: work that settling hands it, and a sweep every second.

Any number of orchestrators run; every step is idempotent, so none of them leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets

import msgspec
from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from dalston_engine.queue import ATTEMPTS, AWAY
from redis.exceptions import ResponseError

from dalston.store.client import BLOCK_MS, Client
from dalston.store.jobs import Jobs
from dalston.store.scripts import PROMOTE, RECLAIM

log = logging.getLogger("dalston.orchestrator")

GROUP = "orchestrators"
LEASE_MS = 15_000
SWEEP_S = 1.0


class Orchestrator:
    """One orchestrator at work."""

    def __init__(self, redis: Client, jobs: Jobs) -> None:
        self.redis, self.jobs = redis, jobs
        self.name = secrets.token_hex(4)

    async def run(self) -> None:
        """Work and sweep until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._patiently(self._work))
            loops.create_task(self._patiently(self._sweep))

    async def _patiently(self, step: object) -> None:
        assert callable(step)
        while True:
            try:
                await step()
            except AWAY:
                log.warning("redis cannot be reached; still trying")
                await asyncio.sleep(0.5)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                with contextlib.suppress(ResponseError):  # the other loop was first
                    await self.redis.xgroup_create(keys.WORK(), GROUP, id="0", mkstream=True)

    async def _work(self) -> None:
        streams = await self.redis.xreadgroup(GROUP, self.name, {keys.WORK(): ">"}, count=16, block=BLOCK_MS)
        for entry, work in streams[0][1] if streams else []:
            await self._do(entry, work)

    async def _do(self, entry: str, work: dict[str, str]) -> None:
        try:
            await self.jobs.finish(work["job"])
        except OSError as error:
            log.error("job %s cannot be published yet: %s", work["job"], error.strerror)
            return
        async with self.redis.pipeline() as pipe:
            pipe.xack(keys.WORK(), GROUP, entry)
            pipe.xdel(keys.WORK(), entry)
            await pipe.execute()
        log.info("job %s ended", work["job"])

    async def _sweep(self) -> None:
        await PROMOTE(self.redis, limit=100)
        members = await self.redis.zrange(keys.ENGINES(), 0, -1)
        for engine in {member.split("/")[0] for member in members}:
            error = ErrorRecord(
                "engine_died", f"The engine {engine} died {ATTEMPTS} times on this recording."
            )
            count = await RECLAIM(
                self.redis,
                engine=engine,
                lease=LEASE_MS,
                attempts=ATTEMPTS,
                error=msgspec.json.encode(error).decode(),
            )
            if count:
                log.warning("%d tasks of %s taken back: their lease ran out", count, engine)
        _, late, *_ = await self.redis.xautoclaim(keys.WORK(), GROUP, self.name, LEASE_MS, count=16)
        for entry, work in late:
            await self._do(entry, work)
        await asyncio.sleep(SWEEP_S)
