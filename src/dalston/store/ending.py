"""How a job ends, as far as its files go: from what its tasks have left to an outcome on disk.

What is left to do in Redis is the verdict. Everything here runs in a thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Literal

import msgspec
from dalston_engine.errors import ErrorRecord
from dalston_engine.workspace import ArtifactLost
from msgspec import Raw, Struct

from dalston.store.files import Files, JobFile, Outcome
from dalston.store.snapshot import Snapshot, SnapshotTask

log = logging.getLogger("dalston.jobs")


class Verdict(Struct):
    """What becomes of a job in Redis."""

    job: str
    what: Literal["finish", "forget", "resume", "restart", "wait", "broken"]
    """finish: its outcome is on disk · forget: its folder is gone · resume: Redis has not heard of its
    run · restart: what a stage wrote is gone · wait: it has not ended · broken: its files cannot be used.
    """
    file: JobFile | None = None
    error: OSError | None = None


def conclude(files: Files, found: Sequence[tuple[str, Snapshot | None]]) -> list[Verdict]:
    """Publish those jobs whose tasks have all ended. Idempotent."""
    verdicts = []
    for job, snapshot in found:
        try:
            verdicts.append(_conclude(files, job, snapshot))
        except OSError as error:
            verdicts.append(Verdict(job, "broken", error=error))
    return verdicts


def _conclude(files: Files, job: str, found: Snapshot | None) -> Verdict:
    file = files.read(job)
    if file is None:
        return Verdict(job, "forget")
    if file.outcome is not None:
        files.tidy(job)
        return Verdict(job, "finish", file)
    if found is None or found.open:
        return Verdict(job, "wait", file)
    if found.run < file.run:
        return Verdict(job, "resume", file)
    outcome = _outcome(file, found)
    if _lost(outcome, files, job):
        if not found.restarted:
            return Verdict(job, "restart", file)
        outcome.state, outcome.error = "failed", ArtifactLost().record
    file = files.publish(file, outcome)
    if file is None:
        return Verdict(job, "forget")
    return Verdict(job, "finish" if file.outcome else "wait", file)


def _outcome(file: JobFile, found: Snapshot) -> Outcome:
    """How a job ended all of whose tasks have ended."""
    failures = [task for task in found.tasks if task.record.state == "failed"]
    error = next((_told(task, found) for task in failures if task.required), None)
    cancelled = any(stage.state == "cancelled" for stage in found.stages)
    state = "cancelled" if cancelled else "failed" if error else "completed"
    warnings = [
        f"{task.record.stage} failed: {task.record.error.message}"
        for task in failures
        if not task.required and task.record.error
    ]
    artifacts, now = found.artifacts, time.time()
    return Outcome(state, file.created_at, now, found.stages, artifacts, error, warnings)


def _told(failed: SnapshotTask, found: Snapshot) -> ErrorRecord | None:
    """Why a task failed, and how to read the words that are there all the same."""
    error = failed.record.error
    missing = {stage.stage for stage in found.stages if stage.state != "completed"}
    there = {stage.stage for stage in found.stages} - missing
    words = next((stage for stage in ("align", "transcribe") if stage in there), None)
    if error is None or words is None:
        return error
    stage = failed.record.stage
    message = (
        f"{error.message.rstrip()} That was {stage}; the words are there all the same: ask for stage={words}."
    )
    return msgspec.structs.replace(error, message=message)


def _lost(outcome: Outcome, files: Files, job: str) -> bool:
    """Whether a job failed, or would fail, only because a stage's files are gone or not whole."""
    if outcome.state == "completed":
        try:
            msgspec.json.decode(files.result(job, outcome.artifacts[-1]) or b"", type=dict[str, Raw])
        except msgspec.DecodeError:
            return True
        return False
    return outcome.error is not None and outcome.error.code == ArtifactLost.code
