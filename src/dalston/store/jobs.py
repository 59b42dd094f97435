"""Jobs: submitting, reading, listing, waiting, cancelling, deleting, retrying and finishing.

A job that ended is read from its files, one that runs from Redis. So an ended job looks the same
whether Redis still knows it or not. Where the two disagree, the files are right.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from dalston_engine.errors import ErrorRecord
from dalston_engine.queue import AWAY
from dalston_engine.stages import STAGES
from msgspec import Raw, Struct, field

from dalston.errors import Conflict, JobDamaged, NotFound, Unavailable
from dalston.store.client import Client
from dalston.store.ending import Verdict, conclude
from dalston.store.events import Events
from dalston.store.files import Damaged, Files, JobFile, Outcome, Source, StageRecord, is_id
from dalston.store.scripts import CANCEL, FINISH, FORGET, REVIVE, SUBMIT, run, run_all
from dalston.store.snapshot import Snapshot

log = logging.getLogger("dalston.jobs")

ENDED = {"completed", "failed", "cancelled"}
REREAD_S = 5.0
AGAIN_S = 0.5
EPHEMERAL_S = 600
"""How long a job that nobody wants kept stays, if whoever was to be answered is gone."""
DELIVERED_S = 86_400
"""How long one stays that is yet to be delivered."""
CHUNK = 4
"""How many jobs one thread publishes."""
UNREADABLE = (NotFound, JobDamaged, OSError)
"""What keeps one job out of a list, and no other."""


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
    warnings: list[str] = field(default_factory=list)
    """What optional stages failed to add."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class StageResult(StageRecord, omit_defaults=True):
    """One task of a job with what it returned, once it is completed."""

    result: Raw | None = None


