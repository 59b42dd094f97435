"""The native live socket and what is read over HTTP, of a real gateway process with scripted workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dalston.realtime.tape import MOST_MARKS
from dalston.store import client as stores
from dalston.store.access_keys import AccessKeys, Limits, Wanted
from tests.contract.listener import listening, spoken
from tests.waiting import soon

pytestmark = pytest.mark.anyio
PATH = "/v1/audio/transcriptions/stream"
KEY = "dk_" + "x" * 40
END = '{"type":"end"}'


class Gateway:
    """A gateway's process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port
        self.http = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20)

    def live(self, query: str = "", **options: Any) -> Any:
        """A connection to the live socket."""
        address = f"ws://127.0.0.1:{self.port}{PATH}{query}"
        return connect(address, ping_timeout=None, compression=None, proxy=None, **options)

    async def refused(self, query: str = "", **options: Any) -> tuple[int, Any]:
        """Status and code of a refused handshake."""
        with pytest.raises(InvalidStatus) as caught:
            async with self.live(query, **options):
                pass
        answer = caught.value.response
        return answer.status_code, json.loads(bytes(answer.body or b""))["error"]["code"]


@contextlib.asynccontextmanager
async def running(url: str, data: Path, **settings: str) -> AsyncIterator[Gateway]:
    """A gateway as long as the context lasts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        port = listener.getsockname()[1]
        environment = os.environ | settings | {
            "DALSTON_REDIS_URL": url,
            "DALSTON_DATA": str(data),
            "DALSTON_SOCKET_FD": str(listener.fileno()),
        }  # fmt: skip
        command = [sys.executable, "-m", "dalston.gateway"]
        with subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()]) as process:
            gateway = Gateway(process, port)
            try:
                async with gateway.http:
                    assert (await gateway.http.get("/health")).status_code == 200
                    yield gateway
            finally:
                process.terminate()
                process.wait(20)


@pytest.fixture
async def client(valkey: str, redis: Any) -> AsyncIterator[Any]:
    """An asynchronous client of the embedded server."""
    made = stores.connect(valkey)
    yield made
    await made.aclose()


async def told(connection: ClientConnection) -> list[Any]:
    """All events until the connection closes."""
    events = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            events.append(json.loads(await asyncio.wait_for(connection.recv(), 20)))
    return events


async def until(connection: ClientConnection, kind: str) -> Any:
    """The next event of a type."""
    while True:
        event = json.loads(await asyncio.wait_for(connection.recv(), 20))
        if event["type"] == kind:
            return event


def texts(events: list[Any]) -> list[str]:
    """The finals' texts."""
    return [event["text"] for event in events if event["type"] == "transcript.final"]


async def test_a_session_from_beginning_to_end(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client) as worker, running(valkey, tmp_path) as gateway:
        query = "?language=en&keyterms=one&keyterms=two&vad_silence_ms=300&record=true"
        async with gateway.live(query) as connection:
            started = await until(connection, "session.started")
            await connection.send(spoken(1, 2))
            await until(connection, "ack")
            path = f"/v1/realtime/sessions/{started['session_id']}"
            during = (await gateway.http.get(path)).json()
            assert (during["state"], during["text"][:2]) == ("active", "w1")
            assert (await gateway.http.get(f"{path}/audio")).status_code == 409
            assert (await gateway.http.delete(path)).status_code == 409
            await connection.send('{"type":"flush","id":"f"}')
            await connection.send("nonsense")
            await connection.send('{"type":"audio","audio":"!"}')
            await connection.send('{"type":"configure","vad_silence_ms":700}')
            await connection.send(spoken(3))
            await connection.send(END)
            events = await told(connection)
        assert connection.close_code == 1000
        assert "w3" in texts(events)
        faults = [event for event in events if event["type"] == "error"]
        assert [(one["code"], one["fatal"]) for one in faults] == [("bad_message", False)] * 2
        assert any(event["type"] == "flushed" for event in events)
        assert events[-1]["type"] == "session.ended"
        options = worker.opened[0].options
        assert (options.keyterms, options.vad_silence_ms) == (["one", "two"], 300)
        found = (await gateway.http.get(path)).json()
        assert (found["state"], found["text"], found["duration"]) == ("ended", "w1 w2 w3", 3.0)
        assert "owner" not in found
        audio = await gateway.http.get(f"{path}/audio")
        assert (audio.headers["content-type"], audio.content[58:]) == ("audio/wav", spoken(1, 2, 3))
        status = (await gateway.http.get("/v1/realtime/status")).json()
        assert (status["capacity"], status["free"], status["totals"]["ended"]) == (4, 4, 1)
        assert "secret" not in json.dumps(status)
        metrics = (await gateway.http.get("/metrics")).text
        assert "dalston_live_finals_total 3.0" in metrics
        assert (await gateway.http.delete(path)).status_code == 204
        assert (await gateway.http.get(path)).status_code == 404
        assert (await gateway.http.get(path.replace(path[-8:], "../../.."))).status_code == 404


