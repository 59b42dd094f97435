"""Redis has lost something; the files bring it back."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys

from dalston.errors import NotFound
from dalston.orchestrator.loop import Orchestrator
from dalston.orchestrator.recovery import Recovery, Report
from dalston.store.listing import Place, Wanted, page
from tests.contract.house import STAGES, House, house

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(redis: Any, valkey: str, tmp_path: Path) -> AsyncIterator[House]:
    """A house on an empty server; jobs are kept for a day."""
    async with house(valkey, tmp_path / "data", retention=86_400) as made:
        yield made


async def recover(home: House, thorough: bool = True) -> Report:
    """Compare Redis with the files; twice, and the second time nothing is left to do."""
    report = await Recovery(home.redis, home.files, home.jobs).run(thorough)
    assert await Recovery(home.redis, home.files, home.jobs).run(thorough) == Report(
        unreadable=report.unreadable
    )
    return report


async def keys_of(home: House) -> tuple[dict[str, bytes], dict[str, int]]:
    """All that Redis holds, with its lifetimes."""
    held = await home.everything()
    return held, {key: max(0, await home.redis.pttl(key)) for key in held}


async def go_back(home: House, moment: tuple[dict[str, bytes], dict[str, int]]) -> None:
    """Redis is as it was then."""
    await home.redis.flushall()
    for key, value in moment[0].items():
        await home.redis.restore(key, moment[1][key], value)


@pytest.mark.parametrize("done", range(4))
async def test_an_emptied_redis_loses_no_job_in_any_phase(home: House, done: int) -> None:
    """I14"""
    ended, job = await home.completed(), await home.submitted()
    for stage in STAGES[:done]:
        home.step(stage)
    before = await home.jobs.get(ended)
    await home.redis.flushall()
    assert await recover(home) == Report(resumed=1, listed=1)
    await home.run_all()
    assert (await home.jobs.get(job)).state == "completed"
    assert await home.jobs.get(ended) == before
    assert [one.id for one in (await page(home.jobs, Wanted(10))).jobs] == [job, ended]
    assert set(await home.redis.zrange(keys.EXPIRY(), 0, -1)) == {job, ended}


@pytest.mark.parametrize("end", ["cancelled", "deleted"])
async def test_what_ends_after_it_was_read_as_unfinished_does_not_run(home: House, end: str) -> None:
    """I13, I15: whoever stood still in between finds out."""
    job = await home.submitted()
    read = home.files.read(job)
    assert read is not None
    await home.redis.flushall()
    if end == "cancelled":
        await home.jobs.cancel(job)
    else:
        await home.jobs.delete(job)
    assert await home.jobs.resume([read]) == 1
    assert await home.redis.zcard(keys.ACTIVE()) == 0
    assert await home.redis.hget(keys.JOB(job=job), "state") == (end if end == "cancelled" else None)
    await recover(home)
    assert (home.files.read(job) is None) == (end == "deleted")


@pytest.mark.parametrize("done", range(4))
async def test_a_redis_that_went_back_changes_no_outcome(home: House, done: int) -> None:
    """I13, I14: what was told of a job's end stays so, whatever Redis remembers of its run."""
    job, unknown = await home.submitted(), home.accepted()
    for stage in STAGES[:done]:
        home.step(stage)
    held = [task for stage in STAGES if (task := home.queue(stage).claim())]
    moment = await keys_of(home)
    for task in held:
        home.write(task)
        home.queue(task.stage).settle(task, "completed")
    await home.jobs.submit(unknown)
    await home.run_all()
    told = await home.jobs.get(job)
    assert told.state == "completed"
    await go_back(home, moment)
    report = await recover(home, thorough=False)
    assert report.ended == 1
    assert await home.jobs.get(job) == told
    for task in held:
        assert home.queue(task.stage).settle(task, "failed") == "LOST"
    await home.run_all()
    assert await home.jobs.get(job) == told
    assert (await home.jobs.get(unknown.id)).state == "completed"
    assert not await home.redis.zcard(keys.ACTIVE())


async def test_a_cancelled_job_stays_cancelled_when_redis_goes_back(home: House) -> None:
    job = await home.submitted()
    moment = await keys_of(home)
    told = await home.jobs.cancel(job)
    await go_back(home, moment)
    assert (await recover(home, thorough=False)).ended == 1
    await home.run_all()
    assert await home.jobs.get(job) == told


async def test_a_retry_that_was_cut_off_is_carried_out(home: House) -> None:
    job = await home.submitted()
    home.step("prepare", "failed")
    await home.orchestrate()
    home.files.reopen(job)
    assert (await recover(home)).resumed == 1
    await home.run_all()
    assert (await home.jobs.get(job)).state == "completed"


async def test_keys_of_jobs_without_a_folder_are_forgotten(home: House) -> None:
    """I15"""
    running, ended = await home.submitted(), await home.completed()
    for job in (running, ended):
        home.files.remove(job)
    assert await recover(home, thorough=False) == Report(forgotten=2)
    assert not await home.redis.exists(keys.JOB(job=running), keys.JOB(job=ended), keys.JOBS(), keys.ACTIVE())


async def test_uploads_are_left_alone_for_an_hour(home: House) -> None:
    """I16"""
    folder = home.files.create("0" * 32)
    (folder / "source.wav").write_bytes(b"RIFF")
    assert await recover(home) == Report()
    os.utime(folder, (time.time() - 7200,) * 2)
    assert await recover(home) == Report(), "something was written in it a moment ago"
    os.utime(folder / "source.wav", (time.time() - 7200,) * 2)
    assert (await recover(home)).dropped == 1
    assert not folder.exists()


