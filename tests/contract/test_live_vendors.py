"""The vendors' live sockets of a real gateway process with scripted workers."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from dalston.store import client as stores
from tests.contract.listener import listening, spoken
from tests.contract.test_live_gateway import KEY, Gateway, running, told, until
from tests.waiting import soon

pytestmark = pytest.mark.anyio
ELEVEN, OPEN = "/v1/speech-to-text/realtime?model_id=tiny.en", "/v1/realtime?model=tiny.en"
ASR = "conversation.item.input_audio_transcription"
SETTINGS = {"DALSTON_LIVE_ACCURATE": "tiny.en"}


@pytest.fixture
async def client(valkey: str, redis: Any) -> AsyncIterator[Any]:
    """An asynchronous client of the embedded server."""
    made = stores.connect(valkey)
    yield made
    await made.aclose()


@pytest.fixture
async def gateway(valkey: str, client: Any, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that needs no key."""
    async with running(valkey, tmp_path, **SETTINGS) as made:
        yield made


def live(gateway: Gateway, path: str, **options: Any) -> Any:
    """A connection to a vendor's socket."""
    return connect(f"ws://127.0.0.1:{gateway.port}{path}", compression=None, proxy=None, **options)


def chunk(content: bytes = b"", commit: bool = False) -> str:
    """A message of ElevenLabs'."""
    audio = base64.b64encode(content).decode()
    return json.dumps({"message_type": "input_audio_chunk", "audio_base_64": audio, "commit": commit})


def event(type: str, **fields: Any) -> str:
    """A message of OpenAI's."""
    return json.dumps({"type": type} | fields)


def append(content: bytes) -> str:
    """Audio for OpenAI."""
    return event("input_audio_buffer.append", audio=base64.b64encode(content).decode())


