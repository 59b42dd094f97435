"""The data folder. What is written here survives a power cut before anybody is told of it.

jobs/{job}/source, source.*  the upload
jobs/{job}/job.json         `JobFile`: owner, request, plan, and at the end the outcome
jobs/{job}/{task}.{token}*   what an attempt left, written by engines
jobs/{job}/transcript.json  the published result
jobs/{job}/webhooks.json    who was told of it
trash/{job}.{random}/       deleted, about to be purged
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from dalston_engine.errors import ErrorRecord
from msgspec import Raw, Struct, field

from dalston.store.durable import alone, sync, write
from dalston.store.webhooks import Notify

_ID = re.compile("[0-9a-f]{32}")


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


class Once(Struct):
    """What a request with an idempotency key is recognised by."""

    token: str
    """The digest of the key."""
    request: str
    """The digest of all that was asked."""


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
    trace: str | None = None
    """The `traceparent` (W3C) of the request, if it carried one."""
    keep: bool = True
    """False: its files go soon after it has ended."""
    notify: Notify | None = None
    """Whom it tells of its end."""
    key: str | None = None
    """The access key whose limits it counts against."""
    once: Once | None = None
    """What makes a repeated request this job."""


class Damaged(OSError):
    """A job.json is not what was written."""


class Files:
    """The jobs of one data folder. A job.json that cannot be read raises OSError, as a bad disk does."""

    def __init__(self, data: Path) -> None:
        self.jobs, self.trash = data / "jobs", data / "trash"
        for folder in (self.jobs, self.trash):
            folder.mkdir(parents=True, exist_ok=True)

    def ids(self) -> list[str]:
        """Every job that has a folder, oldest first."""
        return sorted(entry.name for entry in os.scandir(self.jobs) if is_id(entry.name) and entry.is_dir())

    def create(self, job: str) -> Path:
        """Make a job's folder, for its upload."""
        folder = self.jobs / job
        folder.mkdir()
        return folder

    def read(self, job: str) -> JobFile | None:
        """A job's file, or None when there is no such job. A few kB: not worth a thread."""
        content = _read(f"{self.jobs}/{job}/job.json")
        try:
            return None if content is None else msgspec.json.decode(content, type=JobFile)
        except msgspec.DecodeError:
            raise Damaged(errno.EBADMSG, f"the job.json of job {job} is damaged") from None

    def accept(self, file: JobFile) -> None:
        """Make a new job durable: its upload, its file, its folder and the folder's own entry."""
        folder = self.jobs / file.id
        with self._alone(file.id):
            write(folder, {"job.json": msgspec.json.encode(file)}, with_=list(folder.glob("source*")))
            sync(self.jobs)

    def settle(self, job: str) -> None:
        """Make the upload of a job to be durable, so that accepting it takes no time."""
        for path in (self.jobs / job).glob("source*"):
            sync(path)

    def publish(self, file: JobFile, outcome: Outcome) -> JobFile | None:
        """Write the sink's result as the transcript, then the outcome of this run, once.

        Returns the job as it is now: with another outcome when one was there before, or without one
        when it has been tried again since `file` was read; None when the job is gone.
        """
        folder, files = f"{self.jobs}/{file.id}", {}
        with self._alone(file.id):
            now = self.read(file.id)
            if now is None or now.outcome is not None or now.run != file.run:
                return now
            now.outcome = outcome
            if outcome.state == "completed":
                files["transcript.json"] = Path(f"{folder}/{outcome.artifacts[-1]}.json").read_bytes()
            write(folder, files | {"job.json": msgspec.json.encode(now)})
            self._drop_attempts(now.id, outcome)
            return now

    def reopen(self, job: str) -> JobFile | None:
        """Take the outcome of a job that did not complete back, so that its next run can begin.

        Returns the job as it is now; None when it is gone.
        """
        with self._alone(job):
            file = self.read(job)
            if file is not None and file.outcome is not None and file.outcome.state != "completed":
                file.outcome, file.run = None, file.run + 1
                write(self.jobs / job, {"job.json": msgspec.json.encode(file)})
            return file

    def tidy(self, job: str) -> None:
        """Remove what attempts of an ended job left that do not count, if its publisher died before that."""
        with self._alone(job):
            file = self.read(job)
            if file is not None and file.outcome is not None:
                self._drop_attempts(job, file.outcome)

    def has(self, job: str) -> bool:
        """Whether there is such a job, readable or not."""
        return is_id(job) and (self.jobs / job / "job.json").exists()

    def transcript(self, job: str) -> bytes | None:
        """A job's published transcript as JSON, or None."""
        return _read(f"{self.jobs}/{job}/transcript.json")

    def result(self, job: str, artifact: str) -> bytes | None:
        """What a settled attempt returned, as JSON, or None."""
        return _read(f"{self.jobs}/{job}/{artifact}.json") if artifact else None

    def note(self, job: str, name: str) -> bytes | None:
        """What else is kept with a job by that name, as JSON, or None."""
        return _read(f"{self.jobs}/{job}/{name}.json")

    def change_note(self, job: str, name: str, how: Callable[[bytes | None], bytes]) -> None:
        """Keep something else with a job, if it is still there: what `how` makes of what is there now."""
        with self._alone(job):
            if (self.jobs / job / "job.json").exists():
                write(self.jobs / job, {f"{name}.json": how(self.note(job, name))})

    def remove(self, job: str, ended: int | None = None) -> None:
        """Put a job's folder into the trash: gone at once for all who look, whatever is in it.

        `ended`: only if the job's run of that number has ended.
        """
        with self._alone(job), contextlib.suppress(FileNotFoundError):
            file = self.read(job) if ended is not None else None
            if ended is None or (file is not None and file.outcome is not None and file.run == ended):
                os.utime(self.jobs / job)
                (self.jobs / job).rename(self.trash / f"{job}.{secrets.token_hex(4)}")

    def purge(self, seconds: float) -> int:
        """Empty the trash of what was put there longer than `seconds` ago; returns how many."""
        old = [Path(entry) for entry in os.scandir(self.trash) if _still(Path(entry)) >= seconds]
        for path in old:
            _delete(path)
        return len(old)

    def discard(self, job: str) -> None:
        """Remove the folder of a job that nobody was told of; its space is free at once."""
        shutil.rmtree(self.jobs / job, ignore_errors=True)

    def drop_upload(self, job: str, seconds: float) -> bool:
        """Remove an upload that was never accepted and stood still for `seconds`; whether it was so."""
        folder = self.jobs / job
        with self._alone(job):
            if (folder / "job.json").exists() or _still(folder) < seconds:
                return False
            self.discard(job)
            return True

    def _alone(self, job: str) -> contextlib.AbstractContextManager[None]:
        """While nobody else changes the job; whoever froze with it keeps no other from going on."""
        return alone(f"{self.jobs}/{job}")

    def _drop_attempts(self, job: str, outcome: Outcome) -> None:
        """Remove what attempts left that do not count."""
        for entry in os.scandir(f"{self.jobs}/{job}"):
            if entry.name.startswith(f"{job}.") and entry.name.removesuffix(".json") not in outcome.artifacts:
                _delete(Path(entry))


def is_id(text: str) -> bool:
    """Whether this can be a job's id."""
    return _ID.fullmatch(text) is not None


def _still(path: Path) -> float:
    """For how many seconds nothing was written to a file or in a folder; 0 when it is gone."""
    with contextlib.suppress(FileNotFoundError):
        inside = path.iterdir() if path.is_dir() else ()
        newest: float = max(one.stat().st_mtime for one in (path, *inside))
        return time.time() - newest
    return 0


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        return None