async def test_who_comes_back_changes_one_option_and_keeps_the_others(
    valkey: str, client: Any, tmp_path: Path
) -> None:
    async with listening(client) as worker, running(valkey, tmp_path) as gateway:
        async with gateway.live("?vad_silence_ms=300") as connection:
            id = (await until(connection, "session.started"))["session_id"]
            connection.transport.abort()
        async with gateway.live(f"?session_id={id}") as connection:
            await connection.send('{"type":"configure","prompt":"trains"}')
            await connection.send(spoken(1, 2))
            await until(connection, "transcript.final")
            options = worker.attachments[-1].options
            assert (options.vad_silence_ms, options.prompt) == (300, "trains")
            await connection.send(END)
            await told(connection)


async def test_sessions_count_against_the_limits_of_their_key(
    valkey: str, client: Any, tmp_path: Path
) -> None:
    def key(**limits: Any) -> dict[str, str]:
        made = AccessKeys(tmp_path).make(Wanted("limited", ["realtime"], limits=Limits(**limits)))
        return {"authorization": f"Bearer {made[1]}"}

    async with listening(client), running(valkey, tmp_path) as gateway:
        one = key(concurrent_jobs=1)
        async with gateway.live(additional_headers=one) as connection:
            refused = await gateway.refused(additional_headers=one)
            assert refused == (429, "concurrent_limit_exceeded")
            await connection.send(END)
            await told(connection)
        rare = key(requests_per_minute=1)
        brief = key(audio_minutes_per_hour=0.05)
        for headers in (one, rare, brief):
            async with gateway.live(additional_headers=headers) as connection:
                await connection.send(spoken(1, 2, 3))
                await connection.send(END)
                assert texts(await told(connection)) == ["w1", "w2", "w3"]
        assert await gateway.refused(additional_headers=rare) == (429, "rate_limit_exceeded")
        assert await gateway.refused(additional_headers=brief) == (429, "quota_exceeded")
        async with gateway.live(additional_headers=one):
            pass


WRONG = [
    ("?bla=1", 400, "invalid_option"),
    ("?vad_threshold=7", 400, "invalid_option"),
    ("?model=fast&model=base", 400, "invalid_option"),
    ("?encoding=opus&sample_rate=16000", 400, "invalid_option"),
    ("?sample_rate=7999", 400, "invalid_option"),
    ("?enhance_on_end=true", 400, "invalid_option"),
    ("?language=English", 400, "invalid_option"),
    ("?session_id=nonsense", 400, "invalid_option"),
    (f"?session_id={'a' * 32}", 404, "not_found"),
    ("?model=nothing", 404, "unknown_model"),
    ("?token=sutkn_nothing", 401, "invalid_api_key"),
]
"""Queries that are refused, with status and code."""


