"""Memory of the server without its engines: idle, with a hundred jobs, during a large upload.

The sum is of proportional set sizes, which count a shared page once in all. Engines are scripted:
what a model needs is the model's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import machine, recordings
from bench.figure import Figure
from bench.server import PATH, SCRIPTED, Connection, Server, body, form, serving, temporary

JOBS = 100
SETTLE_S = 3.0
STEP_S = 0.05
UPLOAD, QUICK_UPLOAD = 3_000_000_000, 300_000_000
BLOCK = bytes(1 << 20)


class Peak(threading.Thread):
    """The highest value of a gauge while the context lasts."""

    def __init__(self, gauge: Callable[[], float]) -> None:
        super().__init__(daemon=True)
        self._gauge, self._done = gauge, threading.Event()
        self.value = gauge()

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(STEP_S):
            self.value = max(self.value, self._gauge())


def run(quick: bool) -> Iterator[Figure]:
    """PSS of gateway, orchestrator and Redis; growth of the gateway's RSS while it takes 3 GB."""
    with temporary() as folder, serving(SCRIPTED) as server, server.connect() as connection:
        parts = {
            "gateway": machine.child(server.pid, "dalston.gateway"),
            "orchestrator": machine.child(server.pid, "dalston.orchestrator"),
            "Redis": machine.child(server.pid, "valkey-server", "redis-server"),
        }
        time.sleep(SETTLE_S)
        for name, pid in parts.items():
            yield Figure(f"memory: {name}, idle", machine.pss(pid), "MB")
        yield Figure("memory: all three, idle", _sum(parts), "MB", 120)
        with Peak(lambda: _sum(parts)) as peak:
            _crowd(connection, recordings.clip(folder))
        yield Figure(f"memory: all three, {JOBS} jobs", peak.value, "MB", 120)
        yield _upload(server, parts["gateway"], QUICK_UPLOAD if quick else UPLOAD)


def _sum(parts: dict[str, int]) -> float:
    return sum(map(machine.pss, parts.values()))


def _crowd(connection: Connection, clip: Path) -> None:
    """Submit all jobs at once and wait for the last."""
    submission = body(clip, model="fake", seconds="0.05")
    jobs = [connection.post(submission)[0]["id"] for _ in range(JOBS)]
    for job in jobs:
        connection.get(f"{PATH}/{job}?wait=60")


def _upload(server: Server, gateway: int, size: int) -> Figure:
    """Send `size` zero bytes as they are made."""
    before = machine.rss(gateway)
    head, tail = form("zeros.wav", model="fake")
    with server.connect() as connection, Peak(lambda: machine.rss(gateway)) as peak:
        connection.stream(len(head) + size + len(tail), _pieces(head, size, tail))
    return Figure(f"memory: gateway's growth, {size / 1e9:g} GB upload", peak.value - before, "MB", 10)


def _pieces(head: bytes, size: int, tail: bytes) -> Iterator[bytes]:
    yield head
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]
    yield tail
