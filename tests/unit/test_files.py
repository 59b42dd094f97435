"""What is written survives a power cut before anybody is told of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from msgspec import Raw

from dalston.store.files import Files, JobFile, Outcome, PlanTask, Source

JOB = "0" * 32


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A data folder with one upload in it."""
    made = Files(tmp_path)
    (made.create(JOB) / "source.wav").write_bytes(b"RIFF")
    return made


@pytest.fixture
def steps(files: Files, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and what is renamed, in order."""
    done: list[str] = []
    sync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        sync(descriptor)
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")

    def renamed(path: str, target: str) -> None:
        done.append(f"rename {Path(path).name} {Path(target).name}")
        rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    return done


def job_file() -> JobFile:
    """An accepted job of one task."""
    task = PlanTask(f"{JOB}.merge", "merge", "merger", [], "{}")
    return JobFile(JOB, "me", 1.0, Source(4, "0" * 64), Raw(b"{}"), [task])


def test_a_job_is_accepted_when_its_upload_its_file_and_both_folders_are_synced(
    files: Files, steps: list[str]
) -> None:
    files.accept(job_file())
    assert steps == [
        "sync source.wav",
        "sync job.json.part",
        "rename job.json.part job.json",
        f"sync {JOB}",
        "sync jobs",
    ]


def test_an_outcome_counts_when_the_transcript_is_synced_and_so_is_it(files: Files, steps: list[str]) -> None:
    files.accept(job_file())
    (files.jobs / JOB / f"{JOB}.merge.token.json").write_bytes(b'{"segments":[]}')
    steps.clear()
    published = files.publish(job_file(), Outcome("completed", 1.0, 2.0, [], [f"{JOB}.merge.token"]))
    assert published == files.read(JOB)
    assert steps == [
        "sync transcript.json.part",
        "sync job.json.part",
        "rename transcript.json.part transcript.json",
        "rename job.json.part job.json",
        f"sync {JOB}",
    ]


def test_what_cannot_be_synced_is_not_there(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.accept(job_file())
    assert [path.name for path in (files.jobs / JOB).iterdir()] == ["source.wav"]
