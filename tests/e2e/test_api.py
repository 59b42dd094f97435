"""The API's answers: accepted, refused, found, listed."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.e2e.conftest import ALL, Server


def test_a_job_is_accepted_and_can_be_followed(server: Server, meeting: Path) -> None:
    answer = server.submit(meeting, name="secret-name.flac", model="fake", text="spoken words")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"].endswith(job["id"])
    assert job["state"] in {"queued", "running"}
    ended = server.job(job["id"])
    assert (ended["state"], ended["text"]) == ("completed", "spoken words")
    assert ended["source"]["bytes"] == meeting.stat().st_size
    listed = server.client.get("/v1/audio/transcriptions").json()["jobs"]
    assert listed[0]["id"] == job["id"]
    assert "text" not in listed[0]


def test_progress_is_seen_while_a_job_runs(server: Server, meeting: Path) -> None:
    job = server.submit(meeting, model="fake", seconds="2.5").json()
    seen = []
    while (found := server.job(job["id"], wait=0.2))["state"] != "completed":
        seen.append(found["progress"])
    assert seen == sorted(seen)
    assert any(0.1 < progress < 0.99 for progress in seen)


def broken(kind: str, meeting: Path) -> bytes:
    match kind:
        case "empty":
            return b""
        case "header":
            return meeting.read_bytes()[:100]
        case "random":
            return random.Random(7).randbytes(20_000)
    return b"#EXTM3U\nfile:///etc/passwd\n"


@pytest.mark.parametrize("kind", ["empty", "header", "random", "playlist"])
def test_a_bad_file_is_the_callers_error_and_the_server_stays_well(
    server: Server, meeting: Path, kind: str
) -> None:
    answer = server.submit(broken(kind, meeting), wait="true", model="fake")
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "invalid_audio"
    assert error["message"].endswith(".")
    assert server.job(error["job"])["state"] == "failed"
    assert server.client.get("/health").status_code == 200
    assert server.client.get("/ready").status_code == 200


def test_a_truncated_file_keeps_what_can_be_decoded(server: Server, meeting: Path) -> None:
    half = meeting.read_bytes()[: meeting.stat().st_size // 2]
    job = server.transcribed(half, model="fake")
    assert 10 < job["duration"] < 20
    assert "cut off" in job["warnings"][0]


def test_a_truncated_file_that_holds_nothing_readable_is_refused(server: Server, recordings: Path) -> None:
    for name in ("aac.m4a", "mp3_32k.mp3", "opus_16k.ogg"):
        start = (recordings / "formats" / name).read_bytes()[:200]
        answer = server.submit(start, wait="true", model="fake")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_audio"), name


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "nope"}, 404, "unknown_model"),
        ({"model": "tiny.en", "language": "de"}, 422, "unsupported_language"),
        ({"model": "tiny.en", "speaker_detection": "diarize", "diarizer": "nobody"}, 404, "no_such_engine"),
        ({"model": "base", "align": "true", "language": "fr"}, 503, "no_engine"),
        ({"model": "tiny.en", "num_speakers": "2"}, 400, "invalid_option"),
        ({"model": "fake", "colour": "red"}, 400, "invalid_option"),
        ({"model": "tiny.en", "beam_size": "900"}, 400, "invalid_option"),
        ({"model": "fake", "wait": "perhaps"}, 400, "bad_request"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once_and_leaves_nothing(
    server: Server, meeting: Path, fields: dict[str, str], status: int, code: str
) -> None:
    before = server.folders()
    answer = server.submit(meeting, **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert server.folders() == before


def test_an_unknown_job_is_not_found(server: Server) -> None:
    for job in ("0123", "..", "a" * 400):
        assert server.client.get(f"/v1/audio/transcriptions/{job}").status_code == 404


def test_engines_describe_themselves(server: Server) -> None:
    engines = {e["id"]: e for e in server.client.get("/v1/engines").json()["engines"]}
    assert set(engines) == set(ALL.split(","))
    whisper = engines["faster-whisper"]
    assert whisper["models"]["base"]["local"] is True
    assert "beam_size" in whisper["params"]["properties"]
    assert len(whisper["instances"]) == 1


def test_other_hosts_names_are_refused(server: Server) -> None:
    assert server.client.get("/health", headers={"host": "evil.example"}).status_code == 400


def test_only_loopback_listens(server: Server) -> None:
    parent = psutil.Process(server.process.pid)
    listening = {
        c.laddr.ip
        for p in [parent, *parent.children(recursive=True)]
        for c in p.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_failures_of_engines_become_failed_jobs(server: Server, meeting: Path) -> None:
    answer = server.submit(meeting, model="fake", fail="bad_input", wait="true")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_input")
    job = server.submit(meeting, model="fake", fail="error", text="very private words").json()
    ended = server.job(job["id"])
    assert ended["state"] == "failed"
    assert [s["state"] for s in ended["stages"]] == ["completed", "failed", "skipped"]
    assert ended["stages"][1]["attempt"] == 3


def test_logs_hold_no_personal_data(server: Server, meeting: Path) -> None:
    server.submit(meeting, name="private-name.flac", model="fake", text="private words", wait="true")
    server.submit(b"x", name="private-name.mp3", wait="true")
    server.submit(meeting, name="private-name.flac", model="fake", text="private words", fail="error")
    log = server.log.read_text()
    assert "task" in log
    assert "private" not in log


def test_an_oversized_upload_is_refused_before_it_is_sent(server: Server) -> None:
    with raw_post(server, length=10**11) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_hang_up_during_the_upload_leaves_nothing(server: Server) -> None:
    before = server.folders()
    with raw_post(server, length=900_000) as connection:
        connection.sendall(b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n')
        connection.sendall(os.urandom(50_000))
        while server.folders() == before:
            pass
    while server.folders() != before:
        pass


def raw_post(server: Server, length: int) -> socket.socket:
    """A connection on which the head of a submission has been sent."""
    where = urlsplit(server.url)
    assert where.hostname
    assert where.port
    connection = socket.create_connection((where.hostname, where.port))
    connection.sendall(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n" % length
    )
    return connection
