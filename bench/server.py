"""A server of our own for one benchmark, and plain HTTP calls to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
DALSTON = str(Path(sys.executable).with_name("dalston"))
REAL = "prepare,faster-whisper,final-merger"
SCRIPTED = "prepare,fake,final-merger"
MODEL = "tiny.en"
PATH = "/v1/audio/transcriptions"
START_S = 60
STOP_S = 30
IDLE_S = 4.0
"""The server hangs up on a connection that is idle for 5 s; one idle this long is made anew."""
BOUNDARY = "dalston-bench-boundary"


class Failed(Exception):
    """The server did not do what the benchmark measures."""


def environment() -> dict[str, str]:
    """This process's variables without Dalston's, so that the defaults are measured, on the CPU."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DALSTON_")}
    return inherited | {"DALSTON_CONFIG": os.devnull, "DALSTON_FASTER_WHISPER_DEVICE": "cpu"}


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    """A folder that is gone afterwards with all that is in it."""
    with tempfile.TemporaryDirectory(prefix="dalston-bench-") as folder:
        yield Path(folder)


class Server:
    """A running `dalston up`."""

    def __init__(self, url: str, pid: int, data: Path = Path()) -> None:
        self.address = urlsplit(url).netloc
        self.pid, self.data = pid, data

    def connect(self) -> Connection:
        """A new connection to it."""
        return Connection(self.address)


class Connection:
    """One keep-alive connection, with nothing between the socket and the clock."""

    def __init__(self, address: str) -> None:
        self.http = http.client.HTTPConnection(address)
        self._used = time.monotonic()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, path: str) -> Any:
        """GET a path as JSON."""
        return self._timed("GET", path, None, {})[0]

    def post(self, body: bytes, path: str = PATH) -> tuple[Any, float]:
        """Submit a ready-made form; returns the answer and the call's wall time in seconds."""
        return self._timed("POST", path, body, form_headers(len(body)))

    def stream(self, length: int, body: Iterable[bytes]) -> Any:
        """Submit a form of `length` bytes piece by piece; returns the job."""
        return self._timed("POST", PATH, body, form_headers(length))[0]

    def _timed(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None, headers: dict[str, str]
    ) -> tuple[Any, float]:
        if time.monotonic() - self._used > IDLE_S:
            self.http.close()
        if self.http.sock is None:
            self.http.connect()
        began = time.perf_counter()
        self.http.request(method, path, body, headers)
        answer = self.http.getresponse()
        content = answer.read()
        seconds = time.perf_counter() - began
        self._used = time.monotonic()
        if answer.status >= 400:
            raise Failed(f"{method} {path}: {answer.status} {content[:300].decode(errors='replace')}")
        return json.loads(content), seconds


def form_headers(length: int) -> dict[str, str]:
    """The headers of a submission."""
    return {
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
        "content-length": str(length),
        "x-dalston-api": "native",
    }


def form(filename: str, **fields: str) -> tuple[bytes, bytes]:
    """What comes before and after the file's content in a submission."""
    parts = [
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    disposition = f'content-disposition: form-data; name="file"; filename="{filename}"'
    head = f"{''.join(parts)}--{BOUNDARY}\r\n{disposition}\r\ncontent-type: audio/x-wav\r\n\r\n"
    return head.encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


def body(recording: Path, **fields: str) -> bytes:
    """A whole submission of a recording."""
    head, tail = form(recording.name, **fields)
    return head + recording.read_bytes() + tail


def waited(recording: Path) -> bytes:
    """The call that most benchmarks time: answered when the transcript is there."""
    return body(recording, model=MODEL, wait="true", word_timestamps="false")


def seconds_of(job: Any, stage: str) -> float:
    """The time that one stage of a finished job took in its engine."""
    return next(float(entry["seconds"]) for entry in job["stages"] if entry["stage"] == stage)


@contextlib.contextmanager
def serving(engines: str = REAL, **settings: str) -> Iterator[Server]:
    """A server with a data folder of its own, ready; stopped and gone afterwards."""
    with temporary() as data, (data / "up.log").open("wb") as log:
        command = [DALSTON, "up", "--port", "0", "--data", str(data), "--engines", engines]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment() | settings, cwd=data)
        try:
            server = _ready(process, data, engines)
            yield server
        finally:
            _stop(process)


@contextlib.contextmanager
def more(server: Server, engine: str, instances: int, **settings: str) -> Iterator[None]:
    """That many more instances of an engine that runs, ready."""
    command = [DALSTON, "engine", "start", engine, "--data", str(server.data)]
    with (server.data / "more.log").open("ab") as log, contextlib.ExitStack() as running:
        for _ in range(instances):
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment() | settings)
            running.callback(_stop, process)
        with server.connect() as connection:
            end = time.monotonic() + START_S
            while _idle(connection.get("/v1/engines"), engine) <= instances:
                if time.monotonic() > end:
                    raise Failed(f"{instances} more {engine} did not start")
                time.sleep(0.1)
        yield


def _idle(told: Any, engine: str) -> int:
    """How many instances of an engine wait for work."""
    (found,) = (one for one in told["engines"] if one["id"] == engine)
    return sum(one["state"] == "idle" for one in found["instances"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _ready(process: subprocess.Popen[bytes], data: Path, engines: str) -> Server:
    file, end = data / "server.json", time.monotonic() + START_S
    while not file.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise Failed(f"the server did not start:\n{(data / 'up.log').read_text()}")
        time.sleep(0.02)
    server = Server(**json.loads(file.read_bytes()), data=data)
    with server.connect() as connection:
        connection.get(f"/ready?wait={START_S}&engines={engines}")
    return server
