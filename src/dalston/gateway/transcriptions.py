"""`/v1/audio/transcriptions`: submit, read, list."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.types import Transcript
from fastapi import APIRouter, Query, Request, Response
from msgspec import Raw
from msgspec.structs import replace

from dalston.dialects import SHARED
from dalston.errors import Conflict, NotFound
from dalston.exports import DEFAULT, ExportOptions, Rendered, render
from dalston.gateway import native
from dalston.gateway.access import TRANSCRIBE, Caller
from dalston.gateway.intake import accepted, received
from dalston.gateway.openapi import answer, export_parameters
from dalston.gateway.speaking import answered, taken
from dalston.gateway.state import State
from dalston.gateway.streaming import streamed
from dalston.store.jobs import Job
from dalston.store.listing import Place, Wanted, page

router = APIRouter(prefix="/v1/audio/transcriptions", tags=["transcriptions"], dependencies=[TRANSCRIBE])

Shape = Literal["json", "verbose", "text", "srt", "vtt", "txt", "segments", "html", "docx", "pdf"]
JobState = Literal["queued", "running", "completed", "failed", "cancelled"]

_FORM = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "Audio or video"},
        "source_url": {"type": "string", "description": "In place of `file`: where it is, http or https"},
        "webhook_url": {"type": "string", "description": "Who is told of the job's end"},
        "webhook_id": {"type": "string", "description": "Or the webhook that is"},
        "webhook_metadata": {"type": "string", "description": "A JSON object that goes back with it"},
        "model": {"type": "string", "description": "A model id, or an engine's id"},
        "language": {"type": "string", "description": "ISO 639-1; detected when absent"},
        "speaker_detection": {
            "type": "string",
            "enum": ["none", "diarize", "per_channel"],
            "default": "none",
        },
        "diarizer": {"type": "string", "description": "The engine that tells speakers apart"},
        "align": {"type": "boolean", "description": "Whether an aligner gives words their times"},
        "aligner": {"type": "string", "description": "Which one"},
        "word_timestamps": {"type": "boolean", "description": "Words with their times"},
        "priority": {"type": "string", "enum": ["normal", "high"], "default": "normal"},
        "wait": {"type": "boolean", "default": False, "description": "Answer when the job has ended"},
        "format": {
            "type": "string",
            "enum": list(native.SHAPES),
            "default": "json",
            "description": "The shape of that answer",
        },
    },
    "additionalProperties": {"description": "An option of the engine, see GET /v1/engines"},
}


@router.post(
    "",
    status_code=202,
    summary="Submit a recording",
    responses=answer("Job", "Accepted: it will run, whatever happens", 202)
    | answer("Job", "With `wait=true`: it has ended; `format` gives its transcript alone", texts=True),
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def submit(request: Request) -> Response:
    """Queue one recording: 202 with the job, or with `wait=true` the finished job."""
    async with received(request, SHARED.inline) as came:
        if not native.claims(came.fields, request.headers.get("x-dalston-api")):
            what = await taken(request, SHARED, came)
        else:
            what, request.scope["dialect"] = None, None
            asked, wait, format, url, notify = native.submission_of(came.fields)
            file = await accepted(request, came, asked, url, notify=notify, patience=None if wait else 0)
    if what is not None:
        tell = streamed if what.submission.request.stream else answered
        return await tell(request, SHARED, what)
    state = State.of(request)
    job = await state.jobs.submit(file)
    if not wait:
        return _json(native.job_json(job), 202, job.id)
    return await _ended(state, await state.jobs.wait(job.id), format)


@router.get(
    "/{job}",
    summary="Read a job",
    responses=answer(
        "Job", "The job, or that stage's tasks, or the transcript alone", instead="Stage", texts=True
    ),
    openapi_extra={"parameters": export_parameters()},
)
async def read(
    request: Request,
    job: str,
    wait: Annotated[float, Query(ge=0, le=600, description="Seconds to wait for the end")] = 0,
    format: Annotated[Shape, Query(description="json, verbose: the job; else the transcript alone")] = "json",
    stage: Annotated[str | None, Query(description="Instead: what this stage has left so far")] = None,
) -> Response:
    """A job's state and, once it is completed, its transcript; `wait` seconds for its end."""
    state = State.of(request)
    if stage is not None:
        return _json(native.stage_json(job, await state.jobs.stage(job, stage)))
    found = await (state.jobs.wait(job, wait) if wait else state.jobs.get(job))
    return await _shown(state, found, format, native.export_options(request.query_params))


