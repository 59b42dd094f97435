"""The paths of ElevenLabs' API."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from dalston.dialects.elevenlabs import ELEVENLABS
from dalston.errors import NotFound
from dalston.gateway.intake import ended, received
from dalston.gateway.openapi import told_by, vendor
from dalston.gateway.speaking import answered, sent, taken, told
from dalston.gateway.state import State
from dalston.request import TranscribeRequest

router = APIRouter(prefix="/v1/speech-to-text", tags=["elevenlabs"])


@router.post("", summary="Transcribe as ElevenLabs does", **vendor(ELEVENLABS))
async def convert(request: Request) -> Response:
    """Transcribe a recording and answer with the transcript."""
    query = {name: request.query_params.getlist(name) for name in ("enable_logging", "token")}
    async with received(request) as came:
        came.fields = {**came.fields, **{name: texts for name, texts in query.items() if texts}}
        what = await taken(request, ELEVENLABS, came)
    return await answered(request, ELEVENLABS, what)


@router.get(
    "/transcripts/{transcription_id}",
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
    "/transcripts/{transcription_id}",
    summary="Delete a transcript as ElevenLabs does",
    responses=told_by(ELEVENLABS, "It is gone", {"status": "ok"}),
)
async def delete(request: Request, transcription_id: str) -> dict[str, Any]:
    """Remove a transcript with its recording."""
    await State.of(request).jobs.delete(transcription_id)
    return {"status": "ok"}
