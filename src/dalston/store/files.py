"""The data folder. What is written here survives a power cut before anybody is told of it.

jobs/{job}/source.*         the upload
jobs/{job}/job.json         `JobFile`: owner, request, plan, and at the end the outcome
jobs/{job}/{task}/{token}/  an attempt's artifacts, written by engines
jobs/{job}/transcript.json  the published result
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
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
        """Make a new job durable: its upload, its file, its folder and the folder's own entry."""
        folder = self.jobs / file.id
        _write(folder, {"job.json": msgspec.json.encode(file)}, with_=list(folder.glob("source*")))
        _sync(self.jobs)

    def publish(self, file: JobFile, token: str) -> Outcome:
        """Write the transcript that the sink's attempt `token` left, then the job's outcome."""
        folder, outcome = self.jobs / file.id, file.outcome
        assert outcome is not None
        files = {}
        if outcome.state == "completed":
            try:
                files["transcript.json"] = (folder / file.sink.id / token / RESULT).read_bytes()
            except FileNotFoundError:
                outcome.state = "failed"
                outcome.error = ErrorRecord("result_lost", "The job's result is not on disk.")
        _write(folder, files | {"job.json": msgspec.json.encode(file)})
        return outcome

    def transcript(self, job: str) -> bytes | None:
        """A job's published transcript as JSON, or None."""
        try:
            return (self.jobs / job / "transcript.json").read_bytes()
        except FileNotFoundError:
            return None


def _write(folder: Path, files: dict[str, bytes], with_: Sequence[Path] = ()) -> None:
    """Replace files in their order, each as a whole, and make them and those of `with_` durable.

    All contents are written before the first is synced: one commit of the file system serves all.
    """
    asides = [folder / f"{name}.part" for name in files]
    for aside, content in zip(asides, files.values(), strict=True):
        aside.write_bytes(content)
    for path in (*with_, *asides):
        _sync(path)
    for aside in asides:
        aside.rename(aside.with_suffix(""))
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
