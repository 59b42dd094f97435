"""`dalston stream` and `dalston listen` as a person or a script uses them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import DALSTON, Server
from tests.e2e.test_cli import dalston
from tests.e2e.wav import decoded
from tests.waiting import until

SAID = "recordings over the weekend"
MICROPHONE = '''
"""A microphone that hears the recording it is told by SOUND, and then nothing."""

import os, threading, time, wave

class PortAudioError(Exception):
    pass

def check_input_settings(device, channels, dtype, samplerate):
    if device == "none":
        raise ValueError(device)

def query_devices(device=None, kind=None):
    if device is not None:
        raise ValueError(device)
    return [{"name": "Scripted", "max_input_channels": 1}]

class RawInputStream:
    def __init__(self, samplerate, blocksize, device, channels, dtype, callback):
        self.wav, self.size, self.callback = wave.open(os.environ["SOUND"]), blocksize, callback

    def __enter__(self):
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            piece = self.wav.readframes(self.size)
            time.sleep(0 if piece else 0.05)
            self.callback(piece or bytes(self.size * 2), self.size, None, None)

    def __exit__(self, *_):
        pass
'''


@pytest.fixture(autouse=True)
def _there(server: Server) -> None:
    """The worker is there; it comes a moment after its engine."""

    def look() -> bool:
        workers = server.client.get("/v1/realtime/status").json()["workers"]
        return any(one["state"] == "ready" and "tiny.en" in one["models"] for one in workers)

    until(look)


@pytest.fixture(scope="session")
def talk(meeting: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording that comes with the project, as a WAV."""
    return decoded(meeting, tmp_path_factory.mktemp("talk") / "talk.wav", seconds=12)


@pytest.fixture
def microphone(tmp_path: Path, talk: Path) -> dict[str, str]:
    """The variables with which a scripted microphone is found."""
    (tmp_path / "sounddevice.py").write_text(MICROPHONE)
    return {"PYTHONPATH": str(tmp_path), "SOUND": str(talk)}


def test_a_recording_is_streamed_and_what_is_final_is_printed_with_its_time(
    server: Server, talk: Path
) -> None:
    done = dalston("stream", talk, "--speed", "4", "--model", "tiny.en", "--data", server.data)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line[1:].startswith(":") and line[4] == "." for line in lines)
    assert SAID in done.stdout.lower()


def test_every_event_is_a_line_of_json(server: Server, talk: Path) -> None:
    run: list[str | Path] = ["stream", talk, "--model", "tiny.en", "--json", "--data", server.data]
    done = dalston(*run, "--speed", "4", "--words")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [events[0]["type"], events[-1]["type"]] == ["session.started", "session.ended"]
    finals = [event for event in events if event["type"] == "transcript.final"]
    assert all(event["words"] for event in finals if event["text"])
    assert any(event["type"] == "transcript.partial" for event in events)
    assert events[-1]["audio"] == pytest.approx(12, abs=0.01)
    done = dalston(*run, "--speed", "0", "--no-partials")
    kinds = {json.loads(line)["type"] for line in done.stdout.splitlines()}
    assert "transcript.final" in kinds
    assert "transcript.partial" not in kinds


def test_another_format_is_sent_as_it_is_and_cannot_be_paced(server: Server, meeting: Path) -> None:
    done = dalston("stream", meeting, "--model", "tiny.en", "--data", server.data)
    assert done.returncode == 0, done.stderr
    assert SAID in done.stdout.lower()
    refused = dalston("stream", meeting, "--speed", "1", "--data", server.data)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "cannot be paced" in refused.stderr


def test_a_refusal_is_one_sentence_and_exit_code_1(server: Server, talk: Path) -> None:
    done = dalston("stream", talk, "--model", "no-such-model", "--data", server.data)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("dalston: ")


def test_a_recording_is_kept_when_asked_for(server: Server, talk: Path) -> None:
    run: list[str | Path] = ["stream", talk, "--speed", "0", "--model", "tiny.en", "--data", server.data]
    done = dalston(*run, "--record")
    session = done.stderr.split()[-1].rstrip(".")
    kept = until(lambda: _ended(server, session))
    assert SAID in kept["text"].lower()
    audio = server.client.get(f"/v1/realtime/sessions/{session}/audio")
    assert audio.content[-1000:] == talk.read_bytes()[-1000:]
    assert server.client.delete(f"/v1/realtime/sessions/{session}").is_success


def _ended(server: Server, session: str) -> Any:
    answer: httpx2.Response = server.client.get(f"/v1/realtime/sessions/{session}")
    found = answer.json()
    return found if found.get("state") == "ended" else None


def test_stream_brings_a_server_of_its_own(tmp_path: Path, talk: Path) -> None:
    done = dalston("stream", talk, "--speed", "0", "--model", "tiny.en", "--data", tmp_path)
    assert done.returncode == 0, done.stderr
    assert SAID in done.stdout.lower()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_terminal_shows_what_is_being_said(server: Server, talk: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        *DALSTON,
        "stream",
        str(talk),
        "--speed",
        "4",
        "--model",
        "tiny.en",
        "--data",
        str(server.data),
    ]
    with subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = bytearray()
        try:
            while piece := os.read(ours, 65_536):
                shown += piece
        except OSError:  # what a terminal says when its other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    assert b"\x1b[2m" in shown
    assert SAID.encode() in shown.lower()


def test_the_microphone_is_heard_until_ctrl_c_and_nothing_is_lost(
    server: Server, microphone: dict[str, str]
) -> None:
    command = [*DALSTON, "listen", "--model", "tiny.en", "--json", "--data", str(server.data)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | microphone
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        events = []
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["type"].startswith("transcript."):
                process.send_signal(signal.SIGINT)
                break
        events += [json.loads(line) for line in process.stdout]
        assert "Listening" in process.stderr.read()
    assert process.returncode == 0
    assert events[-1]["type"] == "session.ended"
    finals = [event["text"] for event in events if event["type"] == "transcript.final"]
    assert any(finals)


def test_a_missing_microphone_is_one_sentence(server: Server, microphone: dict[str, str]) -> None:
    done = dalston("listen", "--device", "none", "--data", server.data, **microphone)
    assert done.stderr == "dalston: There is no such microphone. There are: 0 (Scripted).\n"
    (Path(microphone["PYTHONPATH"]) / "sounddevice.py").write_text("raise OSError('PortAudio not found')")
    done = dalston("listen", "--data", server.data, **microphone)
    assert (done.returncode, done.stdout) == (1, "")
    assert "libportaudio2" in done.stderr
    (Path(microphone["PYTHONPATH"]) / "sounddevice.py").write_text("raise ImportError('none')")
    assert "dalston[microphone]" in dalston("listen", "--data", server.data, **microphone).stderr
