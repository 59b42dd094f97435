"""Live sessions against scripted workers: what was said once is told once, whoever is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from dalston_engine.live import protocol
from dalston_engine.live.protocol import Options

from dalston import live
from dalston.errors import Conflict, LiveFull, NotFound, NoWorker
from dalston.live import Event, FinalTranscript, LiveRequest, SessionEnded
from dalston.realtime.outbox import Outbox
from dalston.realtime.sessions import Sessions
from dalston.settings import Settings
from dalston.store import live as store
from dalston.store.client import connect
from tests.contract.listener import Listener, listening, spoken
from tests.waiting import soon

pytestmark = pytest.mark.anyio
REQUEST = LiveRequest(resumable=True)


@contextlib.asynccontextmanager
async def gateway(url: str, data: Path, **settings: Any) -> AsyncIterator[Sessions]:
    """A gateway's sessions."""
    client = connect(url)
    sessions = Sessions(client, Settings(data=str(data), redis_url=url, **settings))
    running = asyncio.create_task(sessions.run())
    try:
        yield sessions
    finally:
        await sessions.close()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await client.aclose()


@pytest.fixture
async def client(valkey: str, redis: Any) -> AsyncIterator[Any]:
    """An asynchronous client of the embedded server."""
    made = connect(valkey)
    yield made
    await made.aclose()


class Client:
    """Hears everything that is told."""

    def __init__(self, outbox: Outbox) -> None:
        self.events: list[Event] = []
        self.outbox = outbox
        self._task = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for event in self.outbox.events():
            self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def texts(self) -> list[str]:
        """The finals' texts."""
        return [event.text for event in self.of(FinalTranscript)]

    async def until(self, what: Callable[[], Any], seconds: float = 15) -> Any:
        """Wait for something."""
        return await soon(what, seconds)

    async def ended(self) -> SessionEnded:
        """Wait for the end."""
        await asyncio.wait_for(self._task, 15)
        (last,) = self.of(SessionEnded)
        return last

    def ordered(self) -> bool:
        """Whether every event has a higher number than the one before."""
        numbers = [event.seq for event in self.events]
        return all(one < other for one, other in zip(numbers, numbers[1:], strict=False))


async def test_what_is_said_is_told_and_kept(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        await session.audio(spoken(1, 2, 0, 4))
        session.ask(protocol.Flush("f"))
        await session.audio(spoken(5, seconds=0.5))
        session.end()
        end = await heard.ended()
        assert heard.texts == ["w1", "w2", "w4", "w5"]
        assert heard.ordered()
        assert end.audio == 4.5
        assert [one.id for one in heard.of(live.Flushed)] == ["f"]
        assert isinstance(heard.events[0], live.SessionStarted)
        assert heard.events[0].model == "tiny.en"
        await soon(lambda: not len(sessions))
        kept = sessions.keeping.read(session.id)
        assert kept is not None
        assert (kept.text, kept.duration, kept.cause, kept.language) == ("w1 w2 w4 w5", 4.5, "ended", None)
        stored = await store.read(client, session.id)
        assert stored is not None
        assert stored.state == "ended"


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_lost_worker_costs_no_word(valkey: str, client: Any, tmp_path: Path, how: str) -> None:
    async with (
        listening(client) as one,
        listening(client, "two") as two,
        gateway(valkey, tmp_path) as sessions,
    ):
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        first, second = (one, two) if one.attachments else (two, one)
        await session.audio(spoken(1, 2) + spoken(3, seconds=0.7))
        await heard.until(lambda: heard.texts == ["w1", "w2"])
        began = time.monotonic()
        first.kill() if how == "killed" else first.freeze()
        await session.audio(spoken(3, seconds=0.3) + spoken(4))
        await heard.until(lambda: "w4" in heard.texts)
        took = time.monotonic() - began
        session.end()
        await heard.ended()
        assert heard.texts == ["w1", "w2", "w3", "w4"]
        assert heard.ordered()
        (again,) = second.opened
        assert (again.epoch, again.start, again.heard, again.previous) == (2, 1.5, 2.0, "w1 w2")
        assert took < (1 if how == "killed" else 3)
        first.thaw()
