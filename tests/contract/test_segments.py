"""Who follows a job hears each segment once and in order, whatever becomes of engines and Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys
from dalston_engine.types import Segment, Task
from redis.exceptions import ConnectionError

from dalston.errors import NotFound
from dalston.store.segments import Heard, follow
from tests.contract.house import House, house

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(redis: Any, valkey: str, tmp_path: Path) -> AsyncIterator[House]:
    """A house on an empty server that hears of changes."""
    async with house(valkey, tmp_path / "data") as made:
        hearing = asyncio.create_task(made.jobs.events.run())
        yield made
        hearing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hearing


def segments(*texts: str, start: float = 0.0) -> list[Segment]:
    """One a second."""
    return [Segment(start + n, start + n + 1, text) for n, text in enumerate(texts)]


async def at_work(home: House) -> tuple[str, Task]:
    """A job whose words are being written down."""
    job = await home.submitted()
    home.step("prepare")
    task = home.queue("transcribe").claim()
    assert task is not None
    return job, task


def tell(home: House, task: Task, n: int, *said: Segment) -> None:
    """Say some segments, the first of them the attempt's `n`th."""
    home.queue("transcribe").tell(task, n, list(said))


async def end(home: House, task: Task) -> None:
    """Let the job end well."""
    home.write(task)
    assert home.queue("transcribe").settle(task, "completed", 0.1) == "OK"
    await home.run_all()


async def heard(following: AsyncGenerator[Segment], count: int) -> list[str]:
    """The next texts."""
    return [(await asyncio.wait_for(anext(following), 30)).text for _ in range(count)]


async def rest(following: AsyncGenerator[Segment]) -> list[str]:
    """All texts until the end."""
    async with asyncio.timeout(30):
        return [segment.text async for segment in following]


async def test_segments_are_heard_while_the_job_is_at_work(home: House) -> None:
    job, task = await at_work(home)
    following = follow(home.jobs, job)
    one, two, three = segments(" one", " two", " three")
    tell(home, task, 0, one)
    assert await heard(following, 1) == [" one"]
    tell(home, task, 1, two)
    assert await heard(following, 1) == [" two"]
    assert (await home.jobs.get(job)).state == "running"
    tell(home, task, 2, three)
    await end(home, task)
    assert await rest(following) == [" three"]


async def test_a_segment_wakes_who_waits_for_it(home: House) -> None:
    job, task = await at_work(home)
    following = follow(home.jobs, job)
    waiting = asyncio.create_task(heard(following, 1))
    await asyncio.sleep(0)
    tell(home, task, 0, *segments(" one"))
    assert await asyncio.wait_for(waiting, 2) == [" one"]  # reading again without a wake takes 5 s
    await following.aclose()


async def test_two_who_follow_hear_the_same(home: House) -> None:
    job, task = await at_work(home)
    tell(home, task, 0, *segments(" one", " two"))
    both = [follow(home.jobs, job) for _ in range(2)]
    assert [await heard(one, 2) for one in both] == [[" one", " two"]] * 2
    await end(home, task)
    assert [await rest(one) for one in both] == [[], []]


async def test_another_attempt_goes_on_where_the_first_was_heard(home: House) -> None:
    job, task = await at_work(home)
    following = follow(home.jobs, job)
    tell(home, task, 0, *segments(" one", " two"))
    assert await heard(following, 2) == [" one", " two"]
    assert home.queue("transcribe").settle(task, "released") == "OK"
    again = home.queue("transcribe", "two").claim()
    assert again is not None
    assert again.id == task.id
    tell(home, task, 2, *segments(" of a zombie", start=2))
    home.queue("transcribe").tell(again, 0, segments(" One,", " two,"))
    home.queue("transcribe").tell(again, 2, segments(" three.", start=2))
    home.write(again)
    assert home.queue("transcribe", "two").settle(again, "completed", 0.1) == "OK"
    await home.run_all()
    assert await rest(following) == [" three."]


async def test_what_was_sent_twice_is_heard_once(home: House) -> None:
    job, task = await at_work(home)
    one, two, three = segments(" one", " two", " three")
    tell(home, task, 0, one)
    tell(home, task, 0, one, two)
    tell(home, task, 2, three)
    await end(home, task)
    assert await rest(follow(home.jobs, job)) == [" one", " two", " three"]


async def test_following_goes_on_when_redis_was_away(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job, task = await at_work(home)
    tell(home, task, 0, *segments(" one"))
    read, away = home.redis.xrange, iter([True, True])

    async def xrange(*args: Any) -> Any:
        if next(away, False):
            raise ConnectionError
        return await read(*args)

    monkeypatch.setattr(home.redis, "xrange", xrange)
    following = follow(home.jobs, job)
    assert await heard(following, 1) == [" one"]
    await following.aclose()


async def test_a_job_that_ended_long_ago_has_nothing_to_hear(home: House) -> None:
    job, task = await at_work(home)
    tell(home, task, 0, *segments(" one"))
    await end(home, task)
    await home.pass_time(60)
    assert await rest(follow(home.jobs, job)) == []


async def test_what_was_said_does_not_stay_in_redis(home: House) -> None:
    job, task = await at_work(home)
    tell(home, task, 0, *segments(" one"))
    key = keys.SEGMENTS(job=job)
    assert 0 < await home.redis.ttl(key) <= 3600
    await end(home, task)
    assert 0 < await home.redis.ttl(key) <= 30
    await home.jobs.delete(job)
    assert not await home.redis.exists(key)


async def test_following_ends_with_the_job_and_needs_one(home: House) -> None:
    job, task = await at_work(home)
    tell(home, task, 0, *segments(" one"))
    following = follow(home.jobs, job)
    assert await heard(following, 1) == [" one"]
    await home.jobs.cancel(job)
    assert await rest(following) == []
    await home.jobs.delete(job)
    with pytest.raises(NotFound):
        await rest(follow(home.jobs, job))


async def test_segments_are_no_changes_to_observers(home: House) -> None:
    job, task = await at_work(home)
    changes = home.jobs.events.changes("0-0", 30)
    tell(home, task, 0, *segments(" one"))
    await end(home, task)
    states = []
    async with asyncio.timeout(30):
        async for batch in changes:
            states += [(change.task, change.state) for change in batch if change.job == job]
            if (None, "completed") in states:
                break
    await changes.aclose()
    assert ("transcribe", "running") in states
    assert not {state for _, state in states} & {"told"}


def test_segments_without_length_are_heard() -> None:
    told = Heard()
    entry = {
        "token": "t",
        "n": "0",
        "segments": '[{"start":0,"end":0,"text":" a"},{"start":0,"end":0,"text":" b"}]',
    }
    assert [segment.text for segment in told.news(entry)] == [" a", " b"]
