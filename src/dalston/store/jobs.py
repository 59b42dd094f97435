"""Jobs: submitting, reading, listing, waiting and finishing.

A job that ended is read from its files, one that runs from Redis. So an ended job looks the same
whether Redis still knows it or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from typing import Any

import msgspec
from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from dalston_engine.stages import STAGES
from msgspec import Struct

from dalston.errors import NotFound
from dalston.store.client import Client
from dalston.store.events import Events
from dalston.store.files import Files, JobFile, Outcome, Source, StageRecord
from dalston.store.scripts import FINISH, SUBMIT

_ID = re.compile("[0-9a-f]{32}")
ENDED = {"completed", "failed", "cancelled"}
REREAD_S = 5.0


class Job(Struct, omit_defaults=True):
    """A job as clients see it, but for its transcript."""

    id: str
    state: str
    created_at: float
    stages: list[StageRecord]
    progress: float
    """Work done, 0 to 1, stages weighted by their typical effort."""
    finished_at: float | None = None
    source: Source | None = None
    error: ErrorRecord | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def new_id() -> str:
    """A job id: 48 bits of milliseconds, so that ids sort by time, then 80 random ones."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class Jobs:
    """All jobs of one data folder and its Redis."""

    def __init__(self, redis: Client, files: Files, events: Events, keep: int) -> None:
        self.redis, self.files, self.events, self.keep = redis, files, events, keep

    async def submit(self, file: JobFile) -> None:
        """Let an accepted job run. Idempotent by the job's id."""
        await SUBMIT(
            self.redis,
            job=file.id,
            owner=file.owner,
            request=bytes(file.request).decode(),
            plan=msgspec.json.encode(file.plan).decode(),
            high=None,
        )

    async def get(self, job: str) -> Job:
        """A job's present state; raises NotFound."""
        file = self.files.read(job) if _ID.fullmatch(job) else None
        if file is None:
            raise NotFound(f"There is no job {job[:40]}.")
        if file.outcome is not None:
            return _ended(file, file.outcome)
        live, _ = await self._live(file)
        return live or Job(file.id, "queued", file.created_at, [], 0.0, source=file.source)

    async def newest(self, limit: int) -> list[Job]:
        """The newest jobs."""
        ids = await self.redis.zrevrange(keys.JOBS(), 0, limit - 1)
        jobs = []
        for job in ids:
            with contextlib.suppress(NotFound):
                jobs.append(await self.get(job))
        return jobs

    async def wait(self, job: str, seconds: float | None = None) -> Job:
        """The job once it has ended, or as it is after `seconds`; raises NotFound."""
        end = time.monotonic() + seconds if seconds is not None else None
        async with self.events.of(job) as changed:
            while True:
                changed.clear()
                found = await self.get(job)
                left = REREAD_S if end is None else min(REREAD_S, end - time.monotonic())
                if found.ended or left <= 0:
                    return found
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), left)

    async def finish(self, job: str) -> None:
        """Publish a job whose tasks have all ended: its files first, then its state. Idempotent."""
        file = self.files.read(job)
        if file is None:
            return
        live, tasks = await self._live(file)
        if live is None:
            return
        error = next((stage.error for stage in live.stages if stage.state == "failed"), None)
        cancelled = any(stage.state == "cancelled" for stage in live.stages)
        state = "failed" if error else "cancelled" if cancelled else "completed"
        file.outcome = Outcome(state, live.created_at, time.time(), live.stages, error)
        outcome = await asyncio.to_thread(self.files.publish, file, tasks[-1].get("token", ""))
        await FINISH(
            self.redis,
            job=job,
            state=outcome.state,
            error=msgspec.json.encode(outcome.error).decode() if outcome.error else None,
            keep=self.keep,
        )

    async def _live(self, file: JobFile) -> tuple[Job | None, list[dict[str, str]]]:
        """The job as Redis knows it, if it does, and its tasks' fields."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.JOB(job=file.id))
            for task in file.plan:
                pipe.hgetall(keys.TASK(task=task.id))
            fields, *tasks = await pipe.execute()
        if not fields or not all(tasks):
            return None, []
        stages = [_stage(task) for task in tasks]
        job = Job(
            id=file.id,
            state=fields["state"],
            created_at=int(fields["created_at"]) / 1000,
            stages=stages,
            progress=_progress(stages),
            source=file.source,
        )
        return job, tasks


def _ended(file: JobFile, outcome: Outcome) -> Job:
    return Job(
        id=file.id,
        state=outcome.state,
        created_at=outcome.created_at,
        stages=outcome.stages,
        progress=_progress(outcome.stages),
        finished_at=outcome.finished_at,
        source=file.source,
        error=outcome.error,
    )


def _stage(task: dict[str, Any]) -> StageRecord:
    waited = int(task.get("started_at", 0)) - int(task.get("queued_at", 1))
    return StageRecord(
        stage=task["stage"],
        engine=task["engine"],
        state=task["state"],
        attempt=int(task["attempt"]),
        progress=float(task["progress"]) if "progress" in task else None,
        queued_seconds=waited / 1000 if waited >= 0 else None,
        seconds=float(task["seconds"]) if task.get("seconds") else None,
        error=msgspec.json.decode(task["error"], type=ErrorRecord) if task.get("error") else None,
    )


def _progress(stages: list[StageRecord]) -> float:
    total = sum(STAGES[stage.stage].effort for stage in stages)
    done = sum(STAGES[stage.stage].effort * (stage.progress or 0) for stage in stages)
    return round(done / total, 4) if total else 0.0
