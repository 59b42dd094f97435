"""The line before the door, without a server: whoever gives up, hangs up or is let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError
from starlette.requests import ClientDisconnect

from dalston.errors import Limited, Unavailable
from dalston.gateway import line as lines
from dalston.gateway.access import Caller
from dalston.gateway.line import Line
from dalston.store.access_keys import Limits
from dalston.store.admission import Verdict
from dalston.store.events import Change

pytestmark = pytest.mark.anyio

FULL, OK = Verdict("FULL"), Verdict("OK")


class Door:
    """Redis and its events as a line sees them: who gets in is up to the test."""

    def __init__(self) -> None:
        self.closed, self.room = False, 0
        self.let_in: list[str] = []
        self.released: list[str] = []
        self.asking: Callable[[str], Any] = lambda _: None
        self.news: asyncio.Queue[list[Change]] = asyncio.Queue()

    async def changes(self, after: None, idle: float) -> AsyncIterator[list[Change]]:
        """An end of a job, whenever the test says so."""
        while not self.closed:
            yield await self.news.get()

    def end(self) -> None:
        """A job has ended."""
        self.room += 1
        self.news.put_nowait([Change("1-0", "j", "completed")])

    async def admit(self, redis: Any, job: str, key: str, limits: Limits, room: int) -> Verdict:
        await asyncio.sleep(0)
        self.asking(job)
        if not self.room:
            return FULL
        self.room -= 1
        self.let_in.append(job)
        return OK

    async def release(self, redis: Any, job: str, key: str) -> None:
        self.room += 1
        self.released.append(job)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    """A door that is shut."""
    made = Door()

    async def pace(_: Any) -> float:
        return 2.0

    for name, value in {"admit": made.admit, "release": made.release, "pace": pace}.items():
        monkeypatch.setattr(lines, name, value)
    return made


class Client:
    """A client that waits at a line, or hangs up."""

    def __init__(self, line: Line, job: str, key: str = "k", patience: float = 30) -> None:
        self.line, self.job, self.key, self.patience = line, job, key, patience
        self.hung_up = False
        self.task = asyncio.create_task(self._enter())

    async def _enter(self) -> None:
        limits = Limits(concurrent_jobs=9) if self.key == "limited" else Limits()
        caller = Caller("ann", key=self.key, limits=limits)
        async with self.line.entered(caller, self.job, self.patience, self._gone) as place:
            place.kept = True

    async def _gone(self) -> bool:
        await asyncio.sleep(0)
        return self.hung_up


async def waiting(line: Line, *jobs: str, key: str = "k", patience: float = 30) -> list[Client]:
    """Clients that wait one after the other."""
    clients = []
    for job in jobs:
        clients.append(Client(line, job, key, patience))
        before = len(line)
        while len(line) == before:
            await asyncio.sleep(0)
    return clients


@pytest.fixture
async def line(door: Door) -> AsyncIterator[Line]:
    """A line before that door, whose walk has ended in the end."""
    made = Line(None, door, 1)  # type: ignore[arg-type]
    yield made
    door.closed = True
    door.news.put_nowait([])
    if made._walk is not None:
        await asyncio.wait_for(made._walk, 5)


async def test_rows_take_turns_and_keep_their_order(line: Line, door: Door) -> None:
    clients = await waiting(line, "a1", "a2", "a3", key="a") + await waiting(line, "b1", "b2", key="b")
    for n in range(5):
        door.end()
        while len(door.let_in) <= n:
            await asyncio.sleep(0)
    await asyncio.gather(*(client.task for client in clients))
    assert door.let_in == ["a1", "b1", "a2", "b2", "a3"]


async def test_nobody_gets_in_before_those_who_wait_for_room(line: Line, door: Door) -> None:
    first = (await waiting(line, "first"))[0]
    door.room = 1
    with pytest.raises(Limited, match="as many jobs"):
        await Client(line, "late", "other", patience=0).task
    door.room = 0
    door.end()
    await first.task
    assert door.let_in == ["first"]


async def test_who_hangs_up_leaves_the_line_wherever_he_stands(
    line: Line, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "SWEEP_S", 0)
    clients = await waiting(line, "a1", "a2", "a3", key="a") + await waiting(line, "b1", key="b")
    for gone in (clients[1], clients[3]):
        gone.hung_up = True
    door.news.put_nowait([])
    for gone in (clients[1], clients[3]):
        with pytest.raises(ClientDisconnect):
            await gone.task
    while len(line) > 2:
        await asyncio.sleep(0)
    for _ in range(2):
        door.end()
    await asyncio.gather(clients[0].task, clients[2].task)
    assert door.let_in == ["a1", "a3"]


async def test_a_place_for_who_gave_up_meanwhile_goes_to_the_next(line: Line, door: Door) -> None:
    first, second = await waiting(line, "first", "second")
    door.asking = lambda job: first.task.cancel() if job == "first" else None
    door.end()
    while not first.task.done():
        await asyncio.sleep(0)
    assert first.task.cancelled()
    await second.task
    assert (door.released, door.let_in[-1]) == (["first"], "second")


async def test_who_waits_in_vain_is_told_for_how_long_the_line_takes(line: Line, door: Door) -> None:
    await waiting(line, "first")
    with pytest.raises(Limited) as refused:
        await Client(line, "late", "other", patience=0).task
    assert (refused.value.code, refused.value.retry_after) == ("queue_full", 4.0)
    door.end()


async def test_one_row_leaves_room_for_others(
    line: Line, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 4)
    clients = await waiting(line, "a1", "a2", key="a")
    with pytest.raises(Limited):
        await Client(line, "a3", "a").task
    clients += await waiting(line, "b1", "b2", key="b")
    with pytest.raises(Limited):
        await Client(line, "c1", "c").task
    for _ in clients:
        door.end()
    await asyncio.gather(*(client.task for client in clients))


async def test_a_walk_that_breaks_leaves_nobody_waiting(line: Line, door: Door) -> None:
    (client,) = await waiting(line, "first")

    def breaks(_: str) -> None:
        raise RuntimeError

    door.asking = breaks
    door.end()
    with pytest.raises(Unavailable):
        await client.task
    assert line._walk is not None
    with pytest.raises(RuntimeError):
        await line._walk
    line._walk = None
    door.asking = lambda _: None
    assert (len(line), door.room) == (0, 1)
    await Client(line, "next").task


async def test_while_redis_is_away_only_who_has_limits_is_kept_out(line: Line, door: Door) -> None:
    limited, free = (await waiting(line, "limited", key="limited")) + (await waiting(line, "free", key="b"))

    def away(job: str) -> None:
        if job == "limited":
            raise ConnectionError

    door.asking = away
    door.end()
    await free.task
    assert not limited.task.done()
    limited.task.cancel()


async def test_a_server_that_stops_refuses_those_who_wait(line: Line, door: Door) -> None:
    (client,) = await waiting(line, "first")
    door.closed = True
    door.news.put_nowait([])
    with pytest.raises(Unavailable):
        await client.task


async def test_whoever_comes_while_the_walk_ends_is_let_in_too(line: Line, door: Door) -> None:
    (first,) = await waiting(line, "first")
    door.end()
    await first.task
    (second,) = await waiting(line, "second")  # the walk may be about to end, or has ended
    door.end()
    await asyncio.wait_for(second.task, 5)
