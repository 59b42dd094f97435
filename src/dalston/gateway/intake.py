"""From a request's body to an accepted job, whatever dialect the request speaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from dalston_engine.errors import DalstonError
from fastapi import Request
from msgspec import Raw, Struct

from dalston.dialects.base import Inline
from dalston.errors import BadField, UploadTooLarge
from dalston.gateway import native
from dalston.gateway.access import Caller
from dalston.gateway.state import State
from dalston.gateway.upload import Upload, flowing
from dalston.orchestrator.plan import plan
from dalston.request import TranscribeRequest
from dalston.store.files import JobFile, Source
from dalston.store.jobs import Job, new_id

INLINE_BYTES = 64_000_000


class Received(Struct):
    """A request's form, its recording already in the folder of the job to be."""

    job: str
    folder: Path
    fields: Mapping[str, Sequence[str]]
    source: Source | None


@contextlib.asynccontextmanager
async def received(
    request: Request, inline: Callable[[bytes], Inline] | None = None
) -> AsyncIterator[Received]:
    """The request's form, or by `inline` its JSON; what came is gone again when the job is not accepted."""
    state, job = State.of(request), new_id()
    _refuse_large(request, state.settings.max_upload_bytes)
    folder = state.files.create(job)
    try:
        upload = Upload(folder, state.settings.max_upload_bytes)
        body = flowing(request.stream(), state.settings.upload_timeout_s)
        kind = request.headers.get("content-type", "")
        if inline is not None and kind.startswith("application/json"):
            await upload.inline(inline(await _whole(body)))
        else:
            await upload.read(kind, body)
        yield Received(job, folder, upload.fields, upload.source)
    except BaseException:
        await asyncio.to_thread(state.files.discard, job)
        raise


async def accepted(
    request: Request, came: Received, asked: TranscribeRequest, *, keep: bool = True
) -> JobFile:
    """The job, planned and made durable; raises what says why nothing alive can do it."""
    state = State.of(request)
    if came.source is None:
        raise BadField(
            "file",
            "The form has no file: put the recording in the field `file`.",
            kind="missing",
            code="no_file",
            status=400,
        )
    made = plan(came.job, asked, await state.fleet.cards())
    if isinstance(made, DalstonError):
        made = plan(came.job, asked, await state.fleet.cards(fresh=True))
    if isinstance(made, DalstonError):
        raise made
    file = JobFile(
        came.job,
        Caller.of(request).owner,
        state.clock(),
        came.source,
        Raw(msgspec.json.encode(asked)),
        made,
        asked.priority == "high",
        trace=native.trace_of(request.headers.get("traceparent", "")),
        keep=keep,
    )
    await asyncio.to_thread(state.files.accept, file)
    return file


async def ended(state: State, job: str) -> Job:
    """The job once it has completed; raises its error when it has not."""
    found = await state.jobs.wait(job)
    if found.error is not None:
        raise DalstonError(found.error.message, code=found.error.code, status=found.error.status)
    return found


async def _whole(body: AsyncIterator[bytes]) -> bytes:
    """A body that has to fit into memory; raises UploadTooLarge."""
    content = bytearray()
    async for chunk in body:
        content += chunk
        if len(content) > INLINE_BYTES:
            raise UploadTooLarge(f"JSON may have {INLINE_BYTES} bytes; send what is larger as a form.")
    return bytes(content)


def _refuse_large(request: Request, limit: int) -> None:
    if int(request.headers.get("content-length", 0)) > limit + 1_000_000:
        raise UploadTooLarge(f"The upload is larger than {limit} bytes.")
