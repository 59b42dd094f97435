"""One connection of a gateway: what it sends goes to the session, what the session says goes to it."""

from __future__ import annotations

import asyncio
from collections import deque
from importlib.util import find_spec
from typing import Any

import msgspec
from websockets.asyncio.server import ServerConnection

from dalston_engine.errors import BadInput, DalstonError, Retry
from dalston_engine.live import protocol
from dalston_engine.live.audio import Input, Samples
from dalston_engine.live.children import Decoding
from dalston_engine.live.loop import Loop
from dalston_engine.live.protocol import HIGHEST_RATE, LOWEST_RATE, OPEN_BYTES, commands, encode
from dalston_engine.live.session import BEHIND_S, Session
from dalston_engine.live.voice import Voice, detector

PIECE_BYTES = 2**15
"""How much audio of one session is heard before others have their turn."""
UNREAD = 16
"""Reports that wait to be sent, from which on partials are left out."""


class Attachment:
    """A session on its connection."""

    def __init__(self, socket: ServerConnection, asked: protocol.Open, loop: Loop) -> None:
        self._socket, self._events = socket, asyncio.get_running_loop()
        self._reports = deque[protocol.Report]()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._session = Session(asked, loop, Voice(detector()), self._tell, self._call)
        self._input: Input | None = None
        self._decoding: Decoding | None = None
        self._reader: asyncio.Task[None] | None = None
        if asked.encoding == "container":
            if find_spec("av") is None:
                raise Retry("This worker decodes no files.", code="unsupported_encoding", status=503)
        else:
            if not LOWEST_RATE <= asked.sample_rate <= HIGHEST_RATE:
                told = f"The sample rate must be {LOWEST_RATE} to {HIGHEST_RATE}."
                raise BadInput(told, code="invalid_sample_rate")
            self._input = Input(asked.encoding, asked.sample_rate)

    async def run(self) -> None:
        """Until either side is done; raises ConnectionClosed."""
        hearing, telling = asyncio.create_task(self._hear()), asyncio.create_task(self._say())
        try:
            await asyncio.wait([hearing, telling], return_when=asyncio.FIRST_COMPLETED)
            if hearing.done() and hearing.result():
                await telling
            elif telling.done():
                telling.result()
        except DalstonError as error:
            await self._socket.send(encode(failed(error)).decode())
        finally:
            self._session.close()
            tasks = [hearing, telling, *([self._reader] if self._reader else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._decoding is not None:
                await self._decoding.stop()

    # What comes.

    async def _hear(self) -> bool:
        """Whether all has come; otherwise the connection is closed."""
        if self._input is None:
            self._decoding = await Decoding.start()
            self._reader = asyncio.create_task(self._decode(self._decoding))
        async for message in self._socket:
            if isinstance(message, bytes):
                await self._audio(message)
            elif await self._obey(message):
                return True
        return False

    async def _audio(self, content: bytes) -> None:
        if self._input is None:
            if self._decoding is not None:
                await self._decoding.feed(content)
            return
        for at in range(0, len(content), PIECE_BYTES):
            await self._heard(self._input.samples(content[at : at + PIECE_BYTES]))

    async def _heard(self, samples: Samples) -> None:
        if len(samples):
            self._session.hear(samples)
        while self._session.lag > BEHIND_S and not self._session.failed:
            self._room.clear()
            await self._room.wait()

    async def _decode(self, decoding: Decoding) -> None:
        try:
            async for samples in decoding.samples():
                await self._heard(samples)
        except DalstonError as error:
            self._tell(failed(error))

    async def _obey(self, text: str) -> bool:
        """Do what is asked; answers whether nothing more can come."""
        match command(text):
            case protocol.Flush(id):
                await self._catch_up()
                self._session.flush(protocol.Flushed(id, self._session.seconds))
            case protocol.Configure(options):
                self._session.configure(options)
            case protocol.Clear():
                await self._catch_up()
                self._session.clear()
            case protocol.End():
                if self._decoding is not None and self._reader is not None:
                    self._decoding.finish()
                    await self._reader
                await self._catch_up()
                self._session.flush(protocol.Ended(self._session.seconds), "end")
                return True
            case _:
                raise BadInput("The session is open already.", code="bad_message", status=400)
        return False

    async def _catch_up(self) -> None:
        """Hear all that was sent."""
        if self._input is not None:
            await self._heard(self._input.flush())
        elif self._decoding is not None:
            await self._decoding.still()

    # What goes.

    def _call(self, call: Any) -> None:
        self._events.call_soon_threadsafe(self._resolve, call)

    def _resolve(self, call: Any) -> None:
        call()
        self._room.set()

    def _tell(self, report: protocol.Report) -> None:
        if isinstance(report, protocol.Partial) and len(self._reports) > UNREAD:
            return
        self._reports.append(report)
        self._news.set()

    async def _say(self) -> None:
        while True:
            while self._reports:
                report = self._reports.popleft()
                await self._socket.send(encode(report).decode())
                if isinstance(report, protocol.Ended | protocol.Failed):
                    return
            self._news.clear()
            await self._news.wait()


def failed(error: DalstonError) -> protocol.Failed:
    """An error as a gateway is told."""
    return protocol.Failed(error.code, error.message, error.status, error.retryable)


def command(text: str) -> protocol.Command:
    """What a text message asks for; raises BadInput."""
    try:
        if len(text) <= OPEN_BYTES:
            return commands.decode(text)
    except msgspec.MsgspecError:
        pass
    raise BadInput("That is no message of the protocol.", code="bad_message", status=400)
