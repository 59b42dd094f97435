"""A data folder, its Redis and an orchestrator, with engines played by hand."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from dalston_engine.queue import Queue
from dalston_engine.types import Card, Media, Segment, Task, Transcript
from dalston_engine.workspace import Workspace
from msgspec import Raw

from dalston.orchestrator.loop import GROUP, Orchestrator
from dalston.store.client import Client, connect
from dalston.store.events import Events
from dalston.store.files import Files, JobFile, PlanTask, Source
from dalston.store.jobs import Jobs, new_id

STAGES = ("prepare", "transcribe", "merge")
ERROR = ErrorRecord("engine_error", "No.")
MEDIA = Media(1.0, "wav", "pcm_s16le", 16_000, 1)
TEXT = Transcript([Segment(0.0, 1.0, " said")], text="said")


class House:
    """What a server has, without its processes."""

    def __init__(self, url: str, redis: Client, data: Path, keep: int, retention: int | None) -> None:
        self.url, self.redis, self.data = url, redis, data
        self.files = Files(data)
        self.jobs = Jobs(redis, self.files, Events(redis), keep, retention)
        self.orchestrator = Orchestrator(redis, self.files, self.jobs, absent_s=600)
        self.queues: dict[tuple[str, str], Queue] = {}

    def plan(self, job: str, **changes: dict[str, Any]) -> list[PlanTask]:
        """prepare → transcribe → merge, each on an engine of that name."""
        needs = {"prepare": [], "transcribe": ["prepare"], "merge": ["prepare", "transcribe"]}
        return [
            msgspec.structs.replace(
                PlanTask(f"{job}.{stage}", stage, stage, [f"{job}.{need}" for need in needs[stage]], "{}"),
                **changes.get(stage, {}),
            )
            for stage in STAGES
        ]

    def accepted(self, **changes: dict[str, Any]) -> JobFile:
        """A job on disk, of which Redis knows nothing."""
        job = new_id()
        (self.files.create(job) / "source.wav").write_bytes(b"RIFF")
        file = JobFile(job, "local", 1_700_000_000.0, Source(4, "x"), Raw(b"{}"), self.plan(job, **changes))
        self.files.accept(file)
        return file

    async def submitted(self, **changes: dict[str, Any]) -> str:
        """A job that may run."""
        file = self.accepted(**changes)
        await self.jobs.submit(file)
        return file.id

    def queue(self, engine: str, instance: str = "one") -> Queue:
        """An engine's queue as one of its instances sees it."""
        return self.queues.setdefault((engine, instance), Queue(self.url, engine, instance))

    def write(self, task: Task, media: Media = MEDIA) -> None:
        """Leave what the task's engine would."""
        with Workspace(self.files.jobs, task) as workspace:
            workspace.publish(media if task.stage == "prepare" else TEXT)

    def step(self, engine: str, outcome: str = "completed", media: Media = MEDIA) -> Task | None:
        """One task of an engine claimed and settled, if there is one."""
        queue = self.queue(engine)
        task = queue.claim()
        if task is not None:
            if outcome == "completed":
                self.write(task, media)
            assert queue.settle(task, outcome, 0.1, None if outcome == "completed" else ERROR) == "OK"
        return task

    async def upkeep(self) -> None:
        """What an orchestrator does of itself, but for making space."""
        await self.orchestrator.upkeep.sweep()
        await self.orchestrator.upkeep.look_after()

    async def orchestrate(self) -> None:
        """Do all the orchestrators' work there is."""
        with contextlib.suppress(Exception):
            await self.redis.xgroup_create(keys.WORK(), GROUP, id="0", mkstream=True)
        while True:
            found = await self.redis.xreadgroup(GROUP, "hand", {keys.WORK(): ">"}, count=100)
            if not found:
                return
            await self.orchestrator._do_all(found[0][1])

    async def run_all(self) -> None:
        """Let everything run to its end."""
        while any([self.step(stage) for stage in STAGES]):
            await self.orchestrate()
        await self.orchestrate()

    async def completed(self) -> str:
        """A job that has completed."""
        job = await self.submitted()
        await self.run_all()
        return job

    def heartbeat(self, stage: str, engine: str | None = None) -> None:
        """Let the fleet hear of an engine."""
        card = Card(engine or stage, stage, "1")
        self.queue(engine or stage).heartbeat(card, "idle", {})

    async def everything(self) -> dict[str, bytes]:
        """All that Redis holds."""
        return {key: await self.redis.dump(key) async for key in self.redis.scan_iter()}

    async def pass_time(self, seconds: float, swept: bool = True) -> None:
        """Move time on by hand: what Redis and the files remember is that much older.

        `swept`: orchestrators were at work all the while.
        """
        by = int(seconds * 1000)
        for key in [key async for key in self.redis.scan_iter()]:
            ttl = await self.redis.pttl(key)
            if 0 <= ttl <= by:
                await self.redis.delete(key)
                continue
            if ttl > by:
                await self.redis.pexpire(key, ttl - by)
            await self._age(key, by, swept)
        for root, folders, names in os.walk(self.data):
            for name in (*folders, *names):
                path = os.path.join(root, name)
                mtime = os.stat(path).st_mtime - seconds
                os.utime(path, (mtime, mtime))

    async def _age(self, key: str, by: int, swept: bool) -> None:
        if key in {keys.DELAYED(), keys.EXPIRY(), keys.ENGINES(), keys.JOBS(), keys.ACTIVE()}:
            for member, score in await self.redis.zrange(key, 0, -1, withscores=True):
                await self.redis.zadd(key, {member: score - by})
        elif key == keys.SWEEP() or key.startswith("dalston:engine:"):
            for field in ("from", "seen_at") if swept else ("at", "from", "seen_at"):
                if value := await self.redis.hget(key, field):
                    await self.redis.hset(key, field, int(value) - by)
        elif key.startswith("dalston:queue:"):
            await self._age_leases(key, by)

    async def _age_leases(self, key: str, by: int) -> None:
        for group in await self.redis.xinfo_groups(key):
            for one in await self.redis.xpending_range(key, group["name"], "-", "+", 1000):
                idle = one["time_since_delivered"] + by
                await self.redis.xclaim(
                    key, group["name"], one["consumer"], 0, [one["message_id"]], idle=idle, justid=True
                )


@contextlib.asynccontextmanager
async def house(url: str, data: Path, keep: int = 3600, retention: int | None = None) -> AsyncIterator[House]:
    """A house as long as the context lasts."""
    redis = connect(url)
    made = House(url, redis, data, keep, retention)
    try:
        yield made
    finally:
        for queue in made.queues.values():
            queue.redis.close()
        await redis.aclose()
