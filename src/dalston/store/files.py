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
        """A job's file, or None when there is no such job. A few kB: not worth a thread."""
        try:
            return msgspec.json.decode((self.jobs / job / "job.json").read_bytes(), type=JobFile)
        except FileNotFoundError:
            return None

    def accept(self, file: JobFile) -> None:
        """Make a new job durable: its file, its folder and the folder's own entry."""
        _write(self.jobs / file.id / "job.json", msgspec.json.encode(file))
        _sync(self.jobs / file.id)
        _sync(self.jobs)

    def publish(self, file: JobFile, token: str) -> Outcome:
        """Write the transcript that the sink's attempt `token` left, then the job's outcome."""
        folder, outcome = self.jobs / file.id, file.outcome
        assert outcome is not None
        if outcome.state == "completed":
            try:
                _write(folder / "transcript.json", (folder / file.sink.id / token / RESULT).read_bytes())
            except FileNotFoundError:
                outcome.state = "failed"
                outcome.error = ErrorRecord("result_lost", "The job's result is not on disk.")
        _write(folder / "job.json", msgspec.json.encode(file))
        _sync(folder)
        return outcome

    def transcript(self, job: str) -> bytes | None:
        """A job's published transcript as JSON, or None."""
        try:
            return (self.jobs / job / "transcript.json").read_bytes()
        except FileNotFoundError:
            return None


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole; durable once its folder is synced."""
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