@router.get("", summary="List jobs", responses=answer("Jobs", "A page of jobs"))
async def list_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
    state: Annotated[list[JobState] | None, Query(description="Only jobs in these states")] = None,
    created_after: Annotated[datetime | None, Query(description="RFC 3339")] = None,
    created_before: Annotated[datetime | None, Query(description="RFC 3339")] = None,
) -> Response:
    """Jobs without their transcripts, newest first; `next` leads to the next page, if there is one."""
    wanted = Wanted(limit, Place.read(after) if after else None, frozenset(state or ()))
    if created_after:
        wanted = replace(wanted, since=_milliseconds(created_after))
    if created_before:
        wanted = replace(wanted, until=_milliseconds(created_before))
    found = await page(State.of(request).jobs, wanted)
    told = {"jobs": [Raw(native.job_json(job)) for job in found.jobs]}
    return _json(msgspec.json.encode(told | ({"next": str(found.next)} if found.next else {})))


@router.post("/{job}/cancel", summary="Cancel a job", responses=answer("Job", "The job, cancelled"))
async def cancel(request: Request, job: str) -> Response:
    """End a job now and keep it; a running engine stops at its next report of progress."""
    return _json(native.job_json(await State.of(request).jobs.cancel(job)))


def _milliseconds(moment: datetime) -> int:
    """Since 1970; a time without a zone is UTC."""
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


@router.post(
    "/{job}/retry",
    status_code=202,
    summary="Retry a job",
    responses=answer("Job", "The job, at work again", 202),
)
async def retry(request: Request, job: str) -> Response:
    """Run those tasks of a failed or cancelled job again that did not complete."""
    state = State.of(request)
    await state.jobs.get(job)
    async with state.line.entered(Caller.of(request), job, 0, request.is_disconnected) as place:
        again = await state.jobs.retry(job)
        place.kept = True
    return _json(native.job_json(again), 202, job)


@router.delete("/{job}", status_code=204, summary="Delete a job")
async def delete(request: Request, job: str) -> Response:
    """Remove a job with its recording and its transcript, whatever it is doing."""
    await State.of(request).jobs.delete(job)
    return Response(status_code=204)


async def _ended(state: State, job: Job, format: str) -> Response:
    if job.error is not None:
        error = DalstonError(job.error.message, code=job.error.code, status=job.error.status)
        return _json(native.error_json(error, job.id), error.status, job.id)
    return await _shown(state, job, format)


async def _shown(state: State, job: Job, format: str, options: ExportOptions = DEFAULT) -> Response:
    """A job with its transcript, or the transcript alone; raises Conflict when there is none."""
    transcript = await _transcript(state, job)
    if format == "json":
        return _json(native.job_json(job, transcript), job=job.id)
    if format == "verbose":
        return _json(native.job_json(job, transcript, await _more(state, job)), job=job.id)
    if transcript is None:
        raise Conflict(f"Job {job.id} is {job.state}; it has no transcript.", code="no_transcript")
    content, chosen = await asyncio.to_thread(_rendered, transcript, format, options)
    kind = chosen.content_type if chosen.binary else f"{chosen.content_type}; charset=utf-8"
    name = f'inline; filename="{job.id}.{chosen.extension}"'
    return Response(content, 200, {"content-type": kind, "content-disposition": name})


def _rendered(transcript: bytes, format: str, options: ExportOptions) -> Rendered:
    return render(msgspec.json.decode(transcript, type=Transcript), format, options)


async def _more(state: State, job: Job) -> dict[str, Raw]:
    """What was asked for, and what prepare found in the source."""
    file = await asyncio.to_thread(state.files.read, job.id)
    more = {} if file is None else {"request": file.request}
    with contextlib.suppress(NotFound):
        (prepared,) = await state.jobs.stage(job.id, "prepare")
        more |= {"media": prepared.result} if prepared.result else {}
    return more


async def _transcript(state: State, job: Job) -> bytes | None:
    if job.state != "completed":
        return None
    return await asyncio.to_thread(state.files.transcript, job.id)


def _json(content: bytes, status: int = 200, job: str | None = None) -> Response:
    headers = {"location": f"{router.prefix}/{job}"} if job else None
    return Response(content, status, headers, "application/json")