async def test_a_file_that_cannot_be_read_keeps_no_other_job_from_coming_back(home: House) -> None:
    file, broken = home.accepted(), home.accepted()
    (home.files.jobs / broken.id / "job.json").write_bytes(b"{")
    assert await recover(home) == Report(resumed=1, unreadable=1)
    assert (await home.jobs.get(file.id)).state == "queued"


async def test_a_job_accepted_meanwhile_is_not_mistaken_for_one_without_files(home: House) -> None:
    async def accept() -> list[str]:
        found = []
        for _ in range(30):
            found.append(await home.submitted())
            await asyncio.sleep(0)
        return found

    async def compare() -> None:
        for _ in range(20):
            await Recovery(home.redis, home.files, home.jobs).run(thorough=True)

    jobs, *_ = await asyncio.gather(accept(), compare(), compare())
    await home.run_all()
    assert {(await home.jobs.get(job)).state for job in jobs} == {"completed"}


async def test_a_new_server_is_compared_with_the_files_at_once(home: House) -> None:
    await home.upkeep()
    file = home.accepted()
    await home.upkeep()
    assert not await home.redis.exists(keys.JOB(job=file.id))
    home.orchestrator.upkeep._server = "another"
    await home.upkeep()
    assert await home.redis.exists(keys.JOB(job=file.id))
    await home.jobs.delete(file.id)


async def test_retention_deletes_ended_jobs_alone(home: House) -> None:
    ended, running = await home.completed(), await home.submitted()
    await home.orchestrator.upkeep.make_space()
    await home.pass_time(86_000)
    await home.orchestrator.upkeep.make_space()
    assert (await home.jobs.get(ended)).state == "completed"
    await home.pass_time(500)
    await home.orchestrator.upkeep.make_space()
    with pytest.raises(NotFound):
        await home.jobs.get(ended)
    assert (await home.jobs.get(running)).state == "queued"
    await home.jobs.delete(running)


async def test_a_job_that_nobody_wants_kept_still_goes_when_redis_forgot_when(home: House) -> None:
    file = home.accepted()
    file.keep = False
    home.files.accept(file)
    await home.jobs.submit(file)
    home.jobs.retention = None
    await home.run_all()
    end = await home.redis.zscore(keys.EXPIRY(), file.id)
    await home.redis.flushall()
    await recover(home)
    assert await home.redis.zscore(keys.EXPIRY(), file.id) == pytest.approx(end, abs=1000)


async def test_tasks_of_an_engine_that_stays_away_go_to_another_or_fail(home: House) -> None:
    for stage in STAGES:
        home.heartbeat(stage)
    jobs = [await home.submitted() for _ in range(2)]
    await home.upkeep()
    home.step("prepare")
    home.step("prepare")
    moved, other = jobs, "elsewhere"
    await home.pass_time(300)
    await home.orchestrator.upkeep.move_stuck()
    assert {(await home.jobs.get(job)).state for job in moved} == {"running"}
    await home.pass_time(330)
    for stage in ("prepare", "merge"):
        home.heartbeat(stage)
    home.heartbeat("transcribe", other)
    await home.orchestrator.upkeep.move_stuck()
    assert home.step("transcribe") is None
    assert {home.step(other) and job for job in jobs} == set(jobs)
    await home.run_all()
    assert {(await home.jobs.get(job)).state for job in moved} == {"completed"}
    late = await home.submitted()
    home.step("prepare")
    await home.pass_time(601)
    await home.orchestrator.upkeep.move_stuck()
    await home.orchestrate()
    found = await home.jobs.get(late)
    assert found.error is not None
    assert (found.state, found.error.code) == ("failed", "engine_absent")
    assert "transcribe has not been heard from for 600 s" in found.error.message


async def test_absence_does_not_count_while_redis_is_away(home: House) -> None:
    job = await home.submitted()
    await home.upkeep()
    await home.pass_time(100_000, swept=False)
    await home.upkeep()
    await home.orchestrator.upkeep.move_stuck()
    assert (await home.jobs.get(job)).state == "queued"
    await home.jobs.delete(job)


async def test_absence_does_not_count_before_anybody_has_swept(home: House) -> None:
    """A Redis that lost everything has not heard from any engine yet."""
    job = await home.submitted()
    await home.orchestrator.upkeep.move_stuck()
    assert (await home.jobs.get(job)).state == "queued"
    await home.jobs.delete(job)


async def test_two_orchestrators_do_each_thing_once(home: House) -> None:
    other = Orchestrator(home.redis, home.files, home.jobs, 600)
    jobs = [await home.submitted() for _ in range(20)]
    while any([home.step(stage) for stage in STAGES]):
        pass
    running = [asyncio.create_task(one.run()) for one in (home.orchestrator, other)]
    while await home.redis.zcard(keys.ACTIVE()):
        await asyncio.sleep(0.01)
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    events = [fields for _, fields in await home.redis.xrange(keys.EVENTS())]
    ends = [event["job"] for event in events if not event["task"] and event["state"] == "completed"]
    assert sorted(ends) == sorted(jobs)


async def test_a_page_goes_on_within_one_millisecond(home: House) -> None:
    made = sorted([await home.submitted() for _ in range(3)], reverse=True)
    crowd = {f"{n:032x}": 1000 for n in range(150)}  # of which there are no files
    await home.redis.zadd(keys.JOBS(), crowd | dict.fromkeys(made, 1000))
    after, seen = None, list[str]()
    while True:
        found = await page(home.jobs, Wanted(1, after))
        seen += [job.id for job in found.jobs]
        if (after := found.next) is None:
            break
    assert seen == made
    low = await page(home.jobs, Wanted(1, Place(1000, f"{1:032x}")))
    assert (low.jobs, low.next) == ([], None)
    await home.redis.zrem(keys.JOBS(), *crowd)
    await home.run_all()
