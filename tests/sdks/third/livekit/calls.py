"""Calls with LiveKit's plugins for speech to text: of a whole recording at once, or as it is spoken."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from livekit.agents import APIConnectOptions, utils
from livekit.agents.stt import SpeechEventType
from livekit.plugins import elevenlabs, openai

PACKAGES = ("livekit-agents", "livekit-plugins-elevenlabs", "livekit-plugins-openai")
ONCE = APIConnectOptions(max_retry=0)
PACE, PATIENCE_S = 10, 40
LAST = {"elevenlabs": SpeechEventType.FINAL_TRANSCRIPT, "openai": SpeechEventType.RECOGNITION_USAGE}
"""What follows when everything has been said, in one turn."""


def performed(told: dict[str, Any]) -> dict[str, Any]:
    """A transcription and what came of it."""
    return asyncio.run((streamed if told["call"] == "live" else recognised)(told))


def plugin(told: dict[str, Any], session: aiohttp.ClientSession) -> Any:
    """The vendor's."""
    options = {"base_url": told["url"] + "/v1", "api_key": told["key"], "model": told["model"]}
    if told["vendor"] == "elevenlabs":
        return elevenlabs.STT(**options, **told["args"], http_session=session)
    made = openai.STT(**options, **told["args"], **({"use_realtime": True} if told["call"] == "live" else {}))
    made._session = session
    return made


async def recognised(told: dict[str, Any]) -> dict[str, Any]:
    """What the plugin hears in a recording."""
    async with aiohttp.ClientSession() as session:
        made = plugin(told, session)
        heard = await made.recognize(await frames(told["file"]), conn_options=ONCE)
        await made.aclose()
    (first,) = heard.alternatives
    return {"ok": {name: getattr(first, name) for name in ("text", "start_time", "end_time", "confidence")}
            | {"language": str(first.language)}}  # fmt: skip


async def streamed(told: dict[str, Any]) -> dict[str, Any]:
    """What the plugin hears while a recording is spoken, faster than it was: its events until the last."""
    async with aiohttp.ClientSession() as session:
        made, heard = plugin(told, session), []
        async with made.stream(conn_options=ONCE) as stream, asyncio.timeout(PATIENCE_S):
            speaking = asyncio.create_task(spoken(told, stream))
            async for event in stream:
                heard.append(plain(event))
                if event.type is LAST[told["vendor"]]:
                    break
            await speaking
        await made.aclose()
    return {"ok": heard}


async def spoken(told: dict[str, Any], stream: Any) -> None:
    """Say it, a tenth of a second at a time."""
    for frame in await frames(told["file"]):
        stream.push_frame(frame)
        await asyncio.sleep(frame.duration / PACE)
    stream.flush()


def plain(event: Any) -> dict[str, Any]:
    """An event as JSON has it."""
    first = event.alternatives[0] if event.alternatives else None
    usage = event.recognition_usage
    return {
        "type": event.type.value,
        "text": first.text if first else "",
        "language": str(first.language) if first else "",
        "seconds": usage.audio_duration if usage else 0.0,
    }


async def frames(path: str) -> list[Any]:
    """A recording as LiveKit has audio."""
    return [frame async for frame in utils.audio.audio_frames_from_file(path, sample_rate=16_000)]
