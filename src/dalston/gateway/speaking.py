"""Answering in a vendor's dialect: the transcript when it is there, and every error in its envelope."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec
from dalston_engine.types import Transcript
from fastapi import Request, Response

from dalston.dialects.base import Answer, Dialect, Finished, Submission
from dalston.errors import BadRequest, Conflict
from dalston.gateway.intake import Received, accepted, ended
from dalston.gateway.state import State
from dalston.request import TranscribeRequest
from dalston.store.files import Files, JobFile
from dalston.store.webhooks import Notify


class Taken(NamedTuple):
    """An accepted job, and what was asked for."""

    file: JobFile
    submission: Submission


async def taken(request: Request, dialect: Dialect, came: Received) -> Taken:
    """The job that a form asks for, accepted; raises in words of the dialect's fields."""
    submission = dialect.submission(came.fields, State.of(request).settings.names)
    try:
        file = await accepted(request, came, submission.request, submission.url,
                              keep=submission.keep, notify=_notify(dialect, submission),
                              patience=dialect.patience(request.headers))  # fmt: skip
        return Taken(file, submission)
    except BadRequest as error:
        if error.code != "unknown_model":
            raise
        told = f"{error.message} The vendor's names stand for one of them: {', '.join(dialect.names)}."
        raise BadRequest(told, code=error.code, status=error.status) from None


def _notify(dialect: Dialect, submission: Submission) -> Notify | None:
    if not submission.later:
        return None
    return Notify(dialect.name, submission.webhook, None, submission.metadata)


async def answered(request: Request, dialect: Dialect, what: Taken) -> Response:
    """What the form asks for, once it is done."""
    state, job = State.of(request), what.file.id
    await state.jobs.submit(what.file)
    if what.submission.later and dialect.accepted:
        return sent(dialect.accepted(job, request.scope["request_id"]))
    await ended(state, job)
    answer = await told(state, dialect, job, what.submission.request)
    if not what.submission.keep and what.file.once is None:  # else it stays for a repeat, for a while
        await state.jobs.delete(job)
    return sent(answer)


async def told(state: State, dialect: Dialect, job: str, asked: TranscribeRequest) -> Answer:
    """A completed job's transcript in a dialect."""
    whole = await finished(state, job, asked)
    return await asyncio.to_thread(dialect.answer, whole)


async def finished(state: State, job: str, asked: TranscribeRequest) -> Finished:
    """A completed job's transcript."""
    return await asyncio.to_thread(_finished, state.files, job, asked)


def sent(answer: Answer) -> Response:
    """An answer as a response."""
    return Response(answer.content, answer.status, answer.headers, answer.type)


def _finished(files: Files, job: str, asked: TranscribeRequest) -> Finished:
    content = files.transcript(job)
    if content is None:
        raise Conflict(f"Job {job} has no transcript.", code="no_transcript")
    return Finished(job, msgspec.json.decode(content, type=Transcript), asked.answer)
