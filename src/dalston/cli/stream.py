"""`dalston stream`: a recording through a live session, at the pace at which it was spoken."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from dalston_engine.errors import DalstonError
from dalston_engine.live.protocol import HIGHEST_RATE, LOWEST_RATE
from dalston_engine.stages import STAGES
from msgspec import Struct

from dalston import settings as settings_
from dalston.cli.captions import Show, captions
from dalston.cli.output import say
from dalston.cli.transcribe import START_S, serving
from dalston.live import ACCURATE, FAST, Trouble
from dalston.live_client import LiveClient, paced

PIECE_S, PIECE = 0.1, 65_536
"""Seconds of samples, or bytes of a file, that are sent in one piece."""
AGAIN_S, STARTING = 0.2, 503
"""Seconds between looks at a server of our own, and the status it answers with until it can work."""


class Wish(Struct, frozen=True):
    """What is wanted of a live session, and how it is shown."""

    model: str = FAST
    language: str | None = None
    partials: bool = True
    words: bool = False
    record: bool = False
    json: bool = False

    @property
    def query(self) -> dict[str, Any]:
        """What the socket is told."""
        return {"model": self.model, "language": self.language, "interim_results": self.partials,
                "word_timestamps": self.words, "record": self.record}  # fmt: skip

    @property
    def preload(self) -> str:
        """The model that a server of our own has in memory at once."""
        return "" if self.model in (FAST, ACCURATE) else self.model


class Sound(Struct):
    """A recording as it is sent."""

    encoding: str
    sample_rate: int
    a_second: int
    """Bytes; 0: not known."""
    pieces: Callable[[], Iterator[bytes]]


async def stream(path: Path, speed: float | None, wish: Wish, data: str | None) -> None:
    """Send a recording to a live session and show what is heard.

    `speed`: 1 is as it was spoken, 0 as fast as it is taken; None: 1 where the pace is known. Raises
    DalstonError where it is not known and asked for.
    """
    found = sound(path)
    if not found.a_second and speed:
        raise DalstonError(
            "This file cannot be paced: only a WAV with one channel of 16-bit samples says how many bytes a "
            "second has. Leave `--speed` away."
        )

    async def content() -> AsyncIterator[bytes]:
        pace = 1.0 if speed is None and found.a_second else speed or 0.0
        async for piece in paced(found.pieces(), found.a_second, pace):
            yield piece

    kind = {"encoding": found.encoding, "sample_rate": found.sample_rate}
    await hear(content(), kind, wish, data)


def sound(path: Path) -> Sound:
    """A recording's samples, if it is a WAV that a session takes as it is; else the file as it is."""
    try:
        with wave.open(str(path), "rb") as wav:
            rate = wav.getframerate()
            plain = (wav.getnchannels(), wav.getsampwidth()) == (1, 2)
    except (wave.Error, EOFError):
        plain, rate = False, 0
    if plain and LOWEST_RATE <= rate <= HIGHEST_RATE:
        return Sound("pcm_s16le", rate, 2 * rate, lambda: _samples(path))
    return Sound("container", 16_000, 0, lambda: _bytes(path))


def _samples(path: Path) -> Iterator[bytes]:
    with wave.open(str(path), "rb") as wav:
        while piece := wav.readframes(round(wav.getframerate() * PIECE_S)):
            yield piece


def _bytes(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


async def hear(content: AsyncIterator[bytes], sound: dict[str, Any], wish: Wish, data: str | None) -> None:
    """Send audio to a session of the running server, or of one of our own, and show what comes of it.

    Ctrl-C ends the audio; what was said until then is still shown. A second one gives up.
    """
    stopped = _stopped()
    async with _session(wish, sound, data) as live:
        with captions(wish.json, wish.words) as show:
            sending = asyncio.create_task(_send(live, content, stopped))
            try:
                await _follow(live, show)
                if sending.done():
                    sending.result()
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    if wish.record:
        say(f"Recorded as session {live.session_id}.")


def _stopped() -> asyncio.Event:
    """Set by the first Ctrl-C or SIGTERM; the next one ends this process as usual."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        event.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return event


async def _send(live: LiveClient, content: AsyncIterator[bytes], stopped: asyncio.Event) -> None:
    """Everything until it ends or is stopped."""
    stop = asyncio.create_task(stopped.wait())
    audio = asyncio.create_task(_all(live, content))
    try:
        await asyncio.wait({stop, audio}, return_when=asyncio.FIRST_COMPLETED)
        if audio.done():
            audio.result()
    finally:
        for task in (stop, audio):
            task.cancel()
        await asyncio.gather(stop, audio, return_exceptions=True)
        live.end()


async def _all(live: LiveClient, content: AsyncIterator[bytes]) -> None:
    async for piece in content:
        await live.send(piece)


async def _follow(live: LiveClient, show: Show) -> None:
    async for event in live:
        if isinstance(event, Trouble):
            if event.fatal:
                raise DalstonError(event.message, code=event.code, status=event.status)
            say(event.message)
        else:
            show(event)


@contextlib.asynccontextmanager
async def _session(wish: Wish, sound: dict[str, Any], data: str | None) -> AsyncIterator[LiveClient]:
    """A session; a server of our own is waited for."""
    settings = settings_.load(data=data)
    needless = set(STAGES) - {"transcribe", "listen"}
    async with serving(settings, wish.preload, needless) as (url, engines):
        end = time.monotonic() + START_S
        async with contextlib.AsyncExitStack() as stack:
            while True:
                live = LiveClient(url, settings.api_key, **sound, **wish.query)
                try:
                    await stack.enter_async_context(live)
                    break
                except DalstonError as error:
                    if not engines or error.status != STARTING or time.monotonic() > end:
                        raise
                await asyncio.sleep(AGAIN_S)
            yield live
