"""ElevenLabs' live sessions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.websockets import WebSocket

from dalston.dialects.elevenlabs.live import LiveTalk
from dalston.gateway.live import converse, fields
from dalston.settings import Settings

router = APIRouter(tags=["elevenlabs"])


@router.websocket("/v1/speech-to-text/realtime")
async def realtime(websocket: WebSocket) -> None:
    """Transcribe what is said from now on."""
    settings: Settings = websocket.app.state.dalston.settings
    await converse(websocket, LiveTalk(fields(websocket), websocket.headers, settings.names))
