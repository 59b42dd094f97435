"""`/v1/audio/transcriptions`: submit, read, list."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import msgspec
from dalston_engine.errors import DalstonError
from fastapi import APIRouter, Query, Request, Response
from msgspec import Raw

from dalston.errors import UploadTooLarge
from dalston.gateway import native
from dalston.gateway.dialects import refuse_foreign
from dalston.gateway.state import State
from dalston.gateway.upload import Upload, flowing
from dalston.orchestrator.plan import plan
from dalston.store.files import JobFile
from dalston.store.jobs import Job, new_id

router = APIRouter(prefix="/v1/audio/transcriptions", tags=["transcriptions"])

_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "Audio or video"},
        "model": {"type": "string", "description": "A model id, or an engine's id"},
        "language": {"type": "string", "description": "ISO 639-1; detected when absent"},
        "speaker_detection": {"type": "string", "enum": ["none"], "default": "none"},
        "word_timestamps": {"type": "boolean", "description": "Words with their times"},
        "priority": {"type": "string", "enum": ["normal", "high"], "default": "normal"},
        "wait": {"type": "boolean", "default": False, "description": "Answer when the job has ended"},
    },
    "additionalProperties": {"description": "An option of the engine, see GET /v1/engines"},
}


@router.post(
    "",
    status_code=202,
    summary="Submit a recording",
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def submit(request: Request) -> Response:
    """Queue one recording: 202 with the job, or with `wait=true` the finished job."""
    state = State.of(request)
    job = new_id()
    async with _folder(state, job) as folder:
        upload = Upload(folder, state.settings.max_upload_bytes)
        _refuse_large(request, state.settings.max_upload_bytes)
        body = flowing(request.stream(), state.settings.upload_timeout_s)
        source = await upload.read(request.headers.get("content-type", ""), body)
        refuse_foreign(upload.fields, request.headers.get("x-dalston-api"))
        asked, wait = native.request_of(upload.fields)
        made = plan(job, asked, await state.fleet.cards())
        if isinstance(made, DalstonError):
            made = plan(job, asked, await state.fleet.cards(fresh=True))
        if isinstance(made, DalstonError):
            raise made
        told, high = Raw(msgspec.json.encode(asked)), asked.priority == "high"
        file = JobFile(job, "local", state.clock(), source, told, made, high)
        await asyncio.to_thread(state.files.accept, file)
    accepted = await state.jobs.submit(file)
    if not wait:
        return _json(native.job_json(accepted), 202, job)
    return await _ended(state, await state.jobs.wait(job))


@router.get("/{job}", summary="Read a job")
async def read(
    request: Request,
    job: str,
    wait: Annotated[float, Query(ge=0, le=600)] = 0,
    stage: Annotated[str | None, Query(description="Instead: what this stage has left so far")] = None,
) -> Response:
    """A job's state and, once it is completed, its transcript; `wait` seconds for its end."""
    state = State.of(request)
    if stage is not None:
        return _json(native.stage_json(job, await state.jobs.stage(job, stage)))
    found = await (state.jobs.wait(job, wait) if wait else state.jobs.get(job))
    return _json(native.job_json(found, await _transcript(state, found)))


@router.get("", summary="List jobs")
async def list_jobs(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> Response:
    """The newest jobs, without their transcripts."""
    jobs = await State.of(request).jobs.newest(limit)
    return _json(msgspec.json.encode({"jobs": [Raw(native.job_json(job)) for job in jobs]}))


@router.post("/{job}/cancel", summary="Cancel a job")
async def cancel(request: Request, job: str) -> Response:
    """End a job now and keep it; a running engine stops at its next report of progress."""
    return _json(native.job_json(await State.of(request).jobs.cancel(job)))


@router.post("/{job}/retry", status_code=202, summary="Retry a job")
async def retry(request: Request, job: str) -> Response:
    """Run those tasks of a failed or cancelled job again that did not complete."""
    return _json(native.job_json(await State.of(request).jobs.retry(job)), 202, job)


@router.delete("/{job}", status_code=204, summary="Delete a job")
async def delete(request: Request, job: str) -> Response:
    """Remove a job with its recording and its transcript, whatever it is doing."""
    await State.of(request).jobs.delete(job)
    return Response(status_code=204)


async def _ended(state: State, job: Job) -> Response:
    if job.error is not None:
        error = DalstonError(job.error.message, code=job.error.code, status=job.error.status)
        return _json(native.error_json(error, job.id), error.status, job.id)
    return _json(native.job_json(job, await _transcript(state, job)), job=job.id)


async def _transcript(state: State, job: Job) -> bytes | None:
    if job.state != "completed":
        return None
    return await asyncio.to_thread(state.files.transcript, job.id)


@contextlib.asynccontextmanager
async def _folder(state: State, job: str) -> AsyncIterator[Path]:
    """The job's folder; gone again when the job was not accepted."""
    folder = state.files.create(job)
    try:
        yield folder
    except BaseException:
        await asyncio.to_thread(state.files.discard, job)
        raise


def _refuse_large(request: Request, limit: int) -> None:
    if int(request.headers.get("content-length", 0)) > limit + 1_000_000:
        raise UploadTooLarge(f"The upload is larger than {limit} bytes.")


def _json(content: bytes, status: int = 200, job: str | None = None) -> Response:
    headers = {"location": f"{router.prefix}/{job}"} if job else None
    return Response(content, status, headers, "application/json")
