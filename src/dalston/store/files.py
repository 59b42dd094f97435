"""The data folder. What is written here survives a power cut before anybody is told of it.

jobs/{job}/source.*         the upload
jobs/{job}/job.json         `JobFile`: owner, request, plan, and at the end the outcome
jobs/{job}/{task}/{token}/  an attempt's artifacts, written by engines
jobs/{job}/transcript.json  the published result
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
from dalston_engine.errors import ErrorRecord
from dalston_engine.workspace import RESULT
from msgspec import Raw, Struct


class Source(Struct, omit_defaults=True):
    """The upload as it was received."""

    bytes: int
    sha256: str
    filename: str | None = None


class StageRecord(Struct, omit_defaults=True):
    """One task of a job as clients see it; times are measured or absent."""

    stage: str
    engine: str
    state: str
    attempt: int
    progress: float | None = None
    queued_seconds: float | None = None
    seconds: float | None = None
    error: ErrorRecord | None = None


class Outcome(Struct, omit_defaults=True):
    """How a job ended."""

    state: str
    created_at: float
    finished_at: float
    stages: list[StageRecord]
    error: ErrorRecord | None = None


class PlanTask(Struct):
    """A node of a job's plan."""

    id: str
    stage: str
    engine: str
    needs: list[str]
    params: str
    """JSON object of options, validated."""


class JobFile(Struct, omit_defaults=True):
    """`job.json`: everything Redis would need to be told again."""

    id: str
    owner: str
    created_at: float
    """Seconds since 1970."""
    source: Source
    request: Raw
    plan: list[PlanTask]
    outcome: Outcome | None = None

    @property
    def sink(self) -> PlanTask:
        """The task whose result is the job's."""
        return self.plan[-1]


class Files:
    """The jobs of one data folder."""

    def __init__(self, data: Path) -> None:
        self.jobs = data / "jobs"
        self.jobs.mkdir(parents=True, exist_ok=True)

    def create(self, job: str) -> Path:
        """Make a job's folder, for its upload."""
        folder = self.jobs / job
        folder.mkdir()
        return folder

    def remove(self, job: str) -> None:
        """Remove a job's folder, whatever is in it."""
        shutil.rmtree(self.jobs / job, ignore_errors=True)

    def read(self, job: str) -> JobFile | None:
        """A job's file, or None when there is no such job."""
        try:
            return msgspec.json.decode((self.jobs / job / "job.json").read_bytes(), type=JobFile)
        except FileNotFoundError:
            return None

    def write(self, file: JobFile) -> None:
        """Write a job's file durably."""
        folder = self.jobs / file.id
        _write_durably(folder / "job.json", msgspec.json.encode(file))

    def accept(self, file: JobFile) -> None:
        """Write a new job's file and make its folder's own entry durable."""
        self.write(file)
        _sync(self.jobs)

    def result(self, job: str, task: str, token: str) -> bytes:
        """What a settled task left, as JSON."""
        return (self.jobs / job / task / token / RESULT).read_bytes()

    def publish(self, job: str, transcript: bytes) -> None:
        """Write a job's transcript durably."""
        _write_durably(self.jobs / job / "transcript.json", transcript)

    def transcript(self, job: str) -> bytes | None:
        """A job's published transcript as JSON, or None."""
        try:
            return (self.jobs / job / "transcript.json").read_bytes()
        except FileNotFoundError:
            return None


def _write_durably(path: Path, content: bytes) -> None:
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
