"""A real worker of live sessions: an engine's process, and a gateway's side of its socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from dalston_engine import keys
from dalston_engine.live import protocol
from dalston_engine.live.protocol import encode, reports
from websockets.asyncio.client import ClientConnection, connect

from dalston.local import valkey as embedded
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent


class Worker:
    """A worker's process, as its heartbeat tells."""

    def __init__(self, redis: Any, process: subprocess.Popen[bytes], id: str) -> None:
        self.redis, self.process, self.id = redis, process, id
        self.address, self.secret = redis.hmget(keys.WORKER(worker=id), "address", "secret")

    @property
    def facts(self) -> dict[str, str]:
        return dict(self.redis.hgetall(keys.WORKER(worker=self.id)))

    @contextlib.asynccontextmanager
    async def session(self, model: str, **asked: Any) -> AsyncIterator[Attached]:
        """An open session."""
        async with self.connected() as socket:
            one = Attached(socket)
            await one.send(protocol.Open("s", asked.pop("epoch", 1), model, **asked))
            yield one

    def connected(self, secret: str | None = None) -> connect:
        """A connection on which nothing was said."""
        headers = {"authorization": f"Bearer {secret or self.secret}"}
        return connect(self.address, additional_headers=headers, compression=None, close_timeout=5)


class Attached:
    """A gateway's side of a session."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.told: list[protocol.Report] = []

    async def send(self, *messages: protocol.Command | bytes) -> None:
        """Send audio and commands."""
        for message in messages:
            await self.socket.send(message if isinstance(message, bytes) else encode(message).decode())

    async def audio(self, content: bytes, size: int = 3200) -> None:
        """Send audio in pieces."""
        for at in range(0, len(content), size):
            await self.socket.send(content[at : at + size])

    async def until(self, kind: type[protocol.Report]) -> Any:
        """The next report of a kind; all that come are kept in `told`."""
        async with asyncio.timeout(60):
            while True:
                self.told.append(reports.decode(await self.socket.recv()))
                if isinstance(self.told[-1], kind):
                    return self.told[-1]

    def all(self, kind: type[Any]) -> list[Any]:
        """What was told of a kind."""
        return [report for report in self.told if isinstance(report, kind)]

    @property
    def length(self) -> float:
        """The session's, told at its end."""
        [ended] = self.all(protocol.Ended)
        return float(ended.audio)

    @property
    def text(self) -> str:
        return " ".join(final.text for final in self.all(protocol.Final) if final.text)


@contextlib.contextmanager
def worker(
    redis: Any, url: str, data: Path, engine: str = "fake", home: str = "", **settings: str
) -> Iterator[Worker]:
    """A worker that is ready; `home`: the engine whose environment it runs in, if it is another's."""
    python = ROOT / "engines" / (home or engine) / ".venv" / "bin" / "python"
    command = [python, ROOT / "engines" / engine / "engine.py"]
    surroundings = {"DALSTON_REDIS_URL": url, "DALSTON_DATA": str(data), "DALSTON_OFFLINE": "1", **settings}
    with subprocess.Popen(command, env=os.environ | surroundings, preexec_fn=embedded.die_with_parent) as one:
        try:
            [id] = until(lambda: ready(redis, one.pid) or (one.poll() is not None and [""]), 60)
            assert one.poll() is None
            yield Worker(redis, one, id)
        finally:
            one.terminate()


def ready(redis: Any, process: int) -> list[str]:
    """The worker of a process, once it is ready."""
    there = [id for id in redis.zrange(keys.WORKERS(), 0, -1) if f"-{process}-" in id]
    return [id for id in there if redis.hget(keys.WORKER(worker=id), "state") == "ready"]
