"""How soon the gateway answers while transcriptions keep every core busy."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from statistics import quantiles

from bench import machine, recordings
from bench.figure import Figure
from bench.server import Connection, Failed, Server, serving, temporary, waited

SECONDS, QUICK_SECONDS = 60, 10
EVERY_S = 0.02
CALLERS = max(4, os.cpu_count() or 1)
WARM_UP_S = 2.0


def run(quick: bool) -> Iterator[Figure]:
    """`GET /health` every 20 ms, timed from when it was due, so that a stall is not told as one delay."""
    with temporary() as folder, serving() as server:
        body = waited(recordings.clip(folder))
        with _busy(server, body) as calls, server.connect() as connection:
            time.sleep(WARM_UP_S)
            machine.busy()
            before = len(calls)
            delays = _asked(connection, QUICK_SECONDS if quick else SECONDS)
            cores = machine.busy()
    if len(calls) == before:
        raise Failed("no transcription ended in the meantime")
    cuts = quantiles(delays, n=100)
    yield Figure("health: p50 with all cores busy", cuts[49] * 1000, "ms")
    yield Figure("health: p99 with all cores busy", cuts[98] * 1000, "ms", 50)
    yield Figure("health: max with all cores busy", max(delays) * 1000, "ms")
    yield Figure("health: how busy the cores were", cores, "%")


def _asked(connection: Connection, seconds: float) -> list[float]:
    delays = []
    start = time.perf_counter()
    for n in range(round(seconds / EVERY_S)):
        due = start + n * EVERY_S
        time.sleep(max(0.0, due - time.perf_counter()))
        connection.get("/health")
        delays.append(time.perf_counter() - due)
    return delays


@contextlib.contextmanager
def _busy(server: Server, body: bytes) -> Iterator[list[float]]:
    """Callers that transcribe over and over as long as the context lasts; yields their wall times."""
    done, walls = threading.Event(), list[float]()

    def call() -> None:
        with server.connect() as connection:
            while not done.is_set():
                walls.append(connection.post(body)[1])

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield walls
    finally:
        done.set()
        for caller in callers:
            caller.join()
