"""What can be done to a job, with a real server, real files and engines played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from dalston_engine.types import Media
from redis.exceptions import ConnectionError

from dalston.errors import Conflict, NotFound
from dalston.store.files import Outcome
from dalston.store.letters import letters
from dalston.store.snapshot import Snapshot
from tests.contract.house import House, house

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(redis: Any, valkey: str, tmp_path: Path) -> AsyncIterator[House]:
    """A house on an empty server."""
    async with house(valkey, tmp_path / "data") as made:
        yield made


def kept(home: House, job: str) -> set[str]:
    """A job's files but for those of its tasks' attempts."""
    folder = home.files.jobs / job
    return {path.name for path in folder.iterdir() if not path.name.startswith(job)}


async def test_a_job_runs_to_its_transcript(home: House) -> None:
    job = await home.completed()
    found = await home.jobs.get(job)
    assert (found.state, found.progress, found.error) == ("completed", 1.0, None)
    assert [stage.state for stage in found.stages] == ["completed"] * 3
    assert b"said" in (home.files.transcript(job) or b"")
    assert kept(home, job) == {"source.wav", "job.json", "transcript.json"}


async def test_an_outcome_is_written_once_whoever_publishes(home: House) -> None:
    """I13"""
    job = await home.completed()
    first = home.files.read(job)
    assert first is not None
    other = Outcome("failed", 0.0, 0.0, [], [], ErrorRecord("x", "y"))
    both = await asyncio.gather(
        *(asyncio.to_thread(home.files.publish, first, other) for _ in range(4)), home.jobs.finish(job)
    )
    assert both[0] == first
    assert home.files.read(job) == first


@pytest.mark.parametrize("after", [(), ("prepare",), ("prepare", "transcribe")])
async def test_a_cancelled_job_ends_at_once_and_is_kept(home: House, after: tuple[str, ...]) -> None:
    job = await home.submitted()
    for stage in after:
        home.step(stage)
    found = await home.jobs.cancel(job)
    assert found.state == "cancelled"
    assert (await home.jobs.cancel(job)).state == "cancelled"
    await home.run_all()
    assert (await home.jobs.get(job)) == found
    assert not await home.redis.exists(keys.DELAYED())
    assert not await home.redis.zcard(keys.ACTIVE())


async def test_a_job_that_redis_has_lost_can_be_cancelled(home: House) -> None:
    file = home.accepted()
    assert (await home.jobs.cancel(file.id)).state == "cancelled"
    assert (await home.jobs.get(file.id)).state == "cancelled"


async def test_an_ended_job_cannot_be_cancelled(home: House) -> None:
    with pytest.raises(Conflict, match="completed"):
        await home.jobs.cancel(await home.completed())
    with pytest.raises(NotFound):
        await home.jobs.cancel("0" * 32)


@pytest.mark.parametrize("phase", ["queued", "running", "completed", "lost"])
async def test_a_deleted_job_leaves_nothing_and_does_not_come_back(home: House, phase: str) -> None:
    """I15"""
    file = home.accepted()
    if phase != "lost":
        await home.jobs.submit(file)
    held = home.queue("prepare").claim() if phase == "running" else None
    if phase == "completed":
        await home.run_all()
    await home.jobs.delete(file.id)
    with pytest.raises(NotFound):
        await home.jobs.get(file.id)
    assert not [key async for key in home.redis.scan_iter(f"*{file.id}*")]
    if held is not None:
        before = await home.everything()
        assert home.queue("prepare").renew(held, 0.5) == "LOST"
        assert home.queue("prepare").settle(held, "completed") == "LOST"
        assert await home.everything() == before
    await home.run_all()
    assert not (home.files.jobs / file.id).exists()
    assert home.files.purge(0) == 1


async def test_a_failed_job_can_be_tried_again_from_where_it_failed(home: House) -> None:
    job = await home.submitted()
    home.step("prepare")
    home.step("transcribe", "failed")
    await home.orchestrate()
    failed = await home.jobs.get(job)
    assert (failed.state, [s.state for s in failed.stages]) == ("failed", ["completed", "failed", "skipped"])
    assert failed.error == ErrorRecord("engine_error", "No.")
    assert (await home.jobs.retry(job)).state == "queued"
    await home.run_all()
    found = await home.jobs.get(job)
    assert (found.state, [s.attempt for s in found.stages]) == ("completed", [1, 1, 1])


async def test_a_failed_job_of_which_redis_has_forgotten_starts_anew(home: House) -> None:
    job = await home.submitted()
    home.step("prepare", "failed")
    await home.orchestrate()
    await home.redis.flushall()
    await home.jobs.retry(job)
    await home.run_all()
    assert (await home.jobs.get(job)).state == "completed"


async def test_there_is_nothing_to_try_again_of_a_job_that_works_or_has_completed(home: House) -> None:
    for job in (await home.submitted(), await home.completed()):
        with pytest.raises(Conflict, match="nothing to try again"):
            await home.jobs.retry(job)
        home.step("prepare")


async def test_a_dead_letter_is_listed_until_its_job_is_tried_again_or_deleted(home: House) -> None:
    jobs = [await home.submitted() for _ in range(2)]
    for _ in range(6):
        assert home.step("prepare", "retry")
        await home.pass_time(60)
        await home.upkeep()
    await home.orchestrate()
    assert {letter.job for letter in await letters(home.redis, 10)} == set(jobs)
    assert {(await home.jobs.get(job)).state for job in jobs} == {"failed"}
    await home.jobs.retry(jobs[0])
    assert [letter.job for letter in await letters(home.redis, 10)] == [jobs[1]]
    await home.jobs.delete(jobs[1])
    assert await letters(home.redis, 10) == []
    await home.jobs.delete(jobs[0])


async def test_every_settled_stage_stays_readable(home: House) -> None:
    job = await home.submitted()
    (before,) = await home.jobs.stage(job, "prepare")
    assert (before.state, before.result) == ("queued", None)
    home.step("prepare")
    (during,) = await home.jobs.stage(job, "prepare")
    home.step("transcribe", "failed")
    await home.orchestrate()
    await home.redis.flushall()
    (after,) = await home.jobs.stage(job, "prepare")
    assert during == after
    assert b"pcm_s16le" in bytes(after.result or b"")
    with pytest.raises(NotFound, match="prepare, transcribe, merge"):
        await home.jobs.stage(job, "align")


async def test_an_optional_stage_that_fails_leaves_a_warning(home: House) -> None:
    job = await home.submitted(transcribe={"required": False})
    home.step("prepare")
    home.step("transcribe", "failed")
    held = home.queue("merge").claim()
    assert held is not None
    assert [need.stage for need in held.needs] == ["prepare"]
    home.write(held)
    home.queue("merge").settle(held, "completed")
    await home.orchestrate()
    found = await home.jobs.get(job)
    assert (found.state, found.error, found.warnings) == ("completed", None, ["transcribe failed: No."])


async def test_a_plan_grows_by_the_parts_that_were_found(home: House) -> None:
    job = await home.submitted(prepare={"grows": True}, transcribe={"each": True})
    home.step("prepare", media=Media(3.0, "wav", "pcm", 16_000, 3, parts=3))
    assert home.step("transcribe") is None, "what needs the grown task waits for the plan"
    await home.orchestrate()
    parts = [home.step("transcribe") for _ in range(3)]
    assert [task and task.part for task in parts] == [0, 1, 2]
    merge = home.step("merge")
    assert merge is not None
    assert [need.stage for need in merge.needs] == ["prepare", *["transcribe"] * 3]
    await home.orchestrate()
    found = await home.jobs.get(job)
    assert (found.state, [stage.part for stage in found.stages]) == ("completed", [None, 0, 1, 2, None])
    assert len(await home.jobs.stage(job, "transcribe")) == 3


async def test_a_plan_that_could_grow_goes_on_whole_when_no_parts_were_found(home: House) -> None:
    job = await home.submitted(prepare={"grows": True}, transcribe={"each": True})
    await home.run_all()
    found = await home.jobs.get(job)
    assert (found.state, len(found.stages)) == ("completed", 3)


async def test_a_job_whose_stage_files_are_gone_starts_over_once(home: House) -> None:
    job = await home.submitted()
    for _ in range(2):
        home.step("prepare")
        home.step("transcribe")
        home.step("merge")
        for file in (home.files.jobs / job).glob(f"{job}.merge.*"):
            file.unlink()
        await home.orchestrate()
    found = await home.jobs.get(job)
    assert found.error is not None
    assert (found.state, found.error.code) == ("failed", "artifact_lost")


async def test_an_accepted_job_is_answered_for_though_redis_goes_away_at_once(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I14: whoever is refused would send it again."""

    async def away(*_: object) -> None:
        raise ConnectionError

    file = home.accepted()
    with monkeypatch.context() as gone:
        gone.setattr(Snapshot, "of", away)
        assert (await home.jobs.submit(file)).state == "queued"
    await home.run_all()
    assert (await home.jobs.get(file.id)).state == "completed"


async def test_a_job_is_accepted_while_redis_is_away_and_told_later(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I14"""
    file, told = home.accepted(), asyncio.Event()
    send, left = home.jobs._send, [2]

    async def away(file: Any) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError
        word = await send(file)
        told.set()
        return word

    monkeypatch.setattr(home.jobs, "_send", away)
    assert (await home.jobs.submit(file)).state == "queued"
    assert (await home.jobs.get(file.id)).state == "queued"
    await asyncio.wait_for(told.wait(), 10)
    await home.run_all()
    assert (await home.jobs.get(file.id)).state == "completed"


async def test_a_waiter_is_told_of_the_end_even_when_redis_was_away(home: House) -> None:
    job = await home.submitted()
    watching = asyncio.create_task(home.jobs.events.run())
    waiting = asyncio.create_task(home.jobs.wait(job, 30))
    await asyncio.sleep(0)
    await home.run_all()
    assert (await waiting).state == "completed"
    watching.cancel()
