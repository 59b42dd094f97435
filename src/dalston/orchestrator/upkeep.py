"""What an orchestrator looks after: leases every second, engines that stay away, retention, trash.

Every step is idempotent and may be taken by any number of orchestrators at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from dalston_engine import keys
from dalston_engine.errors import DalstonError, ErrorRecord
from dalston_engine.queue import ATTEMPTS
from msgspec import Struct

from dalston.orchestrator.growth import Change, moved
from dalston.orchestrator.plan import plan
from dalston.orchestrator.recovery import Recovery, Report
from dalston.request import TranscribeRequest
from dalston.store.client import Client
from dalston.store.files import Damaged, Files, JobFile
from dalston.store.fleet import fleet
from dalston.store.jobs import Jobs
from dalston.store.scripts import FAIL, REPLAN, SWEEP, TIDY, run
from dalston.store.snapshot import Snapshot

log = logging.getLogger("dalston.orchestrator")

LEASE_MS = 15_000
SWEEP_S, ABSENT_S, SPACE_S, HOUSEKEEPING_S = 1.0, 5.0, 5.0, 60.0
LIMIT = 1000
IDLE_MS, FORGET_MS = 600_000, 86_400_000


class Upkeep(Struct):
    """The chores of one orchestrator, each at its own pace."""

    redis: Client
    files: Files
    jobs: Jobs
    absent_s: int
    _server: str = ""
    _due: dict[str, float] = msgspec.field(default_factory=dict)

    async def sweep(self) -> float:
        """Promote what is due, take back what outlived its lease; seconds to rest.

        Apart from the other chores: leases count only while somebody sweeps.
        """
        promoted, reclaimed = await run(SWEEP, self.redis, lease=LEASE_MS, attempts=ATTEMPTS, limit=LIMIT)
        if reclaimed:
            log.warning("%d tasks taken back: their leases ran out", reclaimed)
        return 0 if promoted == LIMIT else SWEEP_S

    async def look_after(self) -> float:
        """Do what is due of the slower chores; seconds to rest."""
        await self._recover()
        await self._every(ABSENT_S, self.move_stuck)
        await self._every(HOUSEKEEPING_S, self.clean)
        return SWEEP_S

    async def make_space(self) -> float:
        """Empty the trash, and delete the jobs whose retention has ended, files first; seconds to rest.

        Apart from the other chores, because a full disk may keep Redis from taking writes.
        """
        await asyncio.to_thread(self.files.purge, LEASE_MS / 1000)
        seconds, _ = await self.redis.time()
        due = keys.EXPIRY(), "-inf", seconds * 1000
        jobs = await self.redis.zrangebyscore(*due, start=0, num=LIMIT)
        ended = await asyncio.to_thread(self._read, jobs)
        # Again, now that their runs are known: of what has been tried again meanwhile another run ended.
        still = set(await self.redis.zrangebyscore(*due, start=0, num=LIMIT))
        gone = await asyncio.to_thread(self._expire, {job: ended[job] for job in ended if job in still})
        for job in gone:
            await self.jobs.forget(job, ended[job])
        return 0 if len(gone) == LIMIT else SPACE_S

    def _read(self, jobs: Sequence[str]) -> dict[str, JobFile | None]:
        """The files of jobs whose retention has ended; None for one that is damaged or gone."""
        found: dict[str, JobFile | None] = {}
        for job in jobs:
            try:
                found[job] = self.files.read(job)
            except Damaged:
                found[job] = None
            except OSError as error:
                log.error("job %s cannot be read to delete it: %s", job, error.strerror)
        return found

    def _expire(self, ended: dict[str, JobFile | None]) -> list[str]:
        """Remove the files of those that have ended; returns those without files now."""
        for job, file in ended.items():
            try:
                self.files.remove(job, ended=file.run if file else None)
            except OSError as error:
                log.error("job %s cannot be deleted now: %s", job, error.strerror)
        return [job for job in ended if not (self.files.jobs / job).exists()]

    async def clean(self) -> None:
        """Forget idle consumers, drop half uploads, mend what Redis lost."""
        await run(TIDY, self.redis, idle=IDLE_MS, forget=FORGET_MS)
        report = await Recovery(self.redis, self.files, self.jobs).run(thorough=False)
        if report != Report():
            log.info("redis compared with the files: %s", report)

    async def move_stuck(self) -> None:
        """Give the tasks of engines that stay away to others, or fail them saying so.

        Being away counts from when leases do: an engine may come a while after Redis.
        """
        seconds, _ = await self.redis.time()
        swept = await self.redis.hget(keys.SWEEP(), "from")
        if swept is None:
            return
        since = int(swept) / 1000
        for engine in await self.redis.smembers(keys.QUEUES()):
            seen = int(await self.redis.hget(keys.ENGINE(engine=engine), "seen_at") or 0) / 1000
            if seconds - max(seen, since) < self.absent_s:
                continue
            for lane in (keys.QUEUE_HIGH(engine=engine), keys.QUEUE(engine=engine)):
                await self._move(engine, await self.redis.xrange(lane, count=LIMIT))

    async def _move(self, engine: str, entries: Sequence[tuple[str, dict[str, str]]]) -> None:
        stuck: dict[str, list[str]] = defaultdict(list)
        for _, fields in entries:
            stuck[fields["task"].split(".")[0]].append(fields["task"])
        cards = [card for card in await fleet(self.redis) if card.id != engine] if stuck else []
        for job, tasks in stuck.items():
            found = await Snapshot.of(self.redis, job)
            if found is None:
                continue
            asked = msgspec.json.decode(found.request, type=TranscribeRequest)
            fresh = plan(job, asked, cards)
            present = [task.plan for task in found.tasks]
            change = None if isinstance(fresh, DalstonError) else moved(present, tasks, fresh)
            if change is not None:
                log.warning("job %s goes on without %s, which stays away", job, engine)
                await replan(self.redis, job, found.version, change)
                continue
            reason = fresh.message if isinstance(fresh, DalstonError) else "Nothing else can do this."
            message = f"The engine {engine} has not been heard from for {self.absent_s} s. {reason}"
            error = msgspec.json.encode(ErrorRecord("engine_absent", message, 503)).decode()
            for task in tasks:
                await run(FAIL, self.redis, task=task, engine=engine, error=error,
                          absent=self.absent_s, lease=LEASE_MS)  # fmt: skip

    async def _recover(self) -> None:
        """Compare with the files at the start, and whenever Redis has started anew."""
        server = (await self.redis.info("server"))["run_id"]
        if server != self._server:
            report = await Recovery(self.redis, self.files, self.jobs).run(thorough=True)
            log.info("redis compared with the files: %s", report)
            self._server = server

    async def _every(self, seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
        now = time.monotonic()
        if now >= self._due.get(chore.__name__, 0):
            self._due[chore.__name__] = now + seconds
            await chore()


async def replan(redis: Client, job: str, version: int, change: Change) -> str:
    """Change a job's plan if it still is of that version; answers OK, STALE or ENDED."""
    return str(
        await run(
            REPLAN,
            redis,
            job=job,
            version=version,
            remove=" ".join(change.remove),
            plan=msgspec.json.encode(change.add).decode(),
            order=" ".join(change.order),
        )
    )
