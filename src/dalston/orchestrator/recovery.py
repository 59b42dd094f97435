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

from dalston.store.client import Client
from dalston.store.files import Files, JobFile
from dalston.store.jobs import Jobs

log = logging.getLogger("dalston.orchestrator")

BATCH = 500


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

    def __str__(self) -> str:
        return (
            f"{self.resumed} jobs run again, {self.ended} were ended already, "
            f"{self.listed} listed again, {self.forgotten} forgotten"
        )


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
            for file in await asyncio.to_thread(lambda batch: list(map(self.files.read, batch)), batch):
                if file is not None:
                    await self._mend(file, file.id in known, file.id in active, report)
        return report

    async def _mend(self, file: JobFile, known: bool, active: bool, report: Report) -> None:
        if file.outcome is not None:
            if active:
                await self.jobs.finish(file.id)
                report.ended += 1
            if not known:
                await self._list(file, file.outcome.finished_at)
                report.listed += 1
        elif not active:
            await self.jobs.resume(file)
            report.resumed += 1

    async def _list(self, file: JobFile, finished_at: float) -> None:
        await self.redis.zadd(keys.JOBS(), {file.id: int(file.created_at * 1000)})
        if self.jobs.retention is not None:
            end = int((finished_at + self.jobs.retention) * 1000)
            await self.redis.zadd(keys.EXPIRY(), {file.id: end})


def _batches(jobs: list[str]) -> Iterator[list[str]]:
    found = iter(jobs)
    while batch := list(itertools.islice(found, BATCH)):
        yield batch
