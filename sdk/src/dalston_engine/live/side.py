"""The live side of an engine's process, and how gateways come to know of it: its heartbeat in Redis.

It needs nothing but the SDK's base until its thread runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import time
import traceback
from collections.abc import Callable
from threading import Event, Thread
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from dalston_engine import keys
from dalston_engine.errors import DalstonError
from dalston_engine.host import Host
from dalston_engine.queue import AWAY, connect
from dalston_engine.scripts import script

if TYPE_CHECKING:
    from dalston_engine.live.server import Server

log = logging.getLogger("dalston.live")

BEAT_S, BEAT_TTL_S = 0.5, 10
CLOSE_S = 2.0
"""How long sessions' connections may take to close."""
STUCK_S = 20.0
"""A pass that takes longer will not return."""
CALM_BEATS = 6
"""So long without work, and what sessions cost may be measured: that would delay some."""
AGAIN_S = 5.0
"""So long after the first time it is measured again: the machine may have been busy. Then twice as long."""
ANY = {"0.0.0.0", "::", ""}  # noqa: S104


class Place(Struct, frozen=True):
    """Where gateways find a worker."""

    redis: str
    host: str = "127.0.0.1"
    port: int = 0
    url: str = ""
    """As gateways are to call it; empty: made of the others."""
    sessions: int = 0
    """How many it takes; 0: as many as its passes are measured to allow."""


class Side(Thread):
    """Runs the server of sessions and sends its heartbeats; the process does not outlive it."""

    def __init__(
        self, host: Host, worker: str, place: Place, preload: str | None, busy: Callable[[], bool]
    ) -> None:
        """`busy` tells whether a task is at hand."""
        super().__init__(name="live side", daemon=True)
        self._host, self._worker, self._place, self._preload = host, worker, place, preload
        self._busy, self._calm = busy, 0
        self._due, self._pause = 0.0, AGAIN_S
        self._models = served(host)
        self._secret, self._stopping, self._draining = secrets.token_urlsafe(32), Event(), False
        self._redis = connect(place.redis, single_connection_client=True)
        self._server: Server | None = None

    def run(self) -> None:
        try:
            self._tell({"state": "loading"})  # gateways wait for it
            if (server := self._begun()) is None:
                self._leave()
                return
            self._server = server
            while not self._stopping.wait(BEAT_S):
                self._beat(server)
                self._calm = 0 if self._busy() or server.sessions else self._calm + 1
                if self._calm >= CALM_BEATS and time.monotonic() >= self._due:
                    self._due, self._pause = time.monotonic() + self._pause, 2 * self._pause
                    server.measure()
            self._leave()
        except BaseException:
            traceback.print_exc()
            os._exit(70)

    def _begun(self) -> Server | None:
        """The server at work; None where the environment allows none, which is no fault of its tasks'."""
        try:
            from dalston_engine.live.server import Server

            address = (self._place.host, self._place.port)
            server = Server(self._host, self._models, self._secret, address, self._preload)
            server.begin()
            self._beat(server)
            return server
        except (ImportError, OSError, DalstonError) as error:
            told = error.message if isinstance(error, DalstonError) else str(error)
            log.error("%s cannot hear live sessions: %s", self._host.manifest.id, told)
            return None

    def drain(self) -> None:
        """Send its sessions elsewhere; the heartbeat says so."""
        self._draining = True
        if self._server is not None:
            self._server.drain()

    def close(self) -> None:
        """Take the worker out of the fleet."""
        if self._server is not None:
            self._server.left(CLOSE_S)
        self._stopping.set()
        self.join(5)

    def wait(self, seconds: float) -> None:
        """Let live work go first, for so long at most."""
        if self._server is not None:
            self._server.loop.idle.wait(seconds)

    def _beat(self, server: Server) -> None:
        since = server.loop.since
        stuck = since is not None and time.monotonic() - since > STUCK_S
        self._tell(self._facts(server, stuck))
        if stuck:
            log.error("a pass over live speech has not returned for %.0f s", STUCK_S)
            os._exit(70)

    def _tell(self, facts: dict[str, str]) -> None:
        facts |= {"engine": self._host.manifest.id, "models": msgspec.json.encode(self._models).decode()}
        with contextlib.suppress(*AWAY):  # of which the keeper tells
            told = msgspec.json.encode(facts).decode()
            script("beat")(self._redis, worker=self._worker, facts=told, ttl=BEAT_TTL_S)

    def _facts(self, server: Server, stuck: bool) -> dict[str, str]:
        if self._draining and not server.draining:
            server.drain()
        ready = "ready" if server.ready else "loading"
        sessions, meter = len(server.sessions), server.loop.meter
        load = {"busy": meter.busy(), "slowness": meter.slowness(), "final_p50": meter.waited(0.5),
                "final_p95": meter.waited(0.95), **meter.counts}  # fmt: skip
        return {
            "address": self._place.url or f"ws://{self._named}:{server.port}",
            "secret": self._secret,
            "default_model": server.default,
            "state": "broken" if stuck else "draining" if self._draining else ready,
            "capacity": str(self._place.sessions or server.capacity),
            "sessions": str(sessions),
            "load": msgspec.json.encode(load).decode(),
        }

    @property
    def _named(self) -> str:
        host = socket.gethostname() if self._place.host in ANY else self._place.host
        return f"[{host}]" if ":" in host else host

    def _leave(self) -> None:
        with contextlib.suppress(*AWAY):
            self._redis.delete(keys.WORKER(worker=self._worker))
            self._redis.zrem(keys.WORKERS(), self._worker)


def served(host: Host) -> dict[str, list[str]]:
    """The models that can be listened with at once, and their languages."""
    card = host.card()
    if not host.manifest.models:
        return {card.id: card.languages}
    return {name: model.languages for name, model in card.models.items() if model.local}
