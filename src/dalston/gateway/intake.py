"""From a request's body to an accepted job, whatever dialect the request speaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec
from dalston_engine.errors import DalstonError
from fastapi import Request
from msgspec import Raw, Struct

from dalston.dialects.base import Inline
from dalston.errors import BadField, BadRequest, Limited, UploadTooLarge
from dalston.gateway import native
from dalston.gateway.access import Caller
from dalston.gateway.state import State
from dalston.gateway.upload import Upload, flowing
from dalston.orchestrator.plan import plan
from dalston.request import TranscribeRequest
from dalston.store.access_keys import Limits
from dalston.store.files import JobFile, Once, Source
from dalston.store.idempotency import claim, earlier, recognised
from dalston.store.jobs import Job, new_id
from dalston.store.webhooks import Notify, Webhooks

INLINE_BYTES = 64_000_000
HASTE = 0.9
"""The part of a client's patience after which it is refused, rather than left to give up."""


class Received(Struct):
    """A request's form, its recording already in the folder of the job to be."""

    job: str
    upload: Upload
    fields: Mapping[str, Sequence[str]]


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
            form = inline(await _whole(body))
            upload.fields = form.fields
            await upload.take(_pieces(form.content), form.filename)
            del form  # its recording is on disk now
        else:
            await upload.read(kind, body)
        yield Received(job, upload, upload.fields)
    except BaseException:
        await asyncio.to_thread(state.files.discard, job)
        raise


async def accepted(
    request: Request,
    came: Received,
    asked: TranscribeRequest,
    url: str | None = None,
    *,
    keep: bool = True,
    notify: Notify | None = None,
    patience: float | None = None,
) -> JobFile:
    """The job, planned, let in and made durable; raises what says why nothing alive can do it.

    `url`: where the recording is, when the form does not have it. `patience`: for how many seconds the
    caller waits for his answer, if he says so. A request that was sent before is the job it was then.
    """
    state, caller = State.of(request), Caller.of(request)
    _refuse_none(came.upload.source, url)
    once = _once_of(request, came, url)
    if once is not None and (known := await earlier(state.redis, state.files, caller.owner, once)):
        return await _instead(request, came, known)
    if notify is not None:
        await asyncio.to_thread(_refuse_nobody, state, caller, notify)
    made = plan(came.job, asked, await state.fleet.cards())
    if isinstance(made, DalstonError):
        made = plan(came.job, asked, await state.fleet.cards(fresh=True))
    if isinstance(made, DalstonError):
        raise made
    source = came.upload.source or await _fetched(state, came.upload, url or "")
    file = JobFile(
        came.job,
        caller.owner,
        state.clock(),
        source,
        Raw(msgspec.json.encode(asked)),
        made,
        asked.priority == "high",
        trace=native.trace_of(request.headers.get("traceparent", "")),
        keep=keep,
        notify=notify,
        key=None if caller.limits == Limits() else caller.key,
        once=once,
    )
    longest = state.settings.wait_timeout_s
    waits = longest if patience is None else min(patience * HASTE, longest)
    try:
        async with state.line.entered(caller, came.job, waits, request.is_disconnected) as place:
            known = await _alone(state, file)
            place.kept = known is None
    except Limited:
        if once is None or not (known := await earlier(state.redis, state.files, caller.owner, once)):
            raise
    return file if known is None else await _instead(request, came, known)


async def _alone(state: State, file: JobFile) -> JobFile | None:
    """Accept the job, unless its request has become another one meanwhile: then that one."""
    if file.once is not None:
        await asyncio.to_thread(state.files.settle, file.id)
        if (known := await claim(state.redis, state.files, file)) is not None:
            return known
    await asyncio.to_thread(state.files.accept, file)
    if file.once is not None:
        known = await earlier(state.redis, state.files, file.owner, file.once)
        if known is not None and known.id != file.id:  # accepting took too long
            return known
    return None


def _once_of(request: Request, came: Received, url: str | None) -> Once | None:
    """What a request is recognised by when it is sent again; None when it does not ask for that."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    fields = {name: texts for name, texts in came.fields.items() if name != "token"}
    content = came.upload.source.sha256 if came.upload.source else url or ""
    return recognised(key, request.scope["path"], fields, content)


async def _instead(request: Request, came: Received, known: JobFile) -> JobFile:
    """The job that a repeated request was before; what came with it now is dropped."""
    request.scope["replayed"] = True
    await asyncio.to_thread(State.of(request).files.discard, came.job)
    return known


def _refuse_none(source: Source | None, url: str | None) -> None:
    """Raise BadField unless the recording is in the form, or at a URL."""
    if source is not None and url is not None:
        raise BadField("file", "Give the recording or its URL, not both.", code="two_sources", status=400)
    if source is None and url is None:
        told = "The form has no file: put the recording in the field `file`."
        raise BadField("file", told, kind="missing", code="no_file", status=400)


def _refuse_nobody(state: State, caller: Caller, notify: Notify) -> None:
    """Raise NotFound or BadRequest when there is no such webhook, or none at all."""
    webhooks = Webhooks(state.settings.folder)
    if notify.url is not None:
        from dalston.outside import Outside

        Outside(state.settings.allow_addresses).refuse(notify.url)
    elif notify.webhook is not None:
        webhooks.get(caller.owner, notify.webhook)
    elif not any(one.told for one in webhooks.all(caller.owner)):
        raise BadRequest("No webhook is registered, so nobody would be told.", code="no_webhook")


async def _fetched(state: State, upload: Upload, url: str) -> Source:
    """The recording from elsewhere, in the job's folder."""
    from dalston.outside import Outside

    settings = state.settings
    content = Outside(settings.allow_addresses).fetch(
        url,
        limit=settings.max_upload_bytes,
        stall=settings.upload_timeout_s,
        seconds=settings.fetch_timeout_s,
    )
    async with contextlib.aclosing(content) as pieces:
        return await upload.take(pieces, urlsplit(url).path)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


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
