"""Live sessions with the vendors' unmodified Python SDKs.

What to do comes as steps: `["send", from, to]` (seconds of the recording, `pace` times as fast as they were
spoken), `["commit"]`, `["clear"]`, `["update", {…}]`, `["event", {…}]`, `["wait", type, how many]`,
`["close"]`.
What comes of it are the events, each as the SDK gives it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from elevenlabs.client import AsyncElevenLabs
from elevenlabs.realtime import AudioFormat, CommitStrategy, RealtimeEvents
from openai import AsyncOpenAI

CHUNK_S, PATIENCE_S = 0.1, 40.0


class Heard:
    """Events as they come."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.news = asyncio.Event()

    def put(self, type: str, event: Any) -> None:
        """Another one."""
        self.events.append({"type": type, "event": event})
        self.news.set()

    async def wait(self, type: str, many: int = 1) -> None:
        """Until there are so many of a type."""
        async with asyncio.timeout(PATIENCE_S):
            while sum(one["type"] == type for one in self.events) < many:
                self.news.clear()
                await self.news.wait()


def performed(told: dict[str, Any]) -> dict[str, Any]:
    """A session and what came of it."""
    heard = Heard()
    session = eleven if told["vendor"] == "elevenlabs" else opened
    try:
        asyncio.run(session(told, heard))
    except TimeoutError:
        return {"error": "TimeoutError", "status": None, "body": heard.events, "text": "the event never came"}
    return {"ok": heard.events}


def chunks(told: dict[str, Any], start: float, end: float) -> Iterator[str]:
    """Pieces of the recording in base64."""
    content = Path(told["file"]).read_bytes()
    second = 2 * int(told["rate"])
    step = int(second * CHUNK_S)
    for at in range(int(start * second), min(int(end * second), len(content)), step):
        yield base64.b64encode(content[at : at + step]).decode()


Do = Callable[..., Awaitable[Any]]


async def stepped(told: dict[str, Any], heard: Heard, send: Do, **others: Do) -> None:
    """Take the steps."""
    for name, *args in told["steps"]:
        if name == "send":
            for chunk in chunks(told, *args):
                await send(chunk)
                await asyncio.sleep(CHUNK_S / told.get("pace", 10))
        elif name == "wait":
            await heard.wait(*args)
        else:
            await others[name](*args)


async def eleven(told: dict[str, Any], heard: Heard) -> None:
    """A session of ElevenLabs'."""
    client = AsyncElevenLabs(base_url=told["url"], api_key=told["key"])
    options = dict(told["args"])
    for name, kind in (("audio_format", AudioFormat), ("commit_strategy", CommitStrategy)):
        if name in options:
            options[name] = kind(options[name])
    connection = await client.speech_to_text.realtime.connect(options)  # type: ignore[arg-type]
    for event in RealtimeEvents:
        connection.on(event, lambda *given, type=event.value: heard.put(type, given[0] if given else None))

    async def send(chunk: str) -> None:
        await connection.send({"audio_base_64": chunk} | told.get("first", {}))
        told.pop("first", None)

    await stepped(told, heard, send, commit=connection.commit, close=connection.close)
    await connection.close()


async def opened(told: dict[str, Any], heard: Heard) -> None:
    """A session of OpenAI's, today's or the beta's."""
    client = AsyncOpenAI(base_url=told["url"] + "/v1", api_key=told["key"], max_retries=0,
                         websocket_base_url=told["url"].replace("http", "ws", 1) + "/v1")  # fmt: skip
    beta = told["call"] == "live.beta"
    realtime: Any = client.beta.realtime if beta else client.realtime
    query = {"extra_query": {"intent": "transcription"}} | told.get("connect", {})
    async with realtime.connect(**query) as connection:

        async def hear() -> None:
            async for event in connection:
                heard.put(
                    event.type,
                    event.model_dump(mode="json", exclude_unset=True) | {"class": type(event).__name__},
                )

        async def update(session: dict[str, Any]) -> None:
            if beta:
                await connection.transcription_session.update(session=session)
            else:
                await connection.session.update(session=session)

        hearing = asyncio.create_task(hear())
        await stepped(
            told,
            heard,
            lambda chunk: connection.input_audio_buffer.append(audio=chunk),
            commit=connection.input_audio_buffer.commit,
            clear=connection.input_audio_buffer.clear,
            event=connection.send,
            update=update,
        )
        hearing.cancel()
