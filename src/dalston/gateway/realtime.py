"""`/v1/realtime`: the workers of live sessions, and what was said in sessions."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import Raw, Struct
from starlette.responses import FileResponse

from dalston.errors import Conflict, Forbidden, NotFound
from dalston.gateway import native
from dalston.gateway.access import LIVE, Caller, needs
from dalston.gateway.openapi import answer
from dalston.gateway.state import State
from dalston.live import LiveRequest
from dalston.realtime.router import LOST_S
from dalston.store import live as store
from dalston.store.files import is_id
from dalston.store.keeping import Keeping, LiveTranscript, transcript

router = APIRouter(prefix="/v1/realtime", tags=["realtime"], dependencies=[Depends(needs(*LIVE))])
KINDS = {".wav": "audio/wav", ".ogg": "audio/ogg", ".webm": "audio/webm", ".flac": "audio/flac",
         ".mp3": "audio/mpeg", ".mp4": "audio/mp4"}  # fmt: skip
"""Content types of recordings."""
_AUDIO = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted(KINDS.values())}


class LiveWorker(Struct):
    """A worker as its last heartbeat tells."""

    id: str
    engine: str
    state: str
    """loading, ready, draining, broken, or lost: not heard from."""
    models: dict[str, list[str]]
    """Those it has, with the languages they know; `*` any."""
    capacity: int
    """Sessions it takes in all."""
    sessions: int
    """Sessions it was given."""
    free: int
    seen_seconds_ago: float
    load: Raw
    """What it measures of itself."""


class LiveStatus(Struct):
    """All workers, and what they take together."""

    workers: list[LiveWorker]
    capacity: int
    """Of those that are ready."""
    sessions: int
    free: int
    totals: dict[str, int]
    """Since the server's first: `sessions` begun, `finals` logged, `moves` to another worker, sessions
    `refused` for lack of room, and how sessions ended: `ended`, `failed`, `vanished`."""


@router.get(
    "/status",
    summary="Read the state of live transcription",
    responses=answer("LiveStatus", "Workers and their sessions"),
)
async def read_status(request: Request) -> Response:
    """The workers of live sessions: models, state, room, load; and counters."""
    return _json(await status(State.of(request).redis))


@router.get(
    "/sessions/{session}",
    summary="Read a live session",
    responses=answer("LiveTranscript", "The session, with all that was said so far"),
)
async def read_session(request: Request, session: str) -> Response:
    """A live session while it runs or after: its state, and what was said so far for good."""
    found = msgspec.to_builtins(await _found(request, session))
    return _json(native.times({name: value for name, value in found.items() if name != "owner"}))


@router.get(
    "/sessions/{session}/audio",
    summary="Read a live session's recording",
    response_class=Response,
    responses={200: {"description": "What was sent", "content": _AUDIO}},
)
async def read_audio(request: Request, session: str) -> Response:
    """The recording of a session that was begun with `record=true`, once it has ended."""
    found = await _found(request, session)
    path = _keeping(request).recording(session)
    if found.state != "ended":
        raise Conflict("The session has not ended yet.")
    if path is None:
        raise NotFound("The session was not recorded.")
    return FileResponse(path, media_type=KINDS.get(path.suffix, "application/octet-stream"))


@router.delete(
    "/sessions/{session}",
    status_code=204,
    summary="Delete a live session",
    response_class=Response,
    responses={204: {"description": "It is gone"}},
)
async def delete_session(request: Request, session: str) -> Response:
    """Delete what is kept of a session that has ended."""
    found = await _found(request, session)
    if found.state != "ended":
        raise Conflict("The session has not ended yet: end it, then delete it.")
    await asyncio.to_thread(_keeping(request).remove, session)
    await store.forget(State.of(request).redis, session)
    return Response(status_code=204)


async def status(redis: Any) -> LiveStatus:
    """The workers and counters as they are now."""
    workers = [_shown(one) for one in await store.workers(redis)]
    ready = [one for one in workers if one.state == "ready"]
    return LiveStatus(
        workers,
        sum(one.capacity for one in ready),
        sum(one.sessions for one in workers),
        sum(one.free for one in ready),
        await store.totals(redis),
    )


def _shown(worker: store.Worker) -> LiveWorker:
    state = "lost" if worker.age > LOST_S else worker.state
    free = max(worker.capacity - worker.seats, 0) if state == "ready" else 0
    return LiveWorker(
        worker.id,
        worker.engine,
        state,
        worker.models,
        worker.capacity,
        worker.seats,
        free,
        worker.age,
        worker.load,
    )


async def _found(request: Request, session: str) -> LiveTranscript:
    """The session as the caller may see it; raises NotFound."""
    caller = Caller.of(request)
    if caller.token:
        raise Forbidden("A token opens live sessions and reads none: use a key.")
    redis, sees = State.of(request).redis, caller.sees
    stored = await store.read(redis, session) if is_id(session) else None
    if stored is None or stored.state == "ended":
        found = await asyncio.to_thread(_keeping(request).read, session)
    else:
        asked = msgspec.json.decode(stored.facts.request, type=LiveRequest)
        said = await store.finals(redis, session)
        facts = session, stored.state, stored.owner, stored.created_at, stored.model
        found = transcript(*facts, asked, said)
    if found is None or sees not in (None, found.owner):
        raise NotFound(f"There is no live session {session[:40]!r}.")
    return found


def _keeping(request: Request) -> Keeping:
    keeping: Keeping = request.app.state.live.keeping
    return keeping


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
