"""What looking on costs: 200 followers of `/v1/events` and a scrape of `/metrics` every 15 s."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator

import psutil

from bench import machine, recordings
from bench.figure import Figure
from bench.server import SCRIPTED, Failed, Server, body, serving, temporary

LISTENERS = 200
SCRAPE_S = 15.0
SECONDS, QUICK_SECONDS = 60.0, 15.0
SETTLE_S = 3.0


def run(quick: bool) -> Iterator[Figure]:
    """Processor time of gateway and Redis with and without observers while nothing else happens; memory."""
    seconds = QUICK_SECONDS if quick else SECONDS
    with temporary() as folder, serving(SCRIPTED) as server:
        gateway = machine.child(server.pid, "dalston.gateway")
        pids = [gateway, machine.child(server.pid, "valkey-server", "redis-server")]
        job = body(recordings.clip(folder), model="fake", wait="true")
        _talk(server, job)  # whatever is loaded at the first call is no observer's
        _scrape(server)
        time.sleep(SETTLE_S)
        alone = _spent(pids, seconds)
        before = machine.rss(gateway)
        with _listening(server) as listeners:
            _talk(server, job)
            for listener in listeners:
                _heard(listener)
            growth = machine.rss(gateway) - before
            observed = _spent(pids, seconds, server)
    yield Figure("observe: an idle server, part of a core", alone * 100, "%")
    yield Figure(
        f"observe: {LISTENERS} listeners and scrapes add, part of a core", (observed - alone) * 100, "%", 1
    )
    yield Figure(f"observe: memory of {LISTENERS} listeners", growth, "MB", 20)


def _talk(server: Server, job: bytes) -> None:
    with server.connect() as connection:
        connection.post(job)


def _scrape(server: Server) -> None:
    connection = http.client.HTTPConnection(server.address)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        if b"dalston_queue_waiting" not in connection.getresponse().read():
            raise Failed("no metrics")


def _spent(pids: list[int], seconds: float, scraped: Server | None = None) -> float:
    """Processor time a second of these processes."""
    began, end = _cpu(pids), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if scraped:
            _scrape(scraped)
        time.sleep(min(left, SCRAPE_S))
    return (_cpu(pids) - began) / seconds


def _cpu(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


@contextlib.contextmanager
def _listening(server: Server) -> Iterator[list[http.client.HTTPResponse]]:
    with contextlib.ExitStack() as stack:
        listeners = []
        for _ in range(LISTENERS):
            connection = stack.enter_context(contextlib.closing(http.client.HTTPConnection(server.address)))
            connection.request("GET", "/v1/events")
            listeners.append(connection.getresponse())
        yield listeners


def _heard(listener: http.client.HTTPResponse) -> None:
    """Read until the end of a job."""
    while b'"state":"completed"}' not in (line := listener.readline()):
        if not line:
            raise Failed("the stream of events has ended")
