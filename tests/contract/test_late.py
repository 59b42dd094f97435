"""Somebody froze between two steps, and acts on what it knew: what was done meanwhile stays."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dalston_engine import Engine, Media, keys
from dalston_engine.errors import Cancelled, LeaseLost
from dalston_engine.host import Host
from dalston_engine.manifest import Manifest
from dalston_engine.models import Models
from dalston_engine.types import Task
from dalston_engine.worker import Keeper

from dalston.errors import Conflict
from dalston.orchestrator import upkeep
from dalston.orchestrator.recovery import Recovery
from dalston.store import files as store
from dalston.store.scripts import CANCEL, FAIL, run
from tests.contract.house import MEDIA, House, house
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(redis: Any, valkey: str, tmp_path: Path) -> AsyncIterator[House]:
    async with house(valkey, tmp_path / "data", retention=86_400) as made:
        yield made


async def failed(home: House) -> str:
    """A job that has failed."""
    job = await home.submitted()
    home.step("prepare", "failed")
    await home.orchestrate()
    return job


async def test_retention_does_not_delete_a_run_that_ended_later(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await failed(home)
    await home.pass_time(90_000)
    loop, look = asyncio.get_running_loop(), home.orchestrator.upkeep._expire

    async def meanwhile() -> None:
        await home.jobs.retry(job)
        await home.run_all()

    def frozen(_: Any, ended: Any) -> list[str]:
        assert list(ended) == [job]
        asyncio.run_coroutine_threadsafe(meanwhile(), loop).result(20)
        return look(ended)

    monkeypatch.setattr(upkeep.Upkeep, "_expire", frozen)
    await home.orchestrator.upkeep.make_space()
    assert (await home.jobs.get(job)).state == "completed"


async def test_a_job_that_is_tried_again_has_no_end_of_retention(home: House) -> None:
    """Though Redis had forgotten all of it but that."""
    job = await failed(home)
    await home.pass_time(5000)
    assert not await home.redis.exists(keys.JOB(job=job))
    await home.jobs.retry(job)
    assert await home.redis.zscore(keys.EXPIRY(), job) is None
    await home.jobs.delete(job)


async def test_a_task_is_not_failed_for_an_engine_that_has_come_back(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await home.submitted()
    await home.upkeep()
    await home.pass_time(3600)
    send = run

    async def frozen(name: Any, redis: Any, **values: Any) -> Any:
        if name is FAIL:
            home.heartbeat("prepare")
        return await send(name, redis, **values)

    monkeypatch.setattr(upkeep, "run", frozen)
    await home.orchestrator.upkeep.move_stuck()
    await home.run_all()
    assert (await home.jobs.get(job)).state == "completed"


async def test_a_job_that_has_completed_meanwhile_is_not_tried_again(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I13"""
    job = await failed(home)
    reopen, loop, first = home.files.reopen, asyncio.get_running_loop(), threading.Event()

    async def meanwhile() -> None:
        await home.jobs.retry(job)
        await home.run_all()

    def frozen(id: str) -> Any:
        if not first.is_set():
            first.set()
            asyncio.run_coroutine_threadsafe(meanwhile(), loop).result(20)
        return reopen(id)

    monkeypatch.setattr(home.files, "reopen", frozen)
    assert (await home.jobs.retry(job)).state == "completed"
    file = home.files.read(job)
    assert file is not None
    assert file.run == 2
    with pytest.raises(Conflict):
        await home.jobs.retry(job)


async def test_a_retry_of_which_redis_has_not_heard_can_be_cancelled(home: House) -> None:
    job = await failed(home)
    home.files.reopen(job)
    assert (await home.jobs.cancel(job)).state == "cancelled"
    await Recovery(home.redis, home.files, home.jobs).run(thorough=True)
    await home.run_all()
    assert (await home.jobs.get(job)).state == "cancelled"


async def test_an_upload_that_is_accepted_meanwhile_is_not_dropped(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home.accepted()
    (home.files.jobs / file.id / "job.json").unlink()
    for path in (home.files.jobs / file.id / "source.wav", home.files.jobs / file.id):
        os.utime(path, (0, 0))
    still, accepting = store._still, threading.Thread(target=home.files.accept, args=(file,))

    def frozen(path: Path) -> float:
        accepting.start()
        accepting.join(0.2)  # it waits, or it is done
        return still(path)

    monkeypatch.setattr(store, "_still", frozen)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # whoever waited is told that it is gone
    dropped = home.files.drop_upload(file.id, 3600)
    accepting.join()
    assert dropped is (home.files.read(file.id) is None)


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_rebuild_that_is_killed_loses_no_job(home: House, claimed: bool) -> None:
    job = await home.submitted()
    await home.redis.delete(keys.JOB(job=job))
    if claimed:
        home.step("prepare")
    for _ in range(2):
        await Recovery(home.redis, home.files, home.jobs).run(thorough=True)
        await home.run_all()
    assert (await home.jobs.get(job)).state == "completed"


async def test_growing_a_job_that_was_cancelled_ends(home: House) -> None:
    job = await home.submitted(prepare={"grows": True}, transcribe={"each": True})
    home.step("prepare", media=msgspec.structs.replace(MEDIA, parts=3))
    await run(CANCEL, home.redis, job=job, run=1)  # and the gateway is killed
    await asyncio.wait_for(home.orchestrate(), 10)
    assert (await home.jobs.get(job)).state == "cancelled"


async def test_an_ended_job_leaves_redis_though_its_memory_is_full(home: House) -> None:
    job = await home.submitted()
    for stage in ("prepare", "transcribe", "merge"):
        home.step(stage)
    await home.redis.config_set("maxmemory", 1)
    try:
        await home.jobs.finish(job)
    finally:
        await home.redis.config_set("maxmemory", 0)
    assert await home.redis.ttl(keys.JOB(job=job)) > 0
    await home.redis.delete(keys.WORK())


class Stub(Engine):
    """Does nothing."""

    def prepare(self, source: Path, folder: Path) -> Media:
        return MEDIA


class Renewals:
    """A queue that answers renewals as it is told, once it is told to."""

    def __init__(self) -> None:
        self.asked, self.go, self.word = threading.Event(), threading.Event(), "OK"

    def renew(self, task: Task, progress: float | None) -> str:
        word = self.word
        self.asked.set()
        self.go.wait(10)
        return word

    def heartbeat(self, *_: object) -> None:
        pass


def keeper(tmp_path: Path, queue: Any) -> Keeper:
    """A keeper of no process in particular."""
    manifest = Manifest("stub", "prepare")
    return Keeper(queue, Host(Stub, manifest, Models(manifest, tmp_path)))


@pytest.mark.parametrize(("word", "error"), [("CANCELLED", Cancelled), ("LOST", LeaseLost)])
def test_what_is_said_of_one_task_does_not_reach_the_next(
    tmp_path: Path, word: str, error: type[Exception]
) -> None:
    one, two = (Task(f"{job}.prepare", job, "prepare", "stub", 1, job) for job in "ab")
    queue = Renewals()
    kept = keeper(tmp_path, queue)
    queue.word = word
    kept.hold(one)
    kept.start()
    queue.asked.wait(10)
    kept.hold(two)
    queue.word = "OK"
    queue.asked.clear()
    queue.go.set()
    queue.asked.wait(10)
    kept.report(0.5)
    queue.word = word
    with pytest.raises(error):
        until(lambda: kept.report(0.6), 10)
    kept.stopping.set()
    kept.join()
