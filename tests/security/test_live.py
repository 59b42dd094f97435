"""Live connections that are wrong, hostile or given up: each is told, and the others notice nothing."""

from __future__ import annotations

import json
import os
import socket
from typing import Any
from urllib.parse import urlencode, urlsplit

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.e2e.conftest import Server
from tests.waiting import until

LONG = "DALSTON_CHAOS" in os.environ
pytestmark = [pytest.mark.usefixtures("unharmed", "listening")]
MESSAGES = settings(
    max_examples=300 if LONG else 25,
    derandomize=not LONG,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PATH = "/v1/audio/transcriptions/stream"
KINDS = st.sampled_from(["audio", "flush", "configure", "end", "session.started", "", "x" * 5000])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["audio", "id", "language", "prompt", "keyterms", "vad_threshold", "vad_silence_ms"])
OBJECTS = st.builds(
    lambda kind, rest: json.dumps({"type": kind} | rest), KINDS, st.dictionaries(FIELDS, VALUES, max_size=3)
)


@pytest.fixture
def listening(server: Server) -> None:
    """The worker is there."""
    until(lambda: status(server)["free"])


def status(server: Server) -> Any:
    """The state of live transcription."""
    return server.client.get("/v1/realtime/status").json()


def address(server: Server, query: str = "") -> str:
    """The socket's address; the fake engine's model."""
    (worker,) = status(server)["workers"]
    model = next(iter(worker["models"]))
    return f"{server.url.replace('http', 'ws')}{PATH}?model={model}{query}"


def events(connection: Any) -> list[Any]:
    """All that is told until the end."""
    told = []
    try:
        while True:
            told.append(json.loads(connection.recv(20)))
    except ConnectionClosed:
        return told


@MESSAGES
@given(messages=st.lists(OBJECTS | st.text(max_size=50) | st.binary(max_size=2000), max_size=12))
def test_whatever_a_client_sends_its_session_ends_in_order(server: Server, messages: list[Any]) -> None:
    with connect(address(server)) as connection:
        try:
            for message in messages:
                connection.send(message)
            connection.send('{"type":"end"}')
        except ConnectionClosed:
            pass
        told = events(connection)
    assert told[0]["type"] == "session.started"
    assert told[-1]["type"] == "session.ended"
    assert not [event for event in told if event["type"] == "error" and event["fatal"]]
    assert connection.close_code == 1000
    assert "Traceback" not in server.log.read_text()


@MESSAGES
@given(query=st.dictionaries(st.text(max_size=12), st.text(max_size=20), max_size=4))
def test_whatever_is_asked_for_is_taken_or_refused(server: Server, query: dict[str, str]) -> None:
    status_code = 101
    try:
        with connect(address(server, f"&{urlencode(query)}")) as connection:
            connection.send('{"type":"end"}')
            assert events(connection)[-1]["type"] == "session.ended"
    except InvalidStatus as error:
        status_code = error.response.status_code
    assert status_code in {101, 400, 401}
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    "frames",
    [
        b"\x81\x85\0\0\0\0\xff\xfe\xfd\xfc\xfb",  # text that is no UTF-8
        b"\x82\x05hello",  # not masked
        b"\xff\xff" + b"\xff" * 12,  # reserved bits, and a length beyond all
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # a message of nine exabytes
        b"\x80\x80\0\0\0\0",  # a continuation of nothing
        b"\x89\xfe\x02\x00\0\0\0\0" + b"x" * 512,  # a ping that is too long
        b"\x01\x81\0\0\0\0a" * 40,  # beginnings without an end
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_frames_that_are_none_end_one_connection(server: Server, frames: bytes) -> None:
    url = urlsplit(address(server))
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as connection:
        connection.sendall(
            f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert b" 101 " in connection.recv(1 << 16)
        connection.sendall(frames)
        while connection.recv(1 << 16):
            pass
    assert "Traceback" not in server.log.read_text()


def test_nobody_reads_what_others_said(server: Server) -> None:
    """An id with slashes is another path: that of all sessions, which is none either."""
    for id in ("0" * 32, "../../etc", "%2e%2e%2f", "a" * 500):
        for path in (id, f"{id}/audio"):
            answer = server.client.get(f"/v1/realtime/sessions/{path}", follow_redirects=True)
            assert answer.status_code == 404, path
        answer = server.client.delete(f"/v1/realtime/sessions/{id}", follow_redirects=True)
        assert answer.status_code == 404
