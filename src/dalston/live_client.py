"""The native live socket from Python, as `dalston.LiveClient`; the command line uses it too.

    async with dalston.LiveClient(sample_rate=16_000) as live:
        await live.send(samples)
        live.end()
        async for event in live:
            print(event)

Events are those of `dalston.live`. The audio is kept until the server acknowledges it, so that a lost
connection, or a gateway that falls, costs nothing: the session is taken up where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Self
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.live.protocol import SAMPLE_BYTES
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from dalston.client import URL, NoServer, ServerSaid
from dalston.live import Ack, Event, FinalTranscript, Flushed, SessionEnded, SessionStarted, Trouble

PATH = "/v1/audio/transcriptions/stream"
GRACE_S = 30.0
"""How long a lost session is asked for again."""
OPEN_S = 10.0
PAUSES = 0.05, 0.1, 0.2, 0.4, 0.8
"""Seconds between tries to connect again; the last one over and over."""
BLOCK, WAITING = 65_536, 1 << 20
"""Bytes of one message, and of audio not sent yet from which on `send` waits."""

FILE = 32 << 20
"""Bytes of a `container` up to which it can be sent again from its beginning."""

_events = msgspec.json.Decoder(Event)


class LiveLost(DalstonError):
    """The connection was lost, and the session could not be taken up again."""

    code, retryable = "live_lost", False


class _Due(Struct):
    """A message that is sent once the audio has been, up to `position`."""

    position: int
    text: str
    id: str | None = None
    """Of a flush, which is over when it is answered."""
    sent: bool = False
    """Whether it was, on this connection."""


class LiveClient:
    """One live session; raises ServerSaid for a refusal, NoServer for no answer, LiveLost as it says.

    `query` is the socket's: model, language, interim_results, word_timestamps, …. Audio comes as `encoding`
    in any pieces; a `container` beyond 32 MiB cannot be taken up again once its connection is
    lost.
    """

    def __init__(
        self, url: str = URL, api_key: str = "", *, sample_rate: int = 16_000, encoding: str = "pcm_s16le",
        grace: float = GRACE_S, **query: Any
    ) -> None:  # fmt: skip
        self._url, self._grace = url, grace
        self._headers = {"authorization": f"Bearer {api_key.strip()}"} if api_key.strip() else {}
        self._query: dict[str, Any] = {
            "encoding": encoding,
            "sample_rate": sample_rate if encoding in SAMPLE_BYTES else None,
        }
        self._query |= query
        self._rate, self._unit = sample_rate, SAMPLE_BYTES.get(encoding, 0)
        """Bytes of a sample; 0: seconds of audio cannot be told in bytes."""
        self._kept, self._from = bytearray(), 0
        """Audio from this byte of all of it on."""
        self._due: list[_Due] = []
        self._events: asyncio.Queue[Event | DalstonError | None] = asyncio.Queue()
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._socket: ClientConnection | None = None
        self._carrier: asyncio.Task[None] | None = None
        self._sent = self._after = self._final = 0
        self.session_id = ""
        self.resumed = 0
        """How often the session was taken up again."""

    async def __aenter__(self) -> Self:
        socket = await self._connected({})
        self._carrier = asyncio.create_task(self._carry(socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        if self._socket is not None:
            await self._socket.close()

    async def send(self, content: bytes) -> None:
        """Send audio; returns when there is room for more, or nothing is taken any more."""
        self._kept += content
        self._more.set()
        while self._end - self._sent > WAITING and not self._over:
            self._room.clear()
            await self._room.wait()

    async def sent(self) -> None:
        """Return once all audio has arrived, or nothing is taken any more."""
        while self._sent < self._end and not self._over:
            self._room.clear()
            await self._room.wait()
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await (await self._socket.ping())

    def flush(self, id: str) -> None:
        """Have everything sent so far finalised; the event `flushed` with this id answers."""
        self._tell({"type": "flush", "id": id}, id)

    def end(self) -> None:
        """Say that no more audio comes; the last event is `session.ended`."""
        self._tell({"type": "end"}, None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events until the session has ended, or has failed for good: then a fatal `error` is the last."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, DalstonError):
                raise event
            yield event

    def cut(self) -> None:
        """Lose the connection without a word, as networks do; the session is then taken up again."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def vanish(self) -> None:
        """Lose the connection without a word and never come back."""
        await self._stop()
        self.cut()

    @property
    def _end(self) -> int:
        """How many bytes of audio there are so far."""
        return self._from + len(self._kept)

    @property
    def _over(self) -> bool:
        return self._carrier is None or self._carrier.done()

    async def _stop(self) -> None:
        if self._carrier is not None:
            self._carrier.cancel()
            await asyncio.gather(self._carrier, return_exceptions=True)

    def _tell(self, message: dict[str, str], id: str | None) -> None:
        self._due.append(_Due(self._end, msgspec.json.encode(message).decode(), id))
        self._more.set()

    # The connection

    async def _carry(self, socket: ClientConnection) -> None:
        """Keep a connection until the session is over."""
        try:
            while not await self._converse(socket):
                socket = await self._again()
            self._events.put_nowait(None)
        except DalstonError as error:
            self._events.put_nowait(error)
        finally:
            self._room.set()

    async def _connected(self, resume: dict[str, Any]) -> ClientConnection:
        """A connection to the session, new or taken up again, with its first event heard."""
        query = {name: str(value).lower() if isinstance(value, bool) else value
                 for name, value in (self._query | resume).items() if value is not None}  # fmt: skip
        parts = urlsplit(self._url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        address = urlunsplit((scheme, parts.netloc, PATH, urlencode(query, doseq=True), ""))
        try:
            socket = await connect(
                address, additional_headers=self._headers, compression=None, max_size=None, proxy=None,
                open_timeout=OPEN_S,
            )  # fmt: skip
            self._socket = socket
            first = _events.decode(await asyncio.wait_for(socket.recv(), OPEN_S))
        except InvalidURI:
            raise NoServer(f"{self._url!r} is no address of a server: write it as {URL}.") from None
        except InvalidStatus as error:
            raise _refused(error) from None
        except ConnectionRefusedError:
            raise NoServer(f"No server listens at {self._url}. Start one with `dalston up`.") from None
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed):
            raise NoServer(f"The server at {self._url} did not answer.") from None
        if isinstance(first, Trouble):
            raise ServerSaid(first.message, code=first.code, status=first.status)
        assert isinstance(first, SessionStarted)
        self._began(first)
        return socket

    def _began(self, event: SessionStarted) -> None:
        """Go on sending from where the server wants it."""
        self.session_id, self._after = event.session_id, max(self._after, event.seq)
        wanted = self._position(event.audio)
        if wanted < self._from:
            raise LiveLost("The server asks for audio that it had acknowledged.")
        self._sent = min(wanted, self._end)
        for one in self._due:
            one.sent = False
        self._events.put_nowait(event)

    async def _again(self) -> ClientConnection:
        """A connection to the session that has lost its own; raises LiveLost when that takes too long."""
        if not self._unit and self._from:
            raise LiveLost(f"The connection was lost; what was said is kept as session {self.session_id}.")
        end, pauses = time.monotonic() + self._grace, itertools.chain(PAUSES, itertools.repeat(PAUSES[-1]))
        while True:
            try:
                socket = await self._connected({"session_id": self.session_id, "after": self._after})
            except (NoServer, ServerSaid) as error:
                if isinstance(error, ServerSaid) and error.status < 500 and error.status != 429:
                    raise
                if time.monotonic() > end:
                    raise LiveLost(
                        f"The connection was lost, and there was none for {self._grace:.0f} s; what was said "
                        f"is kept as session {self.session_id}."
                    ) from None
                await asyncio.sleep(next(pauses))
            else:
                self.resumed += 1
                return socket

    async def _converse(self, socket: ClientConnection) -> bool:
        """Send and hear; returns whether the session is over, rather than the connection lost."""
        pump = asyncio.create_task(self._pump(socket))
        try:
            async for message in socket:
                event = _events.decode(message)
                self._heard(event)
                if isinstance(event, SessionEnded) or (isinstance(event, Trouble) and event.fatal):
                    return True
        except ConnectionClosed:
            pass
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        return False

    def _heard(self, event: Event) -> None:
        self._after = max(self._after, event.seq)
        if isinstance(event, FinalTranscript):
            if event.seq <= self._final:
                return
            self._final = event.seq
        elif isinstance(event, Ack):
            self._forget(self._position(event.audio))
        elif isinstance(event, Flushed):
            self._due = [due for due in self._due if due.id != event.id]
        self._events.put_nowait(event)

    def _position(self, seconds: float) -> int:
        return round(seconds * self._rate) * self._unit

    def _forget(self, position: int) -> None:
        """Keep no audio before this byte."""
        position = min(position, self._sent)
        if position > self._from:
            del self._kept[: position - self._from]
            self._from = position

    async def _pump(self, socket: ClientConnection) -> None:
        """Send all audio, and what is due in between, as it comes."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._more.clear()
                due = next((one for one in self._due if not one.sent), None)
                end = due.position if due else self._end
                if self._sent < end:
                    begin = self._sent - self._from
                    block = bytes(self._kept[begin : min(begin + BLOCK, end - self._from)])
                    await socket.send(block)
                    self._sent += len(block)
                    if not self._unit and self._sent > FILE:
                        self._forget(self._sent)
                    self._room.set()
                elif due:
                    await socket.send(due.text)
                    due.sent = True
                else:
                    await self._more.wait()


def _refused(error: InvalidStatus) -> DalstonError:
    """What a handshake was refused with, as the server says it."""
    status = error.response.status_code
    try:
        told = msgspec.json.decode(error.response.body or b"")["error"]
        return ServerSaid(told["message"], code=told["code"], status=status)
    except (msgspec.DecodeError, KeyError, TypeError):
        message = f"The handshake was answered with status {status}, but not as Dalston does."
        return ServerSaid(message, code="no_dalston", status=status)


async def paced(pieces: Iterable[bytes], a_second: float, speed: float = 1.0) -> AsyncIterator[bytes]:
    """Audio of `a_second` bytes, each piece when its end would have been spoken at `speed`; 0: at once."""
    began, whole = time.monotonic(), 0
    for piece in pieces:
        whole += len(piece)
        if speed:
            await asyncio.sleep(max(began + whole / a_second / speed - time.monotonic(), 0))
        yield piece


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    """Content cut into pieces of so many bytes."""
    return (content[begin : begin + size] for begin in range(0, len(content), size))
