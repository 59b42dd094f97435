"""A client that comes back at the worst moment: while something of its session is under way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from dalston_engine.live import protocol

from dalston.live import FinalTranscript, LiveRequest
from dalston.realtime import session as sessions
from dalston.realtime.outbox import Outbox
from dalston.realtime.session import LiveSession
from dalston.store import live as store

pytestmark = pytest.mark.anyio


class Minutes:
    """Keeps finals, and no audio."""

    def __init__(self) -> None:
        self.finals: list[FinalTranscript] = []
        self.text = ""

    def add(self, final: FinalTranscript) -> None:
        self.finals.append(final)

    async def record(self, content: bytes, place: int) -> bool:
        return True


def session(**request: Any) -> LiveSession:
    """A session that has a client and no worker."""
    claim: Any = SimpleNamespace(session="a" * 32)
    redis, minutes, asked = Any, Minutes(), LiveRequest(resumable=True, **request)
    return LiveSession(redis, claim, asked, minutes, 20.0)  # type: ignore[arg-type]


def told(outbox: Outbox) -> list[Any]:
    """What waits to be told."""
    return [event for _, event in outbox._events]


async def rest() -> None:
    """Let everybody go on who can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_final_is_told_once_and_when_it_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    one, logged = session(), asyncio.Event()
    monkeypatch.setattr(store, "append", lambda *_: logged.wait())
    one.join()
    telling = asyncio.create_task(one._final(protocol.Final(0.0, 1.0, "hello", 1.0, "silence")))
    await rest()
    back = one.join(after=1)
    assert not [event for event in told(back) if isinstance(event, FinalTranscript)]
    logged.set()
    await telling
    assert [event.text for event in told(back) if isinstance(event, FinalTranscript)] == ["hello"]


async def test_a_file_that_comes_again_while_a_worker_is_opened_is_the_one_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened, sent = asyncio.Event(), list[bytes | str]()

    class Link:
        place = SimpleNamespace(worker="w")

        async def send(self, message: bytes | str) -> None:
            sent.append(message)

        async def report(self) -> None:
            await asyncio.Event().wait()

        def drop(self) -> None: ...

        @classmethod
        async def open(cls, *_: Any) -> Link:
            await opened.wait()
            return cls()

    async def allocate(*_: Any) -> Any:
        return SimpleNamespace(epoch=1, worker="w", model="m", languages=["*"])

    monkeypatch.setattr(sessions, "Link", Link)
    monkeypatch.setattr(store, "allocate", allocate)
    one = session(encoding="container")
    one.join()
    await one.audio(b"a" * 5000)
    attaching = asyncio.create_task(one._attach(1.0))
    await rest()
    one.join(after=0)
    opened.set()
    await attaching
    await one.audio(b"b" * 5000)
    one.end()
    await rest()
    assert sent == [b"b" * 5000, '{"type":"end"}']
    await one._unlink()


async def test_audio_of_a_connection_that_was_replaced_is_not_heard() -> None:
    one = session()
    one.join()
    await one.audio(bytes(sessions.AHEAD_BYTES + 2))
    old = asyncio.create_task(one.audio(b"old!" * 1000))
    await rest()
    back = one.join(after=1)
    one._sent = one.tape.end
    one._room.set()
    await old
    assert told(back)[0].audio == one.tape.seconds(one.tape.end)
