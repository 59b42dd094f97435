"""The worker's socket: one connection for each session, all in one thread."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import socket
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from http import HTTPStatus
from threading import Thread
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from dalston_engine.errors import BadInput, DalstonError
from dalston_engine.host import Host
from dalston_engine.live import capacity, protocol
from dalston_engine.live.attachment import Attachment, command, failed
from dalston_engine.live.loop import Loop
from dalston_engine.live.protocol import encode
from dalston_engine.live.speech import Speech
from dalston_engine.live.voice import detector
from dalston_engine.types import Transcript

log = logging.getLogger("dalston.live")
logging.getLogger("websockets").setLevel(logging.ERROR)

Trial = Callable[[Callable[[list[Speech]], list[Transcript]], str], capacity.Cost]
MESSAGE_BYTES = 2**20
OPEN_S = 10.0


class Server(Thread):
    """Serves sessions until the process ends, which does not outlive it."""

    def __init__(
        self,
        host: Host,
        models: dict[str, list[str]],
        secret: str,
        address: tuple[str, int],
        preload: str | None,
    ) -> None:
        """`models`: the names of those it has, each with its languages."""
        super().__init__(name="live server", daemon=True)
        self._host, self._secret, self._address, self._preload = host, secret, address, preload
        self.models = models
        self.default = preload or host.manifest.default_model or next(iter(self.models), "")
        self.loop, self.port = Loop(self._listen), 0
        self.loop.expected = self._expected
        self.costs: dict[str, capacity.Cost] = {}
        self._measured = set[str]()
        """The models that were measured, or are about to be: no session need have it done."""
        self.draining, self.ready = False, False
        self._sessions, self._events = Counter[str](), asyncio.new_event_loop()
        self._loading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sockets: dict[ServerConnection, None] = {}
        self._tasks = set[asyncio.Task[None]]()
        self._leaving: Future[None] | None = None

    @property
    def sessions(self) -> list[str]:
        """The model of each session."""
        return list(self._sessions.elements())

    @property
    def capacity(self) -> int:
        """How many sessions there may be."""
        return capacity.capacity(self.costs, self.sessions, self.default, self.loop.meter)

    def begin(self) -> None:
        """Take connections; raises OSError and ModelUnavailable where that cannot be."""
        detector()
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.create_server(self._address, family=family)
        self.port = self._socket.getsockname()[1]
        self.start()

    def run(self) -> None:
        try:
            asyncio.set_event_loop(self._events)
            self._events.run_until_complete(self._run())
        finally:
            traceback.print_exc()
            os._exit(70)

    def drain(self) -> None:
        """Take nobody any more, and send those elsewhere who are here."""
        self.draining = True
        self._leaving = asyncio.run_coroutine_threadsafe(self._hang_up(), self._events)

    def left(self, seconds: float) -> None:
        """Wait until all have been sent away, for so long at most."""
        if self._leaving is not None:
            wait([self._leaving], seconds)

    async def _run(self) -> None:
        self.loop.start()
        async with serve(self._attend, sock=self._socket, process_request=self._enter, compression=None,
                         max_size=MESSAGE_BYTES, close_timeout=1, server_header=None):  # fmt: skip
            if self._preload is not None:
                await asyncio.to_thread(self._host.loaded, self._named(self.default))
                await self._measure(self.default, capacity.estimated)
            self.ready = True
            await asyncio.Event().wait()

    async def _hang_up(self) -> None:
        await asyncio.gather(*(one.close(1012, "The worker stops.") for one in list(self._sockets)))

    def _enter(self, connection: ServerConnection, request: Any) -> Any:
        given, due = request.headers.get("Authorization") or "", f"Bearer {self._secret}"
        if not hmac.compare_digest(given.encode("utf-8", "replace"), due.encode()):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "")
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "") if self.draining else None

    async def _attend(self, connection: ServerConnection) -> None:
        self._sockets[connection] = None
        try:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                try:
                    await self._serve(connection)
                except DalstonError as error:
                    await connection.send(encode(failed(error)).decode())
        finally:
            self._sockets.pop(connection)

    async def _serve(self, connection: ServerConnection) -> None:
        async with asyncio.timeout(OPEN_S):
            message = await connection.recv()
        asked = command(message) if isinstance(message, str) else None
        if not isinstance(asked, protocol.Open):
            raise BadInput("A session begins with `open`.", code="bad_message", status=400)
        if asked.model not in self.models:
            raise BadInput(f"This worker has no model {asked.model!r}.", code="invalid_model", status=404)
        attachment = Attachment(connection, asked, self.loop)
        self._sessions[asked.model] += 1
        self._host.kept = {self._named(model) or "" for model in self._sessions}
        try:
            await connection.send(encode(protocol.Opened(asked.model)).decode())
            await self._load(asked.model)
            await attachment.run()
        finally:
            self._sessions -= Counter([asked.model])
            self._host.kept = {self._named(model) or "" for model in self._sessions}

    # Models.

    def _named(self, model: str) -> str | None:
        """The host's name for a model; an engine with a single one has none."""
        return model if self._host.manifest.models else None

    def _listen(self, model: str, batch: list[Speech]) -> list[Transcript]:
        return self._host.listen(self._named(model), batch)

    async def _load(self, model: str) -> None:
        """Have it in memory; sessions of other models go on meanwhile. Raises ModelUnavailable."""
        async with self._loading[model]:
            await asyncio.to_thread(self._host.loaded, self._named(model))
            if model not in self._measured:
                self._measured.add(model)
                self._spawn(self._measure(model, capacity.measured))

    def measure(self) -> None:
        """Find out now what sessions cost: nothing else is to be done. From any thread."""
        known = self.costs.get(self.default)
        if known is not None and known.partial <= capacity.HOPELESS_S:
            self._measured.add(self.default)
            work = self._measure(self.default, capacity.measured)
            self._events.call_soon_threadsafe(self._spawn, work)

    async def _measure(self, model: str, how: Trial) -> None:
        """An estimate is soon had, and good until there is time to measure, or a session.

        The least found so far counts: a machine that was busy meanwhile only makes it more.
        """
        language = next(iter(self.models[model]), "*").replace("*", "en")
        trial = self.loop.apart(lambda: how(lambda batch: self._listen(model, batch), language))
        await asyncio.wait([told := asyncio.wrap_future(trial)])
        if told.exception() is None:  # otherwise a session will tell what is wrong
            cost = told.result()
            cost = self.costs[model] = min(cost, self.costs.get(model, cost), key=lambda one: one.share)
            log.info("a conversation with %s takes %.1f %% of the time", model, cost.share * 100)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := self._events.create_task(work))
        task.add_done_callback(self._tasks.discard)

    def _expected(self, model: str, batch: list[Speech]) -> float:
        return self.costs[model].expected(batch) if model in self.costs else 0.0
