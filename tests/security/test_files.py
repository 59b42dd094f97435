"""Files that are not what they say: each a clear answer in little time, and nothing else is touched."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import wave
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import Server
from tests.security import craft
from tests.security.conftest import HOURS, PREPARE, Studio, Watch
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("unharmed")

BOUND_S = 15
"""More than anything here takes on a busy machine."""


def refused(server: Server, content: bytes | Path, name: str = "talk.wav") -> Any:
    """The error of a recording that is not transcribed: the caller's fault, in words."""
    answer = server.submit(content, name, wait="true", model="fake")
    assert answer.status_code == 422, answer.text
    assert answer.elapsed.total_seconds() < BOUND_S
    error = answer.json()["error"]
    assert error["message"].endswith((".", "?"))
    assert name not in answer.text
    return error


@pytest.mark.parametrize("size", [0, 1, 100, 100_000])
@pytest.mark.parametrize("name", ["talk.wav", "talk.mp4", "talk.mp3", "talk", "talk.gsm"])
def test_random_bytes_are_no_recording(server: Server, size: int, name: str) -> None:
    answer = server.submit(random.Random(size).randbytes(size), name, wait="true", model="fake")
    if name == "talk.gsm" and size >= 100:  # a format without any mark: every byte is sound
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_audio")
        assert ("empty" in answer.text) == (size == 0)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a", "a.opus", "a.webm", "a.ts"])
