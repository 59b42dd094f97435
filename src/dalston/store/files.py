"""The data folder. What is written here survives a power cut before anybody is told of it.

jobs/{job}/source.*         the upload
jobs/{job}/job.json         `JobFile`: owner, request, plan, and at the end the outcome
jobs/{job}/{task}.{token}*   what an attempt left, written by engines
jobs/{job}/transcript.json  the published result
trash/{job}.{random}/       deleted, about to be purged
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from dalston_engine.errors import ErrorRecord
from msgspec import Raw, Struct, field


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
    part: int | None = None
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
    artifacts: list[str]
    """For every stage the name, without a suffix, of what its settled attempt left; or empty."""
    error: ErrorRecord | None = None
    warnings: list[str] = field(default_factory=list)


class PlanTask(Struct, omit_defaults=True):
    """A node of a job's plan."""

    id: str
    stage: str
    engine: str
    needs: list[str]
    params: str
    """JSON object of options, validated."""
    required: bool = True
    """False: when it fails, the job goes on without it."""
    grows: bool = False
    """True: what needs it waits until its result has been used to grow the plan."""
    each: bool = False
    """True: stands for one task for each part that a task that grows will find."""
    part: int | None = None


class JobFile(Struct, omit_defaults=True):
    """`job.json`: everything Redis would need to be told again."""

    id: str
    owner: str
    created_at: float
    """Seconds since 1970."""
    source: Source
    request: Raw
    plan: list[PlanTask]
    high: bool = False
    """True: served before others."""
    run: int = 1
    """One more for every retry: what is left of an earlier run ends nothing."""
    outcome: Outcome | None = None


class Files:
    """The jobs of one data folder."""

    def __init__(self, data: Path) -> None:
        self.jobs, self.trash = data / "jobs", data / "trash"
        for folder in (self.jobs, self.trash):
            folder.mkdir(parents=True, exist_ok=True)

    def ids(self) -> list[str]:
        """Every job that has a folder, oldest first."""
        return sorted(entry.name for entry in os.scandir(self.jobs) if entry.is_dir())

    def create(self, job: str) -> Path:
        """Make a job's folder, for its upload."""
        folder = self.jobs / job
        folder.mkdir()
        return folder

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

    def publish(self, file: JobFile, outcome: Outcome) -> JobFile | None:
        """Write the sink's result as the transcript, then the outcome of this run, once.

        Returns the job as it is now: with another outcome when one was there before, or without one
        when it has been tried again since `file` was read; None when the job is gone.
        """
        folder, files = self.jobs / file.id, {}
        with self._alone(file.id) as now:
            if now is None or now.outcome is not None or now.run != file.run:
                return now
            now.outcome = outcome
            if outcome.state == "completed":
                files["transcript.json"] = (folder / f"{outcome.artifacts[-1]}.json").read_bytes()
            _write(folder, files | {"job.json": msgspec.json.encode(now)})
            self._drop_attempts(now.id, outcome)
            return now

    def reopen(self, job: str) -> JobFile | None:
        """Take a job's outcome back, so that its next run can begin; None when the job is gone."""
        with self._alone(job) as file:
            if file is not None and file.outcome is not None:
                file.outcome, file.run = None, file.run + 1
                _write(self.jobs / job, {"job.json": msgspec.json.encode(file)})
            return file

    def transcript(self, job: str) -> bytes | None:
        """A job's published transcript as JSON, or None."""
        return _read(self.jobs / job / "transcript.json")

    def result(self, job: str, artifact: str) -> bytes | None:
        """What a settled attempt returned, as JSON, or None."""
        return _read(self.jobs / job / f"{artifact}.json") if artifact else None

    def remove(self, job: str, ended: bool = False) -> None:
        """Put a job's folder into the trash: gone at once for all who look, whatever is in it.

        `ended`: only if the job has an outcome.
        """
        with self._alone(job) as file, contextlib.suppress(FileNotFoundError):
            if not ended or (file is not None and file.outcome is not None):
                os.utime(self.jobs / job)
                (self.jobs / job).rename(self.trash / f"{job}.{secrets.token_hex(4)}")

    def purge(self, seconds: float) -> int:
        """Empty the trash of what was put there longer than `seconds` ago; returns how many."""
        old = [Path(entry) for entry in os.scandir(self.trash) if _still(Path(entry)) >= seconds]
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
        return len(old)

    def discard(self, job: str) -> None:
        """Remove the folder of a job that nobody was told of; its space is free at once."""
        shutil.rmtree(self.jobs / job, ignore_errors=True)

    def drop_upload(self, job: str, seconds: float) -> bool:
        """Remove an upload that was never accepted and stood still for `seconds`; whether it was so."""
        folder = self.jobs / job
        if (folder / "job.json").exists() or _still(folder) < seconds:
            return False
        self.discard(job)
        return True

    @contextlib.contextmanager
    def _alone(self, job: str) -> Iterator[JobFile | None]:
        """The job's file while nobody else changes it."""
        try:
            descriptor = os.open(self.jobs / job, os.O_RDONLY)
        except FileNotFoundError:
            yield None
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield self.read(job)
        finally:
            os.close(descriptor)

    def _drop_attempts(self, job: str, outcome: Outcome) -> None:
        """Remove what attempts left that do not count."""
        for attempt in (self.jobs / job).glob(f"{job}.*"):
            if attempt.name.removesuffix(".json") not in outcome.artifacts:
                shutil.rmtree(attempt) if attempt.is_dir() else attempt.unlink(missing_ok=True)


def _still(folder: Path) -> float:
    """For how many seconds nothing was written in a folder; 0 when it is gone."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    return 0


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(folder: Path, files: dict[str, bytes], with_: Sequence[Path] = ()) -> None:
    """Replace files in their order, each as a whole, and make them and those of `with_` durable.

    All contents are written before the first is synced: one commit of the file system serves all.
    """
    asides = [folder / f"{name}.part" for name in files]
    try:
        for aside, content in zip(asides, files.values(), strict=True):
            aside.write_bytes(content)
        for path in (*with_, *asides):
            _sync(path)
    except OSError:  # a full disk most likely: give back what can be given back
        for aside in asides:
            aside.unlink(missing_ok=True)
        raise
    for aside in asides:
        aside.rename(aside.with_suffix(""))
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
