"""Calls with LiveKit's plugins for speech to text, of a whole recording at once."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from livekit.agents import APIConnectOptions, utils
from livekit.plugins import elevenlabs, openai

PACKAGES = ("livekit-agents", "livekit-plugins-elevenlabs", "livekit-plugins-openai")
ONCE = APIConnectOptions(max_retry=0)


def performed(told: dict[str, Any]) -> dict[str, Any]:
    """A transcription and what came of it."""
    return asyncio.run(recognised(told))


async def recognised(told: dict[str, Any]) -> dict[str, Any]:
    """What the plugin hears in a recording."""
    options = {"base_url": told["url"] + "/v1", "api_key": told["key"], "model": told["model"]}
    async with aiohttp.ClientSession() as session:
        if told["vendor"] == "elevenlabs":
            plugin: Any = elevenlabs.STT(**options, **told["args"], http_session=session)
        else:
            plugin = openai.STT(**options, **told["args"])
        heard = await plugin.recognize(await frames(told["file"]), conn_options=ONCE)
        await plugin.aclose()
    (first,) = heard.alternatives
    return {"ok": {name: getattr(first, name) for name in ("text", "start_time", "end_time", "confidence")}
            | {"language": str(first.language)}}  # fmt: skip


async def frames(path: str) -> list[Any]:
    """A recording as LiveKit has audio."""
    return [frame async for frame in utils.audio.audio_frames_from_file(path, sample_rate=16_000)]
