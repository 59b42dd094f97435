"""A worker of live sessions, scripted: every second of audio is one word, told by the value of its samples.

So whatever is lost, doubled or out of order shows in the text. It can be killed, frozen, slow or full.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import msgspec
from dalston_engine import keys
from dalston_engine.live import protocol
from dalston_engine.live.protocol import commands, encode
from dalston_engine.queue import AWAY
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from dalston.store.client import end_if_cancelled

RATE = 16_000
BEAT_S = 0.1


def spoken(*values: int, seconds: float = 1.0) -> bytes:
    """A second of audio for each value; 0 is silence."""
    return b"".join(struct.pack("<h", value) * int(RATE * seconds) for value in values)


class Attachment:
    """One connection."""

    def __init__(self, worker: Listener, socket: ServerConnection, asked: protocol.Open) -> None:
        self.worker, self.socket, self.asked = worker, socket, asked
        self.audio, self.begun = bytearray(), round(asked.start * RATE)
        self.said = asked.heard
        self.options = asked.options

    @property
    def seconds(self) -> float:
        return (self.begun + len(self.audio) // 2) / RATE

    def value(self, start: float, end: float) -> int:
        """The samples' value between, 0 unless one is not."""
        first, last = round(start * RATE) - self.begun, round(end * RATE) - self.begun
        content = bytes(self.audio[max(first, 0) * 2 : last * 2])
        values = {one for (one,) in struct.iter_unpack("<h", content)} - {0}
        return max(values, default=0)

    async def tell(self, report: protocol.Report) -> None:
        await self.worker.gate.wait()
        await self.socket.send(encode(report).decode())

    async def hear(self, audio: bytes) -> None:
        self.audio += audio
        while self.seconds >= (end := int(self.said + 1e-6) + 1):
            await self.utter(end, "silence")
        if value := self.value(self.said, self.seconds):
            await self.tell(protocol.Partial(self.said, self.seconds, f"w{value}", " so"))

    async def utter(self, end: float, cause: Any) -> None:
        start, self.said = self.said, end
        value = self.value(start, end)
        if not value:
            await self.tell(protocol.Settled(end))
            return
        await self.tell(protocol.SpeechStarted(start))
        if cause == "silence":
            await self.tell(protocol.SpeechEnded(end))
        if self.worker.fails_on == value:
            await self.tell(protocol.Failed("engine_error", "No.", 500, self.worker.retryable))
            await self.socket.close()
            return
        await self.worker.slow()
        await self.tell(protocol.Final(start, end, f"w{value}", end, cause))

    async def obey(self, text: str) -> bool:
        match commands.decode(text):
            case protocol.Flush(id=id):
                await self.utter(self.seconds, "flush")
                await self.tell(protocol.Flushed(id, self.seconds))
            case protocol.Configure(options=options):
                self.options = options
            case protocol.Clear():
                self.said = self.seconds
                await self.tell(protocol.Settled(self.seconds))
            case protocol.End():
                if self.seconds > self.said:
                    await self.utter(self.seconds, "end")
                await self.tell(protocol.Ended(self.seconds))
                return False
        return True


class Listener:
    """A worker in this process."""

    def __init__(self, redis: Any, id: str, capacity: int, models: dict[str, list[str]]) -> None:
        self.redis, self.id, self.capacity, self.models = redis, id, capacity, models
        self.gate, self.state, self.secret = asyncio.Event(), "ready", f"secret of {id}"
        self.gate.set()
        self.beats, self.dead = True, False
        self.fails_on, self.retryable, self.delay = 0, True, 0.0
        self.attachments: list[Attachment] = []
        self.opened: list[protocol.Open] = []
        self.address = ""
        self._server: Any = None

    async def run(self) -> None:
        async with serve(
            self._serve, "127.0.0.1", 0, process_request=self._enter, compression=None
        ) as server:
            self._server = server
            self.address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            while True:
                if self.beats:
                    with contextlib.suppress(*AWAY):
                        await self.beat()
                end_if_cancelled()
                await asyncio.sleep(BEAT_S)

    async def beat(self) -> None:
        seconds, micros = await self.redis.time()
        now, key = int(seconds * 1000 + micros // 1000), keys.WORKER(worker=self.id)
        fields = {
            "engine": "scripted",
            "address": self.address,
            "secret": self.secret,
            "state": self.state,
            "models": msgspec.json.encode(self.models),
            "default_model": next(iter(self.models)),
            "capacity": self.capacity,
            "sessions": len(self.attachments),
            "load": "{}",
            "beat": now,
        }
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping=fields)
            pipe.expire(key, 10)
            pipe.zadd(keys.WORKERS(), {self.id: now})
            await pipe.execute()

    def freeze(self) -> None:
        """Stop, holding on to all connections."""
        self.gate.clear()
        self.beats = False

    def thaw(self) -> None:
        """Go on."""
        self.gate.set()
        self.beats = True

    def kill(self) -> None:
        """End at once."""
        self.beats, self.dead = False, True
        self.gate.set()
        self._server.close(close_connections=False)
        for one in list(self.attachments):
            one.socket.transport.abort()

    async def slow(self) -> None:
        """Take as long as a final takes."""
        if self.delay:
            await asyncio.sleep(self.delay)

    async def _enter(self, connection: ServerConnection, request: Any) -> Any:
        await self.gate.wait()
        if request.headers.get("authorization") != f"Bearer {self.secret}":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            asked = commands.decode(await socket.recv())
            assert isinstance(asked, protocol.Open)
            self.opened.append(asked)
            one = Attachment(self, socket, asked)
            self.attachments.append(one)
            try:
                if self.dead:
                    return socket.transport.abort()
                await one.tell(protocol.Opened(asked.model))
                async for message in socket:
                    await self.gate.wait()
                    if isinstance(message, bytes):
                        await one.hear(message)
                    elif not await one.obey(message):
                        return
            finally:
                self.attachments.remove(one)


@contextlib.asynccontextmanager
async def listening(
    redis: Any, id: str = "one", capacity: int = 4, models: dict[str, list[str]] | None = None
) -> AsyncIterator[Listener]:
    """A worker that is there as long as the context lasts."""
    worker = Listener(redis, id, capacity, models or {"tiny.en": ["en"]})
    running = asyncio.create_task(worker.run())
    while not await redis.exists(keys.WORKER(worker=id)):
        await asyncio.sleep(0.005)
    try:
        yield worker
    finally:
        worker.kill()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await redis.delete(keys.WORKER(worker=id))
        await redis.zrem(keys.WORKERS(), id)
