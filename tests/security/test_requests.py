"""Requests that are wrong, too large, too slow or given up: each a clear answer, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from dalston.gateway.connections import HEAD_S
from tests.e2e.conftest import Server
from tests.security import craft
from tests.security.conftest import LIMIT, STALL_S
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("unharmed")

URL = "/v1/audio/transcriptions"
CROWD = 1_000
HEAD = (
    f"POST {URL} HTTP/1.1\r\nHost: localhost\r\nX-Dalston-API: native\r\nConnection: close\r\n"
    "Content-Type: multipart/form-data; boundary=edge\r\n"
).encode()
PART = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def connected(server: Server) -> socket.socket:
    """A connection to the server."""
    url = urlsplit(server.url)
    return socket.create_connection((url.hostname or "", url.port or 0), timeout=60)


def answer_of(connection: socket.socket) -> tuple[int, Any]:
    """The status and the body of what the server says before it hangs up."""
    heard = b""
    with contextlib.suppress(ConnectionResetError):
        while more := connection.recv(1 << 16):
            heard += more
    head, _, body = heard.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def said(answer: Any, status: int, code: str, *words: str) -> None:
    """The answer is this error, in these words."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"].endswith(".")
    assert all(word in error["message"] for word in words), error["message"]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("tone", "warm", "invalid_option"),
        ("seconds", "soon", "invalid_option"),
        ("seconds", "-1", "invalid_option"),
        ("seconds", "nan", "invalid_option"),
        ("fail", "please", "invalid_option"),
        ("priority", "highest", "invalid_option"),
        ("speaker_detection", "all", "invalid_option"),
        ("wait", "maybe", "bad_request"),
        ("word_timestamps", "2", "bad_request"),
        ("text", "x" * 100_000, "bad_request"),
    ],
)
def test_wrong_options_are_named(server: Server, name: str, value: str, code: str) -> None:
    said(server.submit(craft.wav(), model="fake", **{name: value}), 400, code, name)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"file=1"),
        ("multipart/form-data", PART),
        ("multipart/form-data; boundary=" + "x" * 300, PART),
        ("multipart/form-data; boundary=edge", b""),
        ("multipart/form-data; boundary=edge", b"\0" * 1_000),
        ("multipart/form-data; boundary=edge", PART + b"sound"),
        ("multipart/form-data; boundary=edge", b"--edge--\r\n"),
        ("multipart/form-data; boundary=edge", b"--edge\r\n" + b"x" * 100_000),
        (
            "multipart/form-data; boundary=edge",
            b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\n' * 999,
        ),
        ("", b""),
    ],
)
def test_what_is_no_form_with_a_file_is_refused(server: Server, kind: str, body: bytes) -> None:
    answer = server.client.post(URL, content=body, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in ("bad_request", "no_file")


@pytest.mark.parametrize(
    "path", [f"{URL}/../../etc", f"{URL}/%2e%2e", f"{URL}/{'0' * 32}", f"{URL}/x%00y", "/nope"]
)
def test_what_is_not_there_is_not_found(server: Server, path: str) -> None:
    assert server.client.get(path).status_code == 404


def test_another_host_is_no_way_in(server: Server) -> None:
    assert server.client.get("/health", headers={"host": "evil.example"}).status_code == 400


def pieces() -> Iterator[bytes]:
    """An upload over the limit that does not say how long it is."""
    yield PART
    for _ in range(LIMIT // 1_000_000 + 1):
        yield bytes(1_000_000)


def test_an_upload_over_the_limit_is_refused_said_or_not(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 99999999999\r\n\r\n")
        status, told = answer_of(connection)
    assert (status, told["error"]["code"]) == (413, "upload_too_large")
    headers = {"content-type": "multipart/form-data; boundary=edge"}
    answer = server.client.post(URL, content=pieces(), headers=headers)
    said(answer, 413, "upload_too_large", str(LIMIT))


def test_an_upload_that_stands_still_is_given_up(server: Server) -> None:
    with connected(server) as connection:
        started = time.monotonic()
        connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + PART + bytes(10_000))
        status, told = answer_of(connection)
        assert STALL_S - 0.1 < time.monotonic() - started < STALL_S + HEAD_S
    assert (status, told["error"]["code"]) == (408, "upload_stalled")
    assert f"{STALL_S} s" in told["error"]["message"]


def test_an_upload_that_goes_on_slowly_is_taken(server: Server) -> None:
    body = PART + craft.wav(samples=bytes(3_200)) + b"\r\n"
    body += b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake\r\n--edge--\r\n'
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode())
        for byte in range(len(body)):
            connection.sendall(body[byte : byte + 1])
        status, told = answer_of(connection)
    assert status == 202
    assert server.job(told["id"])["state"] == "completed"


@pytest.mark.parametrize("sent", [b"", PART, PART + bytes(3_000_000)])
def test_a_client_that_hangs_up_leaves_nothing(server: Server, sent: bytes) -> None:
    before = server.folders()
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 9000000\r\n\r\n" + sent)
        until(lambda: server.folders() != before)
    until(lambda: server.folders() == before)


def test_a_crowd_that_connects_and_says_little_keeps_nobody_out(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(connected(server)) for _ in range(CROWD)]
        for number, one in enumerate(crowd):
            one.sendall([b"", b"GET /hea", HEAD, HEAD[:-2]][number % 4])
        assert server.client.get("/health").elapsed.total_seconds() < 2
        assert server.transcribed(craft.wav(), model="fake", text="calm")["text"] == "calm"
        for one in crowd:
            one.settimeout(HEAD_S + 5)
            with contextlib.suppress(ConnectionResetError):
                while one.recv(1 << 16):
                    pass
    gateway = server.child("dalston.gateway")
    until(lambda: len(gateway.net_connections()) < 20)
