"""Two engines, an orchestrator and a gateway's stores in this process, on a Redis that may go away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from dalston_engine import Engine, Media, Parts, Transcript, keys
from dalston_engine.host import Host
from dalston_engine.manifest import Manifest
from dalston_engine.models import Models
from dalston_engine.queue import AWAY
from dalston_engine.worker import Worker
from msgspec import Raw

from dalston.local import valkey
from dalston.orchestrator.loop import Orchestrator
from dalston.store.client import Client, connect
from dalston.store.events import Events
from dalston.store.files import Files, JobFile, PlanTask, Source
from dalston.store.jobs import Job, Jobs, new_id
from tests.waiting import soon, until

SOON_S = 20
LAUNCH = (
    "import os, sys; from dalston.local.valkey import die_with_parent; die_with_parent();"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@contextlib.asynccontextmanager
async def own_tasks() -> AsyncIterator[None]:
    """Ends what was started within, however often it takes: one cancel alone may be lost."""
    before = asyncio.all_tasks()
    try:
        yield
    finally:
        while going := asyncio.all_tasks() - before:
            for task in going:
                task.cancel()
            await asyncio.wait(going, timeout=0.05)


class Preparer(Engine):
    """Finds that every recording is fine."""

    def prepare(self, source: Path, folder: Path) -> Media:
        self.progress(0.5)
        return Media(1.0, source.suffix[1:], "pcm", 16_000, 1)


class Merger(Engine):
    """Says nothing of anything."""

    def merge(self, parts: Parts) -> Transcript:
        return Transcript(segments=[], language="en")


ENGINES = {"prepare": ("preparer", Preparer), "merge": ("merger", Merger)}


@contextlib.contextmanager
def at_work(url: str, stage: str, data: Path) -> Iterator[Worker]:
    """A worker's own loop in a thread, until it drains; its keeper is running."""
    name, engine = ENGINES[stage]
    manifest = Manifest(name, stage)
    worker = Worker(Host(engine, manifest, Models(manifest, data / "models")), url, "one", data / "jobs")
    thread = threading.Thread(target=worker.run, name=name, daemon=True)
    with mock.patch.object(signal, "signal"):  # signals are for main threads
        thread.start()
        until(worker.keeper.is_alive)
    try:
        yield worker
        assert thread.is_alive(), f"the loop of {name} has ended"
        assert worker.keeper.is_alive(), f"the keeper of {name} has ended"
    finally:
        worker.keeper.draining = True
        worker.keeper.stopping.set()
        while thread.is_alive():
            with contextlib.suppress(*AWAY):  # wake it up
                worker.keeper.queue.redis.xadd(keys.QUEUE_HIGH(engine=name), {"task": ""})
            thread.join(0.05)
        worker.keeper.join(SOON_S)
        for queue in (worker.queue, worker.keeper.queue):
            queue.redis.close()


class Office:
    """The stores of a gateway, and an orchestrator, whose loops run as tasks."""

    def __init__(self, redis: Client, data: Path) -> None:
        self.redis, self.files = redis, Files(data)
        self.events = Events(redis)
        self.jobs = Jobs(redis, self.files, self.events, keep=3600)
        self.orchestrator = Orchestrator(redis, self.files, self.jobs, absent_s=3600)
        self.loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Let its loops run."""
        self.loops = [asyncio.create_task(run()) for run in (self.events.run, self.orchestrator.run)]

    def check(self) -> None:
        """None of its loops has ended."""
        for loop in self.loops:
            if loop.done():
                loop.result()
                pytest.fail(f"a loop has ended: {loop}")

    async def accept(self) -> JobFile:
        """A job on disk, of two stages."""
        job = new_id()
        (self.files.create(job) / "source.wav").write_bytes(b"RIFF")
        file = job_file(job)
        await asyncio.to_thread(self.files.accept, file)
        return file

    async def submit(self) -> str:
        """The id of a new job."""
        file = await self.accept()
        await self.jobs.submit(file)
        return file.id

    async def completed(self, job: str) -> Job:
        """The job once it has completed, each task at its first attempt."""
        found = await self.jobs.wait(job, SOON_S)
        self.check()
        assert found.state == "completed", found
        assert [stage.attempt for stage in found.stages] == [1, 1]
        return found


def job_file(job: str) -> JobFile:
    """A job that is prepared, then merged."""
    prepare = PlanTask(f"{job}.prepare", "prepare", "preparer", [], "{}")
    merge = PlanTask(f"{job}.merge", "merge", "merger", [prepare.id], "{}")
    return JobFile(job, "local", time.time(), Source(4, ""), Raw(b"{}"), [prepare, merge])


@contextlib.asynccontextmanager
async def open_office(url: str, data: Path) -> AsyncIterator[Office]:
    """Everything at work, its loops included; none of them may end by itself."""
    async with connect(url) as redis, own_tasks():
        office = Office(redis, data)
        office.start()
        with at_work(url, "prepare", data), at_work(url, "merge", data):
            await soon(lambda: office.orchestrator.upkeep._server)  # it has compared Redis with the files
            yield office
            office.check()


def assert_done_once(redis: Any, jobs: list[str]) -> None:
    """Every job and each of its tasks went through each state once, and was queued and published once."""
    told = Counter((e["job"], e["task"], e["state"]) for _, e in redis.xrange(keys.EVENTS()))
    steps = [(f"{job}.{stage}", step) for job in jobs for stage in ENGINES for step in
             ("queued", "running", "completed")]  # fmt: skip
    expected = Counter((task.split(".")[0], task, step) for task, step in steps)
    expected += Counter((job, "", step) for job in jobs for step in ("queued", "completed"))
    assert told == expected, f"too often: {told - expected}, too rarely: {expected - told}"
    for engine, _ in ENGINES.values():
        assert redis.xinfo_stream(keys.QUEUE(engine=engine))["entries-added"] == len(jobs)
    assert redis.xinfo_stream(keys.WORK())["entries-added"] == len(jobs)
    assert redis.xlen(keys.WORK()) == 0


class Throwaway:
    """A Valkey of a test's own, always on the same socket."""

    def __init__(self, data: Path, *options: str) -> None:
        self.url = valkey.url(data)
        self._command = [*valkey.command(data), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it may take a moment to answer."""
        self._process = subprocess.Popen([sys.executable, "-c", LAUNCH, *self._command])

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
