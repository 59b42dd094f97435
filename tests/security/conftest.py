"""A real server with a scripted engine for all tests here, and proof that none of them harms it."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dalston_engine.queue import connect

from dalston.conformance.leaks import stray_files, stray_keys
from dalston.local import valkey as embedded
from tests.e2e.conftest import ROOT, SCRIPTED, Server, serving
from tests.security import craft

PREPARE = ROOT / "engines" / "prepare"
STUDIO = Path(__file__).with_name("studio.py")
LIMIT = 40_000_000
STALL_S = 2
HOURS = "hours.flac"
"""Ten hours of silence, in the studio's folder."""
CHILDREN = ("dalston.gateway", "dalston.orchestrator", "prepare/engine.py")


class Studio:
    """The prepare engine's own process that writes recordings and judges files."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, names: list[str]) -> None:
        self.folder, self.names, self._process = folder, names, process

    def judge(self, content: bytes, name: str) -> Any:
        """What the engine makes of a file of this content and name."""
        path = self.folder / name
        path.write_bytes(content)
        assert self._process.stdin
        assert self._process.stdout
        print(path, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The studio, with limits that keep every verdict short."""
    folder = tmp_path_factory.mktemp("studio")
    limits = {"max_duration": 60, "max_cpu_seconds": 20, "max_memory_mb": 400}
    command = [str(PREPARE / ".venv/bin/python"), str(STUDIO), str(folder), json.dumps(limits)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield Studio(process, folder, json.loads(process.stdout.readline()))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a low limit on uploads and little patience."""
    settings = {"DALSTON_MAX_UPLOAD": str(LIMIT), "DALSTON_UPLOAD_TIMEOUT": f"{STALL_S}s"}
    with serving(tmp_path_factory.mktemp("server"), SCRIPTED, **settings) as running:
        yield running


@pytest.fixture
def unharmed(server: Server) -> Iterator[None]:
    """After the test the server is as before: the same processes, nothing left, a recording transcribes."""
    before, pids = server.folders(), [server.child(word).pid for word in CHILDREN]
    yield
    left = server.folders() - before
    for job in left:
        assert (server.data / "jobs" / job / "job.json").exists(), "what was refused left a folder"
        assert server.client.delete(f"/v1/audio/transcriptions/{job}").status_code == 204
    assert server.transcribed(craft.wav(), model="fake", text="still here")["text"] == "still here"
    assert [server.child(word).pid for word in CHILDREN] == pids
    assert not stray_files(server.data)
    assert not left & server.folders()
    with connect(embedded.url(server.data)) as redis:
        assert not stray_keys(redis)
        assert not [key for key in redis.scan_iter(count=1000) if any(job in key for job in left)]


class Watch:
    """Tells of every file below a folder that any process opens (inotify)."""

    OPEN = 0x20

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK)
        if self._inotify < 0 or libc.inotify_add_watch(self._inotify, bytes(folder), self.OPEN) < 0:
            pytest.skip(f"this system does not tell of opened files: {os.strerror(ctypes.get_errno())}")

    def opened(self) -> list[str]:
        """The names of the files opened since the last call."""
        names = []
        try:
            events = os.read(self._inotify, 1 << 16)
        except BlockingIOError:
            return []
        while events:
            *_, length = struct.unpack_from("iIII", events)
            names.append(events[16 : 16 + length].rstrip(b"\0").decode())
            events = events[16 + length :]
        return names

    def close(self) -> None:
        os.close(self._inotify)