def new_id() -> str:
    """A job id: 48 bits of milliseconds, so that ids sort by time, then 80 random ones."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def milliseconds(seconds: float) -> int:
    """Seconds since 1970 as the milliseconds that jobs are listed by."""
    return int(seconds * 1000)


class Jobs:
    """All jobs of one data folder and its Redis."""

    def __init__(
        self, redis: Client, files: Files, events: Events, keep: int, retention: int | None = None
    ) -> None:
        self.redis, self.files, self.events = redis, files, events
        self.keep, self.retention = keep, retention
        self.owner: str | None = None
        self._unsent: set[asyncio.Task[None]] = set()

    def seen_by(self, owner: str) -> Jobs:
        """The same jobs, but for those of others: they are not there."""
        view = copy.copy(self)
        view.owner = owner
        return view

    async def submit(self, file: JobFile) -> Job:
        """Let an accepted job run. Idempotent by the job's id.

        The job is on disk, so it will run even if Redis cannot be told of it now.
        """
        try:
            if file.outcome is None:
                await self._send(file)
            return await self.get(file.id)
        except AWAY:
            log.warning("job %s is accepted but cannot be queued yet: redis cannot be reached", file.id)
            later = asyncio.create_task(self._send_later(file))
            self._unsent.add(later)
            later.add_done_callback(self._unsent.discard)
            return _queued(file)

    async def resume(self, files: Sequence[JobFile]) -> int:
        """Let jobs without an outcome run, whatever Redis knows of them; how many did not. Idempotent.

        One that was ended or deleted since its file was read ends at once.
        """
        resumed = [file.id for file in files if await self._resume(file)]
        await self.finish_all(resumed)
        return len(resumed)

    async def get(self, job: str) -> Job:
        """A job's present state; raises NotFound."""
        file = self._file(job)
        return self._seen(file, await Snapshot.of(self.redis, job) if file.outcome is None else None)

    def mine(self, job: str) -> bool:
        """Whether the job is one of those seen."""
        if self.owner is None:
            return True
        with contextlib.suppress(*UNREADABLE):
            return bool(self._file(job))
        return False

    async def several(self, jobs: Sequence[str]) -> list[Job]:
        """The present states of jobs, but for those that are gone or cannot be read."""
        files = await asyncio.to_thread(self._readable, jobs)
        open = [file.id for file in files if file.outcome is None]
        snapshots = dict(zip(open, await Snapshot.several(self.redis, open), strict=True))
        found = []
        for file in files:
            with contextlib.suppress(*UNREADABLE):
                found.append(self._seen(file, snapshots.get(file.id)))
        return found

    async def stage(self, job: str, name: str) -> list[StageResult]:
        """What a stage's tasks have left so far; raises NotFound."""
        file = self._file(job)
        if file.outcome is not None:
            stages, artifacts = file.outcome.stages, file.outcome.artifacts
        else:
            found = await Snapshot.of(self.redis, job)
            stages, artifacts = (found.stages, found.artifacts) if found else ([], [])
        results = []
        for stage, artifact in zip(stages, artifacts, strict=True):
            if stage.stage == name:
                content = await asyncio.to_thread(self.files.result, job, artifact)
                fields = msgspec.structs.asdict(stage)
                results.append(StageResult(**fields, result=None if content is None else Raw(content)))
        if not results:
            known = ", ".join(dict.fromkeys(stage.stage for stage in stages)) or "none yet"
            raise NotFound(f"Job {job} has no stage {name[:40]!r}; it has: {known}.")
        return results

    async def wait(self, job: str, seconds: float | None = None) -> Job:
        """The job once it has ended, or as it is after `seconds`; raises NotFound, or Unavailable."""
        end = time.monotonic() + seconds if seconds is not None else None
        async with self.events.of(job) as changed:
            while True:
                changed.clear()
                found = await self._patient(job)
                left = REREAD_S if end is None else min(REREAD_S, end - time.monotonic())
                if found is not None and (found.ended or left <= 0):
                    return found
                if left <= 0:
                    raise Unavailable(f"Job {job} is safe, but Redis cannot be reached; ask again soon.")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), left if found else min(left, AGAIN_S))

    async def cancel(self, job: str) -> Job:
        """End a job now; raises NotFound, or Conflict when it has ended otherwise."""
        file = self._file(job)
        word = await run(CANCEL, self.redis, job=job, run=file.run)
        if word == "NONE" and file.outcome is None:  # Redis has lost it, or has not been told
            now = time.time()
            await asyncio.to_thread(
                self.files.publish, file, Outcome("cancelled", file.created_at, now, [], [])
            )
        await self.finish(job)
        found = await self.wait(job, REREAD_S)
        if found.state in {"completed", "failed"}:
            raise Conflict(f"Job {job} is {found.state}; it cannot be cancelled any more.", code="job_ended")
        return found

    async def delete(self, job: str) -> None:
        """Remove a job with its files and keys, whatever it is doing; raises NotFound.

        Its files alone count: while Redis is away or takes no writes, its keys stay until they are
        compared with the files.
        """
        try:
            file = self._file(job)
        except JobDamaged:
            file = None
        with contextlib.suppress(*AWAY):
            await run(CANCEL, self.redis, job=job, run=1)
        await asyncio.to_thread(self.files.remove, job)
        with contextlib.suppress(*AWAY):
            await self.forget(job, file)

    async def forget(self, job: str, file: JobFile | None = None) -> None:
        """Remove the keys of a job that has no folder."""
        tasks = " ".join(task.id for task in file.plan) if file else ""
        await run(FORGET, self.redis, job=job, tasks=tasks)

    async def retry(self, job: str) -> Job:
        """Run the tasks of a failed or cancelled job again that did not complete.

        Raises NotFound, or Conflict when there is nothing to run again.
        """
        outcome = self._file(job).outcome
        if outcome is None or outcome.state == "completed":
            state = outcome.state if outcome else "still at work"
            raise Conflict(f"Job {job} is {state}; there is nothing to try again.", code="nothing_to_retry")
        file = await asyncio.to_thread(self.files.reopen, job)
        if file is not None and file.outcome is None:
            await self.resume([file])
        return await self.get(job)

    async def finish(self, job: str) -> None:
        """Publish a job whose tasks have all ended: its files first, then its state. Idempotent."""
        for error in (await self.finish_all([job])).values():
            raise error

    async def finish_all(self, jobs: Sequence[str]) -> dict[str, OSError]:
        """As `finish`; the errors of those whose files cannot be read or written now."""
        found = list(zip(jobs, await Snapshot.several(self.redis, jobs), strict=True))
        chunks = [found[n : n + CHUNK] for n in range(0, len(found), CHUNK)]
        concluded = await asyncio.gather(
            *(asyncio.to_thread(conclude, self.files, chunk) for chunk in chunks)
        )
        verdicts = [verdict for chunk in concluded for verdict in chunk]
        await run_all(FINISH, self.redis, [self._last(v.file) for v in verdicts if v.what == "finish"])
        for verdict in verdicts:
            await self._otherwise(verdict)
        return {verdict.job: verdict.error for verdict in verdicts if verdict.error}

    async def _otherwise(self, verdict: Verdict) -> None:
        match verdict:
            case Verdict(job, "forget"):
                await self.forget(job)
            case Verdict(job, "resume", JobFile() as file):
                await self.resume([file])
            case Verdict(job, "restart", JobFile() as file):
                log.warning("job %s starts over: what a stage wrote is gone", job)
                await run(REVIVE, self.redis, job=job, run=file.run, all=1)

    def _last(self, file: JobFile | None) -> dict[str, Any]:
        """The arguments of the terminal transition of a job with an outcome."""
        assert file is not None
        assert file.outcome is not None
        error = msgspec.json.encode(file.outcome.error).decode() if file.outcome.error else None
        return {"job": file.id, "run": file.run, "state": file.outcome.state, "error": error,
                "keep": self.keep, "retention": self.retention_of(file),
                "notify": 1 if file.notify else None}  # fmt: skip

    def retention_of(self, file: JobFile) -> int | None:
        """For how many seconds after its end a job's files stay; None: until they are deleted."""
        if file.keep:
            return self.retention
        return EPHEMERAL_S if file.notify is None else DELIVERED_S

    def _file(self, job: str) -> JobFile:
        try:
            file = self.files.read(job) if is_id(job) else None
        except Damaged:
            if self.owner is not None:  # nobody knows whose it is
                raise NotFound(f"There is no job {job[:40]}.") from None
            raise JobDamaged(
                f"The job.json of job {job} is damaged. Delete the job, or restore it."
            ) from None
        if file is None or self.owner not in (None, file.owner):
            raise NotFound(f"There is no job {job[:40]}.")
        return file

    def _readable(self, jobs: Sequence[str]) -> list[JobFile]:
        files = []
        for job in jobs:
            with contextlib.suppress(*UNREADABLE):
                files.append(self._file(job))
        return files

    def _seen(self, file: JobFile, found: Snapshot | None) -> Job:
        """A job from its file and, while it runs, from what Redis knows."""
        if file.outcome is None and found and found.state in ENDED:
            file = self._file(file.id)  # it ended meanwhile
        if file.outcome is not None:
            return _ended(file, file.outcome)
        if found is None or found.run < file.run:
            return _queued(file)
        stages = found.stages
        return Job(file.id, found.state, file.created_at, stages, _progress(stages), source=file.source)

    async def _patient(self, job: str) -> Job | None:
        """The job, or None while Redis is away."""
        try:
            return await self.get(job)
        except AWAY:
            return None

    async def _send(self, file: JobFile) -> str:
        request, plan = bytes(file.request).decode(), msgspec.json.encode(file.plan).decode()
        high = 1 if file.high else None
        return str(await run(SUBMIT, self.redis, job=file.id, run=file.run, owner=file.owner,
                             created=milliseconds(file.created_at), request=request, plan=plan, high=high,
                             trace=file.trace, key=file.key))  # fmt: skip

    async def _send_later(self, file: JobFile) -> None:
        while True:
            await asyncio.sleep(AGAIN_S)
            with contextlib.suppress(*AWAY):
                await self.resume([file])
                return

    async def _resume(self, file: JobFile) -> bool:
        told = await self._send(file)
        if told == "EXISTS":
            told = await run(REVIVE, self.redis, job=file.id, run=file.run, all=None)
        return bool(told == "OK")


def _queued(file: JobFile) -> Job:
    """A job of which Redis has not been told."""
    return Job(file.id, "queued", file.created_at, [], 0.0, source=file.source)


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
        warnings=outcome.warnings,
    )


def _progress(stages: list[StageRecord]) -> float:
    total = sum(STAGES[stage.stage].effort for stage in stages)
    done = sum(STAGES[stage.stage].effort * (stage.progress or 0) for stage in stages)
    return round(done / total, 4) if total else 0.0