async def test_the_socket_is_described_where_it_is(gateway: Gateway) -> None:
    told = (await gateway.http.get("/asyncapi.json")).json()
    assert told["channels"]["stream"]["address"] == PATH


async def test_what_is_wrong_is_told_at_the_handshake(client: Any, gateway: Gateway) -> None:
    async with listening(client):
        for query, status, code in WRONG:
            assert await gateway.refused(query) == (status, code), query


@pytest.fixture
async def gateway(valkey: str, client: Any, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that needs no key."""
    async with running(valkey, tmp_path) as made:
        yield made


async def test_a_full_server_says_so_at_the_handshake(client: Any, gateway: Gateway) -> None:
    async with listening(client, capacity=1), gateway.live() as connection:
        assert await gateway.refused() == (503, "at_capacity")
        await connection.close()  # with a close frame: done, so its seat is free at once
        await soon(lambda: _begun(gateway))


async def _begun(gateway: Gateway) -> bool:
    with contextlib.suppress(InvalidStatus):
        async with gateway.live():
            return True
    return False


async def test_pages_from_elsewhere_do_not_get_in(client: Any, gateway: Gateway) -> None:
    async with listening(client):
        for origin in ("http://evil.example", "null", "http://localhost:1"):
            assert await gateway.refused(origin=origin) == (403, "origin_refused")
        async with gateway.live(origin=f"http://127.0.0.1:{gateway.port}"):
            pass
        with pytest.raises(InvalidStatus) as caught:
            async with gateway.live(additional_headers={"host": "evil.example"}):
                pass
        assert caught.value.response.status_code == 400


async def test_where_keys_are_needed_nobody_gets_in_without(valkey: str, client: Any, tmp_path: Path) -> None:
    settings = {"DALSTON_KEYS": "required", "DALSTON_ADMIN_KEY": KEY}
    async with listening(client), running(valkey, tmp_path, **settings) as gateway:
        assert await gateway.refused() == (401, "invalid_api_key")
        headers = {"authorization": f"Bearer {KEY}"}
        async with gateway.live(additional_headers=headers) as connection:
            id = (await until(connection, "session.started"))["session_id"]
        assert (await gateway.http.get(f"/v1/realtime/sessions/{id}")).status_code == 401
        found = await gateway.http.get(f"/v1/realtime/sessions/{id}", headers=headers)
        assert found.status_code == 200
        made = await gateway.http.post(
            "/v1/keys", headers=headers, json={"name": "n", "scopes": ["transcribe"]}
        )
        other = {"authorization": f"Bearer {made.json()['secret']}"}
        assert (await gateway.http.get(f"/v1/realtime/sessions/{id}", headers=other)).status_code == 404
        assert (await gateway.refused(f"?session_id={id}", additional_headers=other))[0] == 404


async def test_messages_that_are_too_long_end_the_session(client: Any, gateway: Gateway) -> None:
    async with listening(client), gateway.live() as connection:
        await connection.send(bytes(2**20 + 2))
        await told(connection)
        assert connection.close_code == 1009


async def test_tiny_messages_are_gathered(client: Any, gateway: Gateway) -> None:
    async with listening(client) as worker, gateway.live() as connection:
        audio = spoken(1, 2)
        hearing = asyncio.create_task(told(connection))
        for n in range(0, len(audio), 10):
            await connection.send(audio[n : n + 10])
        await connection.send(END)
        events = await hearing
        assert texts(events) == ["w1", "w2"]
        assert worker.opened


async def test_too_many_flushes_are_refused_and_the_session_goes_on(client: Any, gateway: Gateway) -> None:
    async with listening(client) as worker, gateway.live() as connection:
        worker.gate.clear()
        await connection.send(spoken(1))
        for n in range(MOST_MARKS + 1):
            await connection.send(f'{{"type":"flush","id":"{n}"}}')
        fault = await until(connection, "error")
        assert (fault["code"], fault["fatal"]) == ("bad_message", False)
        worker.gate.set()
        await connection.send(spoken(2))
        await connection.send(END)
        assert texts(await told(connection)) == ["w1", "w2"]


async def test_options_that_cannot_be_are_refused_and_the_session_goes_on(
    client: Any, gateway: Gateway
) -> None:
    async with listening(client), gateway.live() as connection:
        for wrong in ('"language":"de"', '"language":"English"', '"prompt":"' + "x" * 5000 + '"'):
            await connection.send(f'{{"type":"configure",{wrong}}}')
        await connection.send(spoken(1))
        await connection.send(END)
        events = await told(connection)
        faults = [(one["code"], one["fatal"]) for one in events if one["type"] == "error"]
        assert sorted(faults) == [("bad_message", False)] * 2 + [("unsupported_language", False)]
        assert texts(events) == ["w1"]


async def test_a_client_that_is_lost_comes_back(client: Any, gateway: Gateway) -> None:
    async with listening(client) as worker:
        async with gateway.live() as connection:
            started = await until(connection, "session.started")
            await connection.send(spoken(1) + spoken(2, seconds=0.5))
            final = await until(connection, "transcript.final")
            connection.transport.abort()
        assert len(worker.attachments) == 1
        query = f"?session_id={started['session_id']}&after={final['seq']}"
        async with gateway.live(query) as connection:
            again = await until(connection, "session.started")
            assert (again["resumed"], again["session_id"]) == (True, started["session_id"])
            rest = 1.5 - again["audio"]
            await connection.send(spoken(2, seconds=rest + 0.5))
            await connection.send(END)
            assert texts(await told(connection)) == ["w2"]


async def test_a_client_that_reads_nothing_hurts_nobody(client: Any, gateway: Gateway) -> None:
    async with listening(client, capacity=9), gateway.live() as deaf:
        connection = deaf.transport
        connection.pause_reading()
        sending = asyncio.create_task(deaf.send([spoken(1)] * 300))
        async with gateway.live() as other:
            began = time.monotonic()
            await other.send(spoken(1))
            await other.send(END)
            assert texts(await told(other)) == ["w1"]
            assert time.monotonic() - began < 5
        sending.cancel()
        connection.abort()


async def test_a_gateway_that_is_stopped_tells_its_clients(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), running(valkey, tmp_path) as one:
        async with one.live() as connection:
            started = await until(connection, "session.started")
            await connection.send(spoken(1))
            final = await until(connection, "transcript.final")
            one.process.terminate()
            await told(connection)
            assert connection.close_code == 1012
        assert one.process.wait(10) == -signal.SIGTERM
        query = f"?session_id={started['session_id']}&after={final['seq']}"
        async with running(valkey, tmp_path) as two, two.live(query) as connection:
            assert (await until(connection, "session.started"))["audio"] == 1.0
            await connection.send(spoken(2))
            await connection.send(END)
            assert texts(await told(connection)) == ["w2"]


async def test_a_gateway_that_is_killed_costs_no_final(valkey: str, client: Any, tmp_path: Path) -> None:
    async with (
        listening(client) as worker,
        running(valkey, tmp_path) as one,
        running(valkey, tmp_path) as two,
    ):
        async with one.live() as connection:
            started = await until(connection, "session.started")
            await connection.send(spoken(1) + spoken(2, seconds=0.5))
            final = await until(connection, "transcript.final")
            one.process.kill()
            await told(connection)
        await soon(lambda: not worker.attachments)
        async with two.live(f"?session_id={started['session_id']}&after=0") as connection:
            again = await until(connection, "session.started")
            assert again["audio"] == 1.0
            await connection.send(spoken(2, 3))
            await connection.send(END)
            events = await told(connection)
        assert texts(events) == ["w1", "w2", "w3"]
        assert events[0]["seq"] == final["seq"]
