"""A real server with real and scripted engines, one for all tests here; some tests start their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from dalston_engine.queue import connect

from dalston.conformance.leaks import stray_files, stray_keys
from dalston.local import valkey as embedded

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("DALSTON_TEST_DATA", ROOT.parent / "shared" / "data"))
"""Recordings with their truth, kept outside the project; tests that need them skip without."""
DALSTON = [sys.executable, "-c", "from dalston.cli import main; main()"]
ALL = "prepare,fake,faster-whisper,phone-align,pyannote-onnx,final-merger"
SCRIPTED = "prepare,fake,final-merger"


class Server:
    """A running `dalston up`, and calls to it."""

    def __init__(self, process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
        self.process, self.data, self.log = process, data, log
        self.url: str = json.loads((data / "server.json").read_bytes())["url"]
        self.client = httpx2.Client(base_url=self.url, timeout=120, headers={"x-dalston-api": "native"})

    def submit(self, file: Path | bytes, name: str = "talk.wav", **fields: str) -> httpx2.Response:
        """POST a recording."""
        content = file.read_bytes() if isinstance(file, Path) else file
        return self.client.post("/v1/audio/transcriptions", data=fields, files={"file": (name, content)})

    def transcribed(self, file: Path | bytes, **fields: str) -> Any:
        """The finished job of a waited call."""
        answer = self.submit(file, wait="true", **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def job(self, id: str, wait: float = 60) -> Any:
        """A job after at most `wait` seconds."""
        return self.client.get(f"/v1/audio/transcriptions/{id}", params={"wait": wait}).json()

    def child(self, word: str) -> psutil.Process:
        """Its process with this word in the command line."""
        (found,) = (p for p in psutil.Process(self.process.pid).children() if word in " ".join(p.cmdline()))
        return found

    def folders(self) -> set[str]:
        """The jobs on disk."""
        return {path.name for path in (self.data / "jobs").iterdir()}


@contextlib.contextmanager
def serving(data: Path, engines: str, **settings: str) -> Iterator[Server]:
    """A server for as long as the context lasts; `settings` are its variables.

    Its live workers take so many sessions whatever else the machine does: what they measure is tested apart.
    """
    log = data / "up.log"
    data.mkdir(exist_ok=True)
    outside = {k: v for k, v in os.environ.items() if not k.startswith("DALSTON_")}
    environment = outside | {"DALSTON_LIVE_SESSIONS": "8"} | settings
    command = [*DALSTON, "up", "--port", "0", "--data", str(data), "--engines", engines]
    with log.open("wb") as out, subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        for line in process.stderr:
            out.write(line)
            if b"is ready at" in line:
                break
        else:
            pytest.fail(f"the server did not start:\n{log.read_text()}")
        watchdog.cancel()
        tee = subprocess.Popen(["tee", "-a", str(log)], stdin=process.stderr, stdout=subprocess.DEVNULL)
        server = Server(process, data, log)
        try:
            with server.client:
                yield server
            if process.poll() is None:
                with connect(embedded.url(data)) as redis:
                    assert not stray_keys(redis)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            tee.wait(10)
    assert not stray_files(data)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    with serving(tmp_path_factory.mktemp("server"), ALL) as running:
        yield running


@pytest.fixture
def recordings() -> Path:
    """The folder of recordings with truth."""
    if not DATA.is_dir():
        pytest.skip("no recordings beside the project")
    return DATA


@pytest.fixture(scope="session")
def meeting() -> Path:
    """The recording that comes with the project."""
    return ROOT / "samples" / "meeting.flac"
