"""The orchestrator's loops: work that settling hands it, upkeep every second, and making space.

Any number of orchestrators run; every step is idempotent, so none of them leads. Work is leased like
a task: what an orchestrator that died had taken is taken up by another after one lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable

import msgspec
from dalston_engine import keys
from dalston_engine.queue import AWAY
from dalston_engine.types import Media
from redis.exceptions import ResponseError

from dalston.orchestrator.growth import grown
from dalston.orchestrator.leftovers import Leftovers
from dalston.orchestrator.notices import Notices
from dalston.orchestrator.upkeep import LEASE_MS, Upkeep, replan
from dalston.store.client import BLOCK_MS, Client, end_if_cancelled
from dalston.store.files import Files
from dalston.store.jobs import Jobs
from dalston.store.snapshot import Snapshot

log = logging.getLogger("dalston.orchestrator")

GROUP = "orchestrators"
BATCH = 16


class Orchestrator:
    """One orchestrator at work."""

    def __init__(
        self, redis: Client, files: Files, jobs: Jobs, absent_s: int, notices: Notices | None = None,
        leftovers: Leftovers | None = None,
    ) -> None:  # fmt: skip
        self.redis, self.files, self.jobs, self.notices = redis, files, jobs, notices
        self.upkeep = Upkeep(redis, files, jobs, absent_s)
        self.leftovers = leftovers
        self.name = secrets.token_hex(4)

    async def run(self) -> None:
        """Work and sweep until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._patiently(self._work))
            loops.create_task(self._patiently(self._late))
            loops.create_task(self._patiently(self.upkeep.sweep))
            loops.create_task(self._patiently(self.upkeep.look_after))
            loops.create_task(self._patiently(self.upkeep.make_space))
            if self.notices is not None:
                loops.create_task(self._patiently(self.notices.deliver))
            if self.leftovers is not None:
                loops.create_task(self._patiently(self.leftovers.look_after))

    async def grow(self, job: str, task: str) -> None:
        """Put a settled task's findings into its job's plan. Idempotent."""
        before = 0
        while True:
            found = await Snapshot.of(self.redis, job)
            grower = next((one for one in found.tasks if one.plan.id == task), None) if found else None
            if found is None or grower is None or not grower.plan.grows:
                return
            result = await asyncio.to_thread(self.files.result, job, grower.artifact)
            parts = None
            if result:
                with contextlib.suppress(msgspec.DecodeError):  # not whole: whoever reads it says so
                    parts = msgspec.json.decode(result, type=Media).parts
            change = grown([one.plan for one in found.tasks], parts)
            if await replan(self.redis, job, found.version, change) != "STALE" or found.version == before:
                return  # a task that would have to go has ended by itself: cancelled
            before = found.version

    async def _patiently(self, step: Callable[[], Awaitable[float]]) -> None:
        """Take a step again and again, whatever is away, resting as long as it says."""
        while True:
            try:
                rest = await self._grouped(step)
            except AWAY:
                log.warning("redis cannot be reached or takes no writes; still trying")
                rest = 0.5
            except OSError as error:
                log.error("the data folder cannot be used, trying again in a while: %s", error.strerror)
                rest = 5
            end_if_cancelled()
            await asyncio.sleep(rest)

    async def _grouped(self, step: Callable[[], Awaitable[float]]) -> float:
        """Take a step; where Redis does not know the orchestrators' group, make it instead."""
        try:
            return await step()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
        try:
            await self.redis.xgroup_create(keys.WORK(), GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another was first
                raise
        return 0

    async def _work(self) -> float:
        streams = await self.redis.xreadgroup(
            GROUP, self.name, {keys.WORK(): ">"}, count=BATCH, block=BLOCK_MS
        )
        await self._do_all(streams[0][1] if streams else [])
        return 0

    async def _late(self) -> float:
        """Take up what another orchestrator, or this one on a full disk, did not finish."""
        _, late, *_ = await self.redis.xautoclaim(keys.WORK(), GROUP, self.name, LEASE_MS, count=BATCH)
        await self._do_all(late)
        return 0 if len(late) == BATCH else LEASE_MS / 1000 / 5

    async def _do_all(self, entries: list[tuple[str, dict[str, str]]]) -> None:
        """Do work; what cannot be done now is taken up again after a lease."""
        ended = list(dict.fromkeys(work["job"] for _, work in entries if work["work"] == "publish"))
        errors = await self.jobs.finish_all(ended) if ended else {}
        for _, work in entries:
            if work["work"] == "grow":
                try:
                    await self.grow(work["job"], work["task"])
                except OSError as error:
                    errors[work["job"]] = error
        for job, failure in errors.items():
            log.error("job %s cannot be read or written, trying again: %s", job, failure.strerror)
        done = [(entry, work) for entry, work in entries if work["job"] not in errors]
        if done:
            async with self.redis.pipeline(transaction=False) as pipe:
                # In this order: what is deleted and not acknowledged, a takeover drops; else it would stay.
                pipe.xdel(keys.WORK(), *(entry for entry, _ in done))
                pipe.xack(keys.WORK(), GROUP, *(entry for entry, _ in done))
                await pipe.execute()
        for _, work in done:
            log.info("%s of job %s done", work["work"], work["job"])
