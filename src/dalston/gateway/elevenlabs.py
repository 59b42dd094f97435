"""The paths of ElevenLabs' API."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from dalston.dialects.elevenlabs import ELEVENLABS
from dalston.dialects.elevenlabs.form import TOKENS
from dalston.errors import BadField, NotFound
from dalston.gateway.access import LIVE, TRANSCRIBE, Caller
from dalston.gateway.intake import ended, received
from dalston.gateway.openapi import told_by, vendor
from dalston.gateway.speaking import answered, sent, taken, told
from dalston.gateway.state import State
from dalston.request import TranscribeRequest
from dalston.store.tokens import Token, issue

router = APIRouter(tags=["elevenlabs"], dependencies=[TRANSCRIBE])
tokens = APIRouter(tags=["elevenlabs"])
PATH = "/v1/speech-to-text"


@router.post(PATH, summary="Transcribe as ElevenLabs does", **vendor(ELEVENLABS))
async def convert(request: Request) -> Response:
    """Transcribe a recording and answer with the transcript."""
    query = {name: request.query_params.getlist(name) for name in ("enable_logging", "token")}
    async with received(request) as came:
        came.fields = {**came.fields, **{name: texts for name, texts in query.items() if texts}}
        what = await taken(request, ELEVENLABS, came)
    return await answered(request, ELEVENLABS, what)


@router.get(
    PATH + "/transcripts/{transcription_id}",
    summary="Read a transcript as ElevenLabs tells it",
    responses=told_by(ELEVENLABS, "The transcript", ELEVENLABS.examples.done),
)
async def read(request: Request, transcription_id: str) -> Response:
    """A transcript that was made earlier."""
    state = State.of(request)
    job = await state.jobs.get(transcription_id)
    if not job.ended:
        raise NotFound(f"The transcript {job.id} is not there yet: its job is {job.state}.", code="not_ready")
    await ended(state, job.id)
    file = await asyncio.to_thread(state.files.read, job.id)
    if file is None:
        raise NotFound(f"There is no transcript {job.id}.")
    asked = msgspec.json.decode(file.request, type=TranscribeRequest)
    return sent(await told(state, ELEVENLABS, job.id, asked))


@router.delete(
    PATH + "/transcripts/{transcription_id}",
    summary="Delete a transcript as ElevenLabs does",
    responses=told_by(ELEVENLABS, "It is gone", {"status": "ok"}),
)
async def delete(request: Request, transcription_id: str) -> dict[str, Any]:
    """Remove a transcript with its recording."""
    await State.of(request).jobs.delete(transcription_id)
    return {"status": "ok"}


@tokens.post(
    "/v1/single-use-token/{kind}",
    summary="Make a single-use token as ElevenLabs does",
    responses=told_by(ELEVENLABS, "The token", {"token": "sutkn_…"}),
)
async def make_token(request: Request, kind: str) -> dict[str, str]:
    """A token that opens one request in the next quarter of an hour, in place of a key."""
    state, caller = State.of(request), Caller.of(request)
    if kind not in TOKENS:
        raise BadField(
            "type", f"The type is one of {', '.join(TOKENS)}.", code="unsupported_token", status=400
        )
    caller.may_issue(*(LIVE if TOKENS[kind] == "realtime" else [TOKENS[kind]]))
    token = Token(caller.owner, [TOKENS[kind]], caller.key, caller.limits)
    return {"token": await issue(state.redis, token)}
