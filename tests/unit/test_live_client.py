"""The client of the native live socket, against a server that hangs up as scripted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from dalston import live_client
from dalston.client import NoServer, ServerSaid
from dalston.live import (
    Ack,
    Event,
    FinalTranscript,
    Flushed,
    PartialTranscript,
    SessionEnded,
    SessionStarted,
    Trouble,
)
from dalston.live_client import LiveClient, LiveLost, paced, pieces

pytestmark = pytest.mark.anyio
RATE = 16_000


class Script:
    """A gateway that hangs up each time it has heard so many more bytes, and tells everything once."""

    def __init__(self, *hang_ups: int, acks: bool = True, lost: int = 0) -> None:
        self.hang_ups, self.acks, self.lost = list(hang_ups), acks, lost
        self.heard = bytearray()
        self.seq = 0
        self.queries: list[dict[str, list[str]]] = []
        self.url = ""

    async def tell(self, socket: ServerConnection, event: Any) -> None:
        await socket.send(msgspec.json.encode(event).decode())

    def next(self) -> int:
        self.seq += 1
        return self.seq

    async def talk(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.queries.append(parse_qs(urlsplit(socket.request.path).query))
        if self.queries[0]["encoding"] == ["container"]:
            self.heard.clear()
        seconds = len(self.heard) / 2 / RATE
        resumed = len(self.queries) > 1
        await self.tell(socket, SessionStarted(self.next(), "5e55", "tiny.en", seconds, resumed))
        begun = len(self.heard)
        async for message in socket:
            if isinstance(message, bytes):
                self.heard += message
                if self.hang_ups and len(self.heard) - begun >= self.hang_ups[0]:
                    self.hang_ups.pop(0)
                    socket.transport.abort()
                    return
                if self.acks:
                    await self.tell(socket, Ack(self.next(), len(self.heard) / 2 / RATE))
                continue
            told = msgspec.json.decode(message)
            seconds = len(self.heard) / 2 / RATE
            if told["type"] == "flush":
                await self.tell(socket, FinalTranscript(self.next(), 0, seconds, "so far", "flush"))
                await self.tell(socket, Flushed(self.next(), told["id"], seconds))
            else:
                await self.tell(socket, SessionEnded(self.next(), "5e55", seconds))
                return

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.lost and self.queries:
            headers = Headers({"content-type": "application/json"})
            body = b'{"error": {"code": "not_found", "message": "There is no such session."}}'
            return Response(self.lost, "No", headers, body)
        return None


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Script]:
    async with serve(script.talk, "127.0.0.1", 0, process_request=script.admit) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        script.url = f"http://127.0.0.1:{port}"
        yield script


async def heard(live: LiveClient) -> list[Event]:
    return [event async for event in live]


SOUND = bytes(range(256)) * 1250  # 10 s


@pytest.mark.parametrize("acks", [True, False])
async def test_a_lost_connection_costs_no_byte_and_doubles_none(acks: bool) -> None:
    async with scripted(Script(50_000, 1, 70_000, acks=acks)) as script:
        async with LiveClient(script.url, model="fast", word_timestamps=True) as live:
            for piece in pieces(SOUND, 3_200):
                await live.send(piece)
            live.flush("a")
            live.end()
            events = await heard(live)
        assert bytes(script.heard) == SOUND
        assert live.resumed == 3
        assert script.queries[0]["word_timestamps"] == ["true"]
        assert [query.get("session_id") for query in script.queries] == [None, *[["5e55"]] * 3]
        assert int(script.queries[1]["after"][0]) >= 1
        kinds = [type(event) for event in events if not isinstance(event, Ack | SessionStarted)]
        assert kinds == [FinalTranscript, Flushed, SessionEnded]


async def test_commands_stand_between_the_audio_before_and_after_them() -> None:
    async with scripted(Script(40_000)) as script, LiveClient(script.url) as live:
        await live.send(SOUND[:32_000])
        live.flush("half")
        await live.send(SOUND[32_000:])
        live.end()
        events = await heard(live)
        flushed = [event for event in events if isinstance(event, Flushed)]
        assert [(event.id, event.audio) for event in flushed] == [("half", 1.0)]
        assert events[-1] == SessionEnded(events[-1].seq, "5e55", len(SOUND) / 2 / RATE)


async def test_who_cannot_come_back_is_told_why() -> None:
    async with scripted(Script(1, lost=404)) as script, LiveClient(script.url) as live:
        await live.send(SOUND)
        with pytest.raises(ServerSaid) as refused:
            await heard(live)
        assert (refused.value.code, refused.value.status) == ("not_found", 404)


async def test_a_file_is_sent_again_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(Script(100_000)) as script, LiveClient(script.url, encoding="container") as live:
        await live.send(SOUND)
        live.end()
        await heard(live)
        assert bytes(script.heard) == SOUND
        assert live.resumed == 1
    monkeypatch.setattr(live_client, "FILE", 1000)
    async with scripted(Script(100_000)) as script, LiveClient(script.url, encoding="container") as live:
        await live.send(SOUND)
        with pytest.raises(LiveLost, match="session 5e55"):
            await heard(live)


async def test_a_gateway_that_stays_away_is_given_up_after_the_grace() -> None:
    async with scripted(Script(1, lost=503)) as script, LiveClient(script.url, grace=0.2) as live:
        await live.send(SOUND)
        with pytest.raises(LiveLost, match="none for 0 s"):
            await heard(live)
    with pytest.raises(NoServer, match="No server listens"):
        async with LiveClient("http://127.0.0.1:9"):
            pass
    with pytest.raises(NoServer, match="is no address"):
        async with LiveClient("nonsense"):
            pass


async def test_a_fatal_error_is_the_last_event_and_a_refusal_the_first() -> None:
    class Failing(Script):
        async def talk(self, socket: ServerConnection) -> None:
            await self.tell(socket, SessionStarted(1, "5e55", "tiny.en", 0))
            await self.tell(socket, PartialTranscript(2, 0, 1, "so", ""))
            await self.tell(socket, Trouble(3, "no_worker", "None is left.", 503))

    class Full(Script):
        async def talk(self, socket: ServerConnection) -> None:
            await self.tell(socket, Trouble(1, "at_capacity", "Every place is taken.", 503))

    async with scripted(Failing()) as script, LiveClient(script.url) as live:
        assert [type(event) for event in await heard(live)] == [SessionStarted, PartialTranscript, Trouble]
    async with scripted(Full()) as script:
        with pytest.raises(ServerSaid) as refused:
            async with LiveClient(script.url):
                pass
        assert refused.value.code == "at_capacity"


async def test_audio_is_paced_by_its_own_clock() -> None:
    sent = [piece async for piece in paced(pieces(SOUND, 3_200), 32_000, speed=100)]
    assert b"".join(sent) == SOUND
