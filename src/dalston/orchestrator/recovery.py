"""Bringing Redis in line with the files, which are right.

Redis may have gone back a second, or be empty. Every job on disk that has no outcome runs again
under its own id; every job that has one is ended and listed; what Redis knows of jobs that are not
on disk is forgotten. All of it is idempotent, and safe while others work.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator

from dalston_engine import keys
from msgspec import Struct

from dalston.store import deliveries, idempotency
from dalston.store.client import Client
from dalston.store.files import Files, JobFile
from dalston.store.jobs import Jobs, milliseconds

log = logging.getLogger("dalston.orchestrator")

BATCH = 500
UPLOAD_S = 3600
"""An upload that stands still for so long was given up."""


class Report(Struct):
    """What was done."""

    resumed: int = 0
    """Jobs that run again."""
    ended: int = 0
    """Jobs that Redis held for running."""
    listed: int = 0
    """Ended jobs put back into the lists."""
    forgotten: int = 0
    """Jobs without files."""
    dropped: int = 0
    """Uploads that were never finished."""
    unreadable: int = 0
    """Jobs whose file is no job's file; they are left alone."""

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, name)} {name}" for name in self.__struct_fields__)


class Recovery:
    """The files of one data folder against its Redis."""

    def __init__(self, redis: Client, files: Files, jobs: Jobs) -> None:
        self.redis, self.files, self.jobs = redis, files, jobs

    async def run(self, thorough: bool) -> Report:
        """Find and mend what differs; `thorough` reads the file of every job, not only of unknown ones."""
        report = Report()
        # First what Redis knows, then what is on disk: a job accepted in between is not mistaken
        # for one without files.
        known = set(await self.redis.zrange(keys.JOBS(), 0, -1))
        active = set(await self.redis.zrange(keys.ACTIVE(), 0, -1))
        on_disk = await asyncio.to_thread(self.files.ids)
        for job in (known | active) - set(on_disk):
            await self.jobs.forget(job)
            report.forgotten += 1
        suspects = [job for job in on_disk if thorough or job not in known or job in active]
        for batch in _batches(suspects):
            files = await asyncio.to_thread(self._read, batch, report)
            ended = [file for file in files if file.outcome is not None]
            await self._end(ended, known, active, report)
            await idempotency.restore(self.redis, files)
            await self._resume([file for file in files if file.outcome is None], active, report)
        return report

    def _read(self, jobs: list[str], report: Report) -> list[JobFile]:
        found = []
        for job in jobs:
            try:
                if file := self.files.read(job):
                    found.append(file)
                else:
                    report.dropped += self.files.drop_upload(job, UPLOAD_S)
            except OSError as error:
                log.error("job %s cannot be read and is left alone: %s", job, error.strerror)
                report.unreadable += 1
        return found

    async def _end(self, files: list[JobFile], known: set[str], active: set[str], report: Report) -> None:
        """End jobs that have an outcome, and list them with the end of their retention as it is set now."""
        scores = []
        if held := [file.id for file in files if file.id in active]:
            scores = await self.redis.zmscore(keys.ACTIVE(), held)  # most have ended by now as they should
        late = [job for job, score in zip(held, scores, strict=True) if score is not None]
        errors = await self.jobs.finish_all(late)
        for job, error in errors.items():
            log.error("job %s cannot be ended now: %s", job, error.strerror)
        report.ended += len(late) - len(errors)
        report.listed += sum(file.id not in known for file in files)
        await deliveries.restore(self.redis, self.files, [file for file in files if file.notify])
        async with self.redis.pipeline(transaction=False) as pipe:
            for file in files:
                pipe.zadd(keys.JOBS(), {file.id: milliseconds(file.created_at)}, nx=True)
                retention = self.jobs.retention_of(file)
                if retention is None or file.outcome is None:
                    pipe.zrem(keys.EXPIRY(), file.id)
                else:
                    end = file.outcome.finished_at + retention
                    pipe.zadd(keys.EXPIRY(), {file.id: int(end * 1000)})
            await pipe.execute()

    async def _resume(self, files: list[JobFile], active: set[str], report: Report) -> None:
        """Let jobs without an outcome run, of which Redis holds nothing, only a part, or an earlier run."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for file in files:
                pipe.exists(keys.JOB(job=file.id))
            there = await pipe.execute()
        lost = [
            file
            for file, held in zip(files, there, strict=True)
            if file.id not in active or not held or file.run > 1
        ]
        report.resumed += await self.jobs.resume(lost)


def _batches(jobs: list[str]) -> Iterator[list[str]]:
    found = iter(jobs)
    while batch := list(itertools.islice(found, BATCH)):
        yield batch
