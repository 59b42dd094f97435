"""One job's file is damaged, or its lock is kept: the others go on, and nothing is made up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dalston_engine import keys
from dalston_engine.types import Need, Task
from dalston_engine.workspace import ArtifactLost, Workspace

from dalston.errors import JobDamaged, NotFound
from dalston.gateway.upload import extension
from dalston.store.files import Files
from dalston.store.listing import Wanted, page
from tests.contract.house import ERROR, STAGES, House, house
from tests.waiting import soon

pytestmark = pytest.mark.anyio

HOLDER = """
import fcntl, os, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(folder, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def home(redis: Any, valkey: str, tmp_path: Path) -> AsyncIterator[House]:
    async with house(valkey, tmp_path / "data", retention=86_400) as made:
        yield made


@contextlib.asynccontextmanager
async def orchestrating(home: House) -> AsyncIterator[None]:
    """While an orchestrator runs; it must not end by itself."""
    running = asyncio.create_task(home.orchestrator.run())
    try:
        yield
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.wait([running])


@contextlib.contextmanager
def lock_kept(folder: Path) -> Any:
    """While a process that froze at the wrong moment has a job's lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.kill()


def damage(home: House, job: str) -> Path:
    """Let a job.json be what a bad disk makes of it."""
    path = home.files.jobs / job / "job.json"
    path.write_bytes(bytes(100))
    return path


async def has_completed(home: House, job: str) -> bool:
    return (await home.jobs.get(job)).state == "completed"


async def test_a_damaged_job_keeps_no_other_from_being_published(home: House) -> None:
    bad, good = await home.submitted(), await home.submitted()
    whole = (home.files.jobs / bad / "job.json").read_bytes()
    path = damage(home, bad)
    while any([home.step(stage) for stage in STAGES]):
        pass
    async with orchestrating(home):
        await soon(lambda: has_completed(home, good))
        await soon(lambda: home.redis.hget(keys.SWEEP(), "at"))
    path.write_bytes(whole)
    await home.redis.delete(keys.WORK())
    await home.jobs.finish(bad)
    assert await has_completed(home, bad)


async def test_the_end_of_retention_comes_for_a_damaged_job_too_but_not_while_its_lock_is_kept(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dalston.store.durable.LOCK_S", 0.1)
    bad, held, good = await home.completed(), await home.completed(), await home.completed()
    damage(home, bad)
    (home.files.trash / ".DS_Store").write_bytes(b"")
    os.utime(home.files.trash / ".DS_Store", (0, 0))
    await home.pass_time(90_000)
    with lock_kept(home.files.jobs / held):
        await home.orchestrator.upkeep.make_space()
    assert home.files.ids() == [held]
    assert {path.name.split(".")[0] for path in home.files.trash.iterdir()} == {bad, good}
    await home.orchestrator.upkeep.make_space()
    assert home.files.ids() == []


async def test_a_damaged_job_says_so_and_can_be_deleted(home: House) -> None:
    bad, good = await home.completed(), await home.completed()
    damage(home, bad)
    assert [job.id for job in (await page(home.jobs, Wanted(10))).jobs] == [good]
    with pytest.raises(JobDamaged, match=f"The job.json of job {bad} is damaged"):
        await home.jobs.get(bad)
    await home.jobs.delete(bad)
    with pytest.raises(NotFound):
        await home.jobs.get(bad)
    assert not [key async for key in home.redis.scan_iter(f"*{bad}*")]


async def test_a_file_that_the_disk_does_not_give_back_does_not_stop_the_sweeps(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, read = await home.completed(), Files.read

    def broken(self: Files, job: str) -> Any:
        if job == bad:
            raise OSError(5, "Input/output error")
        return read(self, job)

    monkeypatch.setattr(Files, "read", broken)
    async with orchestrating(home):
        await soon(lambda: home.redis.hget(keys.SWEEP(), "at"))
        await soon(lambda: home.orchestrator.upkeep._server)


async def test_a_lock_that_is_kept_holds_up_one_job_only(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dalston.store.durable.LOCK_S", 0.2)
    held, free = await home.submitted(), await home.submitted()
    while any([home.step(stage) for stage in STAGES]):
        pass
    with lock_kept(home.files.jobs / held):
        async with orchestrating(home):
            await soon(lambda: has_completed(home, free))
        assert (await home.jobs.get(held)).state == "running"
        with pytest.raises(BlockingIOError):
            await home.jobs.delete(held)
    await home.jobs.finish(held)
    assert await has_completed(home, held)


@pytest.mark.parametrize("left", [b"", b"\0" * 40, b'{"segments":['])
async def test_a_result_that_is_not_whole_is_made_again(home: House, left: bytes) -> None:
    """I14: power was cut, and a stage's file had not reached the disk."""
    job = await home.submitted()
    for stage in STAGES:
        task = home.step(stage)
    assert task is not None
    (home.files.jobs / job / f"{task.id}.{task.token}.json").write_bytes(left)
    await home.orchestrate()
    assert (await home.jobs.get(job)).state == "queued"
    await home.run_all()
    assert msgspec.json.decode(home.files.transcript(job) or b"")["text"] == "said"


@pytest.mark.parametrize("left", ["zeros", "a part", "nothing"])
async def test_audio_that_is_not_whole_is_made_again(home: House, left: str) -> None:
    job = home.accepted().id
    folder = home.files.jobs / job / f"{job}.prepare.t"
    folder.mkdir()
    with wave.open(str(folder / "audio.wav"), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(b"\1\0" * 16_000)
    task = Task(f"{job}.x", job, "transcribe", "x", 1, "u", needs=[Need(f"{job}.prepare", "prepare", "t")])
    with Workspace(home.files.jobs, task) as workspace:
        assert workspace.arguments()[0].duration == 1
        size = (folder / "audio.wav").stat().st_size
        if left == "zeros":
            (folder / "audio.wav").write_bytes(bytes(size))
        else:
            os.truncate(folder / "audio.wav", 0 if left == "nothing" else size // 2)
        with pytest.raises(ArtifactLost):
            workspace.arguments()


@pytest.mark.parametrize("name", ["recording", "talk.wav", "x.mp3_", "blob", "a.part", ".wav"])
def test_a_recording_is_found_whatever_its_name_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "j").mkdir()
    source = tmp_path / "j" / f"source{extension(name)}"
    source.write_bytes(b"RIFF")
    with Workspace(tmp_path, Task("j.prepare", "j", "prepare", "prepare", 1, "t")) as workspace:
        assert workspace.arguments()[0] == source


async def test_what_attempts_left_is_removed_though_the_publisher_died(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I16"""
    job = await home.submitted()
    task = home.queue("prepare").claim()
    assert task is not None
    home.write(msgspec.structs.replace(task, token="dead"))
    home.queue("prepare").settle(task, "failed", error=ERROR)

    def die(*_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as killed:
        killed.setattr(home.files, "_drop_attempts", die)
        with pytest.raises(ConnectionResetError):
            await home.jobs.finish(job)
    assert list((home.files.jobs / job).glob(f"{job}.*"))
    await home.orchestrate()
    assert not list((home.files.jobs / job).glob(f"{job}.*"))


def test_a_folder_that_is_no_jobs_is_left_alone(tmp_path: Path) -> None:
    files = Files(tmp_path)
    (files.jobs / "my backup").mkdir()
    assert files.ids() == []
