"""`/v1/events`: every change of a job or a task as it happens, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from dalston.errors import BadRequest
from dalston.gateway.examples import EVENT
from dalston.gateway.openapi import plain
from dalston.gateway.state import State
from dalston.store.events import Change

router = APIRouter(tags=["events"])

IDLE_S = 15.0
"""After so long without a change a comment is sent: proxies stay on the line, and who has gone is noticed."""
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
STALLED_S = 30.0
"""Whoever takes nothing of what is sent for so long is let go."""
_PLACE = re.compile("[0-9]{1,15}-[0-9]{1,15}")


@router.get(
    "/v1/events",
    summary="Follow changes",
    response_class=StreamingResponse,
    responses=plain("Changes, without end", "text/event-stream", EVENT),
)
async def events(
    request: Request,
    job: Annotated[str | None, Query(description="Only changes of this job")] = None,
    last_event_id: Annotated[str | None, Header(description="Begin with what came after this event")] = None,
) -> StreamingResponse:
    """Every new state of a job or a task, as server-sent events named `change`.

    Events are for observers: after a long absence some may be missing, so read what matters anew.
    """
    if last_event_id is not None and not _PLACE.fullmatch(last_event_id):
        raise BadRequest("Last-Event-ID takes the id of an event.", code="invalid_option")
    told = _told(State.of(request), job, last_event_id)
    return Stream(told, media_type="text/event-stream", headers=HEADERS)


class Stream(StreamingResponse):
    """A stream that ends when its reader does not read."""

    async def stream_response(self, send: Send) -> None:
        """Send all there is."""

        async def patient(message: Message) -> None:
            async with asyncio.timeout(STALLED_S):
                await send(message)

        with contextlib.suppress(TimeoutError):
            await super().stream_response(patient)


async def _told(state: State, job: str | None, after: str | None) -> AsyncIterator[bytes]:
    told, mine = time.monotonic(), lru_cache(maxsize=1000)(state.jobs.mine)
    async with contextlib.aclosing(state.events.changes(after, IDLE_S)) as news:
        async for changes in news:
            wanted = [change for change in changes if job in (None, change.job) and mine(change.job)]
            if wanted or time.monotonic() - told >= IDLE_S:
                told = time.monotonic()
                yield b"".join(map(_event, wanted)) or b":\n\n"


def _event(change: Change) -> bytes:
    return b"id: %b\nevent: change\ndata: %b\n\n" % (change.id.encode(), msgspec.json.encode(change))