def update(turns: Any = None) -> str:
    """OpenAI's settings for scripted workers, which hear 16 kHz."""
    heard = {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": turns}
    return event("session.update", session={"type": "transcription", "audio": {"input": heard}})


async def first(connection: ClientConnection) -> Any:
    """The next message."""
    return json.loads(await asyncio.wait_for(connection.recv(), 20))


async def hung_up(connection: ClientConnection) -> list[Any]:
    """All messages after the client has asked to close."""
    hearing = asyncio.create_task(told(connection))
    await connection.close()
    return await hearing


async def test_a_close_is_answered_after_what_was_committed(client: Any, gateway: Gateway) -> None:
    async with listening(client) as worker:
        worker.delay = 0.3
        async with live(gateway, ELEVEN) as connection:
            await connection.send(chunk(spoken(1, 2, 3, seconds=0.5), commit=True))
            said = await hung_up(connection)
            assert said[-1] == {"message_type": "committed_transcript", "text": "w2 w3"}
            assert connection.close_code == 1000
        async with live(gateway, OPEN) as connection:
            await connection.send(update())
            await connection.send(append(spoken(4, seconds=0.5)))
            await connection.send(event("input_audio_buffer.commit"))
            said = await hung_up(connection)
            assert (said[-1]["type"], said[-1]["transcript"]) == (f"{ASR}.completed", "w4")
            assert connection.close_code == 1000


async def test_a_close_without_a_commit_is_answered_at_once(client: Any, gateway: Gateway) -> None:
    async with listening(client) as worker:
        worker.delay = 3
        for path in (ELEVEN, OPEN):
            async with live(gateway, path) as connection:
                await first(connection)
                await connection.send(chunk(spoken(1, 2)) if path is ELEVEN else append(spoken(1, 2)))
                began = time.monotonic()
                await connection.close()
                assert time.monotonic() - began < 2


async def test_a_worker_that_dies_costs_no_word(client: Any, gateway: Gateway) -> None:
    async with listening(client, "one") as one, live(gateway, ELEVEN) as connection:
        await connection.send(chunk(spoken(1, 2)))
        await soon(lambda: one.attachments and one.attachments[0].seconds >= 2)
        await connection.send(chunk(spoken(3, seconds=0.6)))
        async with listening(client, "two") as two:
            one.kill()
            await connection.send(chunk(spoken(3, seconds=0.4) + spoken(4), commit=True))
            while (message := await first(connection))["message_type"] != "committed_transcript":
                pass
            assert message["text"] == "w1 w2 w3 w4"
            assert two.opened


async def test_turns_outlive_a_worker_too(client: Any, gateway: Gateway) -> None:
    async with listening(client, "one") as one, live(gateway, OPEN) as connection:
        await connection.send(update({"type": "server_vad"}))
        await connection.send(append(spoken(1)))
        assert (await until(connection, f"{ASR}.completed"))["transcript"] == "w1"
        async with listening(client, "two"):
            one.kill()
            await connection.send(append(spoken(2, 3)))
            texts = [(await until(connection, f"{ASR}.completed"))["transcript"] for _ in range(2)]
            assert texts == ["w2", "w3"]


async def test_a_full_server_says_so_as_the_vendor_would(client: Any, gateway: Gateway) -> None:
    page = f"http://127.0.0.1:{gateway.port}"
    async with listening(client, capacity=1), live(gateway, ELEVEN) as connection:
        await first(connection)
        with pytest.raises(InvalidStatus) as caught:
            async with live(gateway, ELEVEN):
                pass
        answer = caught.value.response
        assert (answer.status_code, json.loads(answer.body)["detail"]["code"]) == (503, "at_capacity")
        async with live(gateway, ELEVEN, origin=page) as browser:
            (message,) = await told(browser)
            assert (message["message_type"], browser.close_code) == ("resource_exhausted", 1013)
        async with live(gateway, OPEN) as other:
            await other.send(append(spoken(1)))
            *_, error = await told(other)
            assert (error["error"]["code"], other.close_code) == ("at_capacity", 1013)


async def test_browsers_bring_their_key_as_a_subprotocol(valkey: str, client: Any, tmp_path: Path) -> None:
    settings = SETTINGS | {"DALSTON_KEYS": "required", "DALSTON_ADMIN_KEY": KEY}
    async with listening(client), running(valkey, tmp_path, **settings) as gateway:
        offered = ["realtime", f"openai-insecure-api-key.{KEY}"]
        async with live(gateway, OPEN, subprotocols=offered) as connection:
            assert connection.subprotocol == "realtime"
            assert (await first(connection))["type"] == "session.created"
        offered = ["realtime", "openai-insecure-api-key.wrong"]
        async with live(gateway, OPEN, subprotocols=offered) as connection:
            (error,) = await told(connection)
            assert (error["error"]["code"], connection.close_code) == ("invalid_api_key", 1008)
        async with live(gateway, f"{ELEVEN}&token=sutkn_spent") as connection:
            (error,) = await told(connection)
            assert (error["message_type"], connection.close_code) == ("auth_error", 1008)
        for path in (ELEVEN, OPEN):
            with pytest.raises(InvalidStatus) as caught:
                async with live(gateway, path):
                    pass
            assert caught.value.response.status_code == 401


async def test_ephemeral_keys_end(valkey: str, client: Any, tmp_path: Path) -> None:
    settings = SETTINGS | {"DALSTON_KEYS": "required", "DALSTON_ADMIN_KEY": KEY}
    headers = {"authorization": f"Bearer {KEY}"}
    async with listening(client), running(valkey, tmp_path, **settings) as gateway:
        session = {"input_audio_format": "g711_alaw", "client_secret": {"expires_at": {"seconds": 10}}}
        path = "/v1/realtime/transcription_sessions"
        made = await gateway.http.post(path, headers=headers, json=session)
        assert made.status_code == 200, made.text
        told_session = made.json()
        assert told_session["input_audio_format"] == "g711_alaw"
        secret = told_session["client_secret"]["value"]
        assert 0 < told_session["client_secret"]["expires_at"] - time.time() <= 10
        (key,) = [one async for one in client.scan_iter("dalston:token:*")]
        assert 0 < await client.ttl(key) <= 10
        bearer = {"authorization": f"Bearer {secret}"}
        async with live(gateway, OPEN, additional_headers=bearer) as connection:
            heard = (await first(connection))["session"]["audio"]["input"]
            assert heard["format"] == {"type": "audio/pcma"}
        async with gateway.live(additional_headers=headers) as connection:
            kept = f"/v1/realtime/sessions/{(await until(connection, 'session.started'))['session_id']}"
            assert (await gateway.http.get(kept, headers=headers)).status_code == 200
            assert (await gateway.http.get(kept, headers=bearer)).status_code == 403
        await client.delete(key)
        with pytest.raises(InvalidStatus):
            async with live(gateway, OPEN, additional_headers=bearer):
                pass
        wrong = await gateway.http.post(path, headers=headers, json={"input_audio_format": "mp3"})
        assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")
        path = "/v1/realtime/client_secrets"
        wrong = await gateway.http.post(path, headers=headers, json={"session": {"type": "realtime"}})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "type")


async def test_garbage_is_told_and_hurts_nobody(client: Any, gateway: Gateway) -> None:
    async with listening(client):
        for path, good in ((ELEVEN, chunk(spoken(1))), (OPEN, append(spoken(1)))):
            async with live(gateway, path) as connection:
                await first(connection)
                for message in ("no JSON", b"\x00\xff", "[]", "{}", '{"type": 1}', "\x00" * 70_000):
                    await connection.send(message)
                    answer = await first(connection)
                    assert "error" in (answer.get("type"), answer.get("message_type", "")[-5:])
                await connection.send(good)