def test_a_file_cut_off_anywhere_is_transcribed_as_far_as_it_goes_or_refused(
    server: Server, studio: Studio, name: str
) -> None:
    whole = (studio.folder / name).read_bytes()
    lengths = []
    for tenth in range(1, 10):
        answer = server.submit(whole[: len(whole) * tenth // 10], name, wait="true", model="fake")
        assert answer.status_code in (200, 422), answer.text
        lengths.append(answer.json().get("duration", 0.0))
    assert lengths == sorted(lengths)
    full = server.transcribed(whole, model="fake")["duration"]
    assert lengths[-1] <= full
    if name == "a.m4a":  # what says where the sound is comes last
        assert lengths[-1] == 0
    elif name != "a.opus":  # all of this one is in one page
        assert lengths[-1] > full / 2


def test_a_damaged_part_costs_itself_and_a_warning(server: Server, studio: Studio) -> None:
    whole = bytearray((studio.folder / "a.m4a").read_bytes())
    for start in range(len(whole) // 2, len(whole) // 2 + 200):
        whole[start] ^= 0x55
    job = server.transcribed(bytes(whole), model="fake")
    assert "damaged" in job["warnings"][0]
    assert job["duration"] > 0.2


@pytest.mark.parametrize(
    "name", ["talk.mp3", "talk.txt", "talk", "talk.exe", "../../talk.wav", "a\\b.wav", "ü.wav"]
)
def test_the_name_of_a_file_does_not_matter(server: Server, name: str) -> None:
    answer = server.submit(craft.wav(), name, wait="true", model="fake")
    assert answer.status_code == 200
    folder = server.data / "jobs" / answer.json()["id"]
    assert {path.stem for path in folder.glob("source*")} == {"source"}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """An address that nobody is to call."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """A folder with a recording that nobody is to open."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "secret.wav").write_bytes(craft.wav())
    watching = Watch(folder)
    yield watching
    watching.close()


def test_no_file_makes_the_server_open_another_one_or_call_anybody(
    server: Server, watch: Watch, listener: socket.socket, tmp_path: Path
) -> None:
    secret, url = tmp_path / "private" / "secret.wav", f"http://127.0.0.1:{listener.getsockname()[1]}"
    for extension, content in craft.pointers(secret, url).items():
        for name in (f"x.{extension}", "x.wav", "x.mp4"):
            assert refused(server, content, name)["code"] == "invalid_audio"
    server.submit(craft.referring(secret), "x.mov", wait="true", model="fake")
    for name in (
        str(secret),
        f"file:{secret}",
        f"concat:{secret}",
        f"{url}/x.wav",
        "-i",
        "%03d.wav",
        "x.wav\0.m3u8",
    ):
        server.submit(b"nothing", name, wait="true", model="fake")
    assert watch.opened() == []
    with pytest.raises(BlockingIOError):
        listener.accept()
    secret.read_bytes()
    assert watch.opened() == ["secret.wav"]


def test_without_limits_a_playlist_would_be_followed(watch: Watch, tmp_path: Path) -> None:
    """What the test above tests for does happen."""
    playlist = tmp_path / "x.m3u8"
    playlist.write_bytes(craft.pointers(tmp_path / "private" / "secret.wav", "http://127.0.0.1:9")["m3u8"])
    unlimited = "import av, sys; av.open(sys.argv[1])"
    command = [str(PREPARE / ".venv/bin/python"), "-c", unlimited, str(playlist)]
    subprocess.run(command, capture_output=True, check=False)
    assert "secret.wav" in watch.opened()


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (lambda: craft.wav(channels=64, samples=bytes(640_000)), "too_many_channels", "64 channels"),
        (lambda: craft.wav(channels=65_535), "invalid_audio", "No audio"),
        (lambda: craft.wav(channels=9, samples=bytes(180_000)), "unsupported_audio", "9 channels"),
        (lambda: craft.wav(channels=0), "invalid_audio", "No audio"),
        (lambda: craft.wav(rate=0), "invalid_audio", "damaged"),
        (lambda: craft.wav(rate=1), "unsupported_audio", "1 Hz"),
        (lambda: craft.wav(rate=2_000_000), "unsupported_audio", "2000000 Hz"),
        (lambda: craft.wav(rate=2**32 - 1), "invalid_audio", "damaged"),
        (lambda: craft.wav(samples=b""), "invalid_audio", "No audio"),
        (lambda: craft.mp4(100_000), "invalid_audio", "streams"),
        (lambda: craft.mp4(0), "invalid_audio", "no audio track"),
    ],
)
def test_absurd_files_are_refused_in_words(
    server: Server, content: Callable[[], bytes], code: str, says: str
) -> None:
    error = refused(server, content())
    assert error["code"] == code
    assert says in error["message"]


@pytest.mark.parametrize(
    "content",
    [
        craft.wav(channels=8),
        craft.wav(rate=384_000),
        craft.mp4(900),
        craft.wav(kind=3, bits=32, samples=b"\0\0\xc0\x7f" * 16_000),
    ],
)
def test_odd_files_are_transcribed(server: Server, content: bytes) -> None:
    assert server.transcribed(content, model="fake", text="odd")["text"] == "odd"


def unsaid(flac: bytes) -> bytes:
    """A FLAC file that does not say how long it is."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


@pytest.mark.parametrize("wide", [False, True])
def test_samples_that_are_no_numbers_are_silence(studio: Studio, wide: bool) -> None:
    absurd = [float("nan"), float("inf"), -float("inf"), 1e38, 0.25]
    samples = struct.pack(f"<5{'d' if wide else 'f'}", *absurd) * 2_000
    verdict = studio.judge(craft.wav(kind=3, bits=64 if wide else 32, samples=samples), "x.wav")
    assert "no numbers" in verdict["media"]["warnings"][0]
    with wave.open(str(studio.folder / "audio.wav"), "rb") as wav:
        heard = array("h", wav.readframes(wav.getnframes()))
    assert set(heard) == {0, 8_192}


def test_hours_of_nothing_in_a_few_kilobytes_are_too_long(server: Server, studio: Studio) -> None:
    content = (studio.folder / HOURS).read_bytes()
    assert len(content) < 100_000
    assert refused(server, content, "x.flac")["code"] == "too_long"
    error = refused(server, unsaid(content), "x.flac")
    assert error["code"] == "too_long"
    assert "28800 s" in error["message"]


def test_a_file_that_asks_for_gigabytes_does_not_get_them(studio: Studio) -> None:
    whole = (studio.folder / "a.wav").read_bytes()
    at = whole.index(b"LIST") + 4
    verdict = studio.judge(whole[:at] + b"\x7f\xff\xff\xff" + whole[at + 4 :], "x.wav")
    assert verdict["refused"][:2] == [422, "invalid_audio"]


def decoder_of(server: Server) -> psutil.Process:
    """The process that decodes."""
    (found,) = until(lambda: server.child("prepare/engine.py").children())
    return found


def busy(server: Server, job: str) -> psutil.Process | None:
    """The process that decodes, when it has the job's recording open."""
    with_files = decoder_of(server)
    try:
        names = [file.path for file in with_files.open_files()]
    except psutil.Error:
        return None
    return with_files if any(f"/{job}/source" in name for name in names) else None


def test_a_file_that_crashes_the_decoder_is_one_failed_job(server: Server, studio: Studio) -> None:
    hours = unsaid((studio.folder / HOURS).read_bytes())
    job = server.submit(hours, "x.flac", model="fake").json()["id"]
    others = [server.submit(craft.wav(), model="fake").json()["id"] for _ in range(3)]
    first = until(lambda: busy(server, job))
    first.send_signal(signal.SIGSEGV)
    second = until(lambda: (found := busy(server, job)) and found.pid != first.pid and found)
    second.send_signal(signal.SIGSEGV)
    failed = server.job(job)
    assert (failed["state"], failed["error"]["code"], failed["error"]["status"]) == (
        "failed",
        "invalid_audio",
        422,
    )
    assert "crashes" in failed["error"]["message"]
    assert failed["stages"][0]["attempt"] == 1
    assert [server.job(other)["state"] for other in others] == ["completed"] * 3


def test_a_decoder_that_is_killed_costs_nothing(server: Server, studio: Studio) -> None:
    decoder_of(server).kill()
    assert server.transcribed(studio.folder / "a.mp3", model="fake", text="gone on")["text"] == "gone on"


def test_a_cancelled_recording_is_not_decoded_any_further(server: Server, studio: Studio) -> None:
    hours = unsaid((studio.folder / HOURS).read_bytes())
    job = server.submit(hours, "x.flac", model="fake").json()["id"]
    decoder = until(lambda: busy(server, job))
    assert server.client.post(f"/v1/audio/transcriptions/{job}/cancel").json()["state"] == "cancelled"
    until(lambda: not decoder.is_running())


@contextlib.contextmanager
def endless(studio: Studio, tmp_path: Path, **limits: str) -> Iterator[subprocess.Popen[str]]:
    """The engine by itself at work on thirty hours in a few kilobytes."""
    hours = unsaid((studio.folder / HOURS).read_bytes())
    file = tmp_path / "x.flac"
    file.write_bytes(hours + hours[hours.index(b"\xff\xf8") :] * 2)
    command = [
        str(PREPARE / ".venv/bin/python"),
        str(PREPARE / "engine.py"),
        "--folder",
        str(tmp_path),
        str(file),
    ]
    environment = os.environ | limits | {"DALSTON_PREPARE_MAX_DURATION": "129600"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        yield process


def test_no_recording_takes_more_processor_time_than_allowed(studio: Studio, tmp_path: Path) -> None:
    with endless(studio, tmp_path, DALSTON_PREPARE_MAX_CPU_SECONDS="1") as engine:
        _, said = engine.communicate()
    assert engine.returncode == 1
    assert "more than 1 s of processor time" in said


def test_the_decoder_does_not_outlive_its_engine(studio: Studio, tmp_path: Path) -> None:
    with endless(studio, tmp_path) as engine:
        (decoder,) = until(lambda: psutil.Process(engine.pid).children())
        until(lambda: (tmp_path / "audio.wav").exists())
        engine.kill()
        engine.wait()
        until(lambda: not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE)
