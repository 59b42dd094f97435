"""A reply is lost after its command was carried out: asked again, everything happens once (I9)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from dalston_engine.queue import AWAY, Queue
from dalston_engine.scripts import Script, script
from dalston_engine.types import Card, Task

from dalston.store.client import connect
from dalston.store.files import Outcome
from dalston.store.scripts import CANCEL, FINISH, FORGET, REVIVE, SHOW, SUBMIT, SWEEP, TIDY
from tests.contract.wire import Proxy
from tests.contract.workshop import Office, assert_done_once, at_work, open_office, own_tasks
from tests.waiting import soon

CLAIM, RENEW, SETTLE, HEARTBEAT = map(script, ("claim", "renew", "settle", "heartbeat"))
SETTLE_AND_CLAIM = script("settle+claim")
SCRIPTS = (
    CLAIM,
    RENEW,
    SETTLE,
    SETTLE_AND_CLAIM,
    HEARTBEAT,
    SUBMIT,
    CANCEL,
    FINISH,
    FORGET,
    REVIVE,
    SHOW,
    SWEEP,
    TIDY,
)
CARD = Card("preparer", "prepare")

pytestmark = pytest.mark.anyio


@pytest.fixture
def proxy(redis: Any, valkey: str, tmp_path: Path) -> Iterator[Proxy]:
    """A way to the server that loses replies; the server knows all scripts."""
    for one in SCRIPTS:
        redis.script_load(one.text)
    with Proxy(tmp_path / "s", valkey) as made:
        yield made


@pytest.fixture
def queue(proxy: Proxy) -> Iterator[Queue]:
    """An instance's queue behind the proxy."""
    made = Queue(proxy.url, "preparer", "one")
    yield made
    made.redis.close()


@pytest.fixture
async def job(redis: Any, valkey: str, tmp_path: Path) -> str:
    """A job that was submitted without losses."""
    async with connect(valkey) as client:
        return await Office(client, tmp_path / "data").submit()


def everything(redis: Any) -> dict[str, bytes]:
    """All that the server holds."""
    return {key: redis.dump(key) for key in redis.scan_iter()}


def states(redis: Any, job: str) -> list[tuple[str, str]]:
    """What observers were told of a job: of which task, and its state."""
    told = [e for _, e in redis.xrange(keys.EVENTS()) if e["job"] == job]
    return [(e["task"].removeprefix(f"{job}.").removeprefix(job), e["state"]) for e in told]


def claimed(queue: Queue) -> Task:
    """The task that a claim leases."""
    task = queue.claim()
    assert task is not None
    return task


# Engines


async def test_a_claim_whose_reply_is_lost_leases_one_task_once(
    redis: Any, job: str, queue: Queue, proxy: Proxy
) -> None:
    proxy.lose(CLAIM.sha)
    with pytest.raises(AWAY):
        queue.claim()
    before = everything(redis)
    task = claimed(queue)
    assert everything(redis) == before
    assert (task.attempt, task.token) == (1, redis.hget(keys.TASK(task=task.id), "token"))
    assert states(redis, job) == [("", "queued"), ("prepare", "queued"), ("prepare", "running")]


async def test_a_claim_of_nothing_whose_reply_is_lost_leases_nothing(
    redis: Any, queue: Queue, proxy: Proxy
) -> None:
    proxy.lose(CLAIM.sha)
    with pytest.raises(AWAY):
        queue.claim()
    assert queue.claim() is None


@pytest.mark.parametrize("more", [False, True], ids=["settle", "settle and claim"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    ("outcome", "attempt", "state", "told"),
    [
        ("completed", "1", "completed", [("prepare", "completed"), ("merge", "queued")]),
        ("failed", "1", "failed", [("prepare", "failed")]),
        ("retry", "1", "retrying", [("prepare", "retrying")]),
        ("postponed", "0", "retrying", [("prepare", "retrying")]),
    ],
)
async def test_a_settlement_whose_reply_is_lost_settles_once(
    redis: Any, job: str, queue: Queue, proxy: Proxy,
    more: bool, times: int, outcome: str, attempt: str, state: str, told: list[tuple[str, str]],
) -> None:  # fmt: skip
    task, lost = claimed(queue), SETTLE_AND_CLAIM if more else SETTLE
    proxy.lose(lost.sha, times)
    error = None if outcome == "completed" else ErrorRecord("a", "b")
    assert await asyncio.to_thread(queue.settle, task, outcome, 0.5, error, more=more) == "OK"
    assert proxy.lost == [lost.sha] * times
    assert queue.next is None
    after = [("", "queued"), ("prepare", "queued"), ("prepare", "running"), *told]
    assert states(redis, job) == after
    known = redis.hgetall(keys.TASK(task=task.id))
    assert (known["attempt"], known["state"]) == (attempt, state)
    assert redis.zcard(keys.DELAYED()) == (state == "retrying")
    assert redis.xlen(keys.WORK()) == (outcome == "failed")
    assert redis.xlen(keys.QUEUE(engine="preparer")) == 0


async def test_a_task_claimed_with_a_settlement_whose_reply_is_lost_is_leased_once(
    redis: Any, job: str, queue: Queue, proxy: Proxy, valkey: str, tmp_path: Path
) -> None:
    async with connect(valkey) as client:
        second = await Office(client, tmp_path / "data").submit()
    task = claimed(queue)
    proxy.lose(SETTLE_AND_CLAIM.sha, 2)
    assert await asyncio.to_thread(queue.settle, task, "completed", 0.5, more=True) == "OK"
    following = claimed(queue)
    assert {task.job, following.job} == {job, second}
    assert following.token == redis.hget(keys.TASK(task=following.id), "token")
    assert following.attempt == 1
    told = [("", "queued"), ("prepare", "queued"), ("prepare", "running")]
    assert states(redis, following.job) == told
    assert states(redis, task.job) == [*told, ("prepare", "completed"), ("merge", "queued")]


async def test_the_last_attempt_whose_settlement_is_lost_leaves_one_dead_letter(
    redis: Any, job: str, queue: Queue, proxy: Proxy
) -> None:
    for attempt in (1, 2, 3):
        task = claimed(queue)
        assert task.attempt == attempt
        proxy.lose(SETTLE.sha)
        assert await asyncio.to_thread(queue.settle, task, "retry", None, ErrorRecord("a", "b")) == "OK"
        for member in redis.zrange(keys.DELAYED(), 0, -1):
            redis.zadd(keys.DELAYED(), {member: 0})
        SWEEP(redis, lease=10**9, attempts=3, limit=100)
    assert redis.xlen(keys.DEAD(engine="preparer")) == redis.xlen(keys.WORK()) == 1
    assert redis.hget(keys.JOB(job=job), "open") == "0"


async def test_a_release_whose_reply_is_lost_queues_once(
    redis: Any, job: str, queue: Queue, proxy: Proxy
) -> None:
    task = claimed(queue)
    proxy.lose(SETTLE.sha, 2)
    assert await asyncio.to_thread(queue.settle, task, "released") == "OK"
    assert states(redis, job)[2:] == [("prepare", "running"), ("prepare", "queued")]
    assert redis.hget(keys.TASK(task=task.id), "attempt") == "0"
    assert redis.xlen(keys.QUEUE(engine="preparer")) == 1


async def test_a_released_task_that_another_took_meanwhile_is_not_settled_again(
    redis: Any, job: str, queue: Queue, proxy: Proxy, valkey: str
) -> None:
    task = claimed(queue)
    proxy.lose(SETTLE.sha)
    with pytest.raises(AWAY):
        SETTLE(queue.redis, task=task.id, token=task.token, outcome="released", seconds=None, audio=None,
               error=None, delay=0, attempts=3, whole=None)  # fmt: skip
    other = Queue(valkey, "preparer", "two")
    taken = claimed(other)
    assert (taken.id, taken.attempt) == (task.id, 1)
    before = everything(redis)
    assert queue.settle(task, "released") == "LOST"
    assert everything(redis) == before
    other.redis.close()


async def test_a_renewal_whose_reply_is_lost_changes_nothing_but_the_lease(
    redis: Any, job: str, queue: Queue, proxy: Proxy
) -> None:
    task = claimed(queue)
    proxy.lose(RENEW.sha)
    with pytest.raises(AWAY):
        queue.renew(task, 0.5)
    before = redis.hgetall(keys.TASK(task=task.id))
    assert queue.renew(task, 0.5) == "OK"
    assert redis.hgetall(keys.TASK(task=task.id)) == before
    assert before["progress"] == "0.5"


async def test_a_heartbeat_whose_reply_is_lost_makes_one_instance(
    redis: Any, queue: Queue, proxy: Proxy
) -> None:
    proxy.lose(HEARTBEAT.sha)
    with pytest.raises(AWAY):
        queue.heartbeat(CARD, "idle", {})
    queue.heartbeat(CARD, "idle", {})
    assert redis.zrange(keys.ENGINES(), 0, -1) == ["preparer/one"]
    assert 0 < redis.ttl(keys.INSTANCE(engine="preparer", instance="one")) <= 30
    proxy.lose("DEL")
    with pytest.raises(AWAY):
        queue.leave()
    queue.leave()
    assert redis.zscore(keys.ENGINES(), "preparer/one") == 0


# Server


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_job_whose_submission_is_lost_is_submitted_once(
    redis: Any, proxy: Proxy, tmp_path: Path, times: int
) -> None:
    async with connect(proxy.url) as client:
        office = Office(client, tmp_path / "data")
        proxy.lose(SUBMIT.sha, times)
        job = await office.submit()
        # The client asks once more by itself; what is lost then too is sent later.
        await soon(lambda: proxy.seen[SUBMIT.sha] == times + 1)
        await soon(lambda: not office.jobs._unsent)
    assert states(redis, job) == [("", "queued"), ("prepare", "queued")]
    assert redis.zcard(keys.JOBS()) == redis.xlen(keys.QUEUE(engine="preparer")) == 1


@pytest.mark.parametrize("lost", [CANCEL, FINISH, SHOW], ids=lambda script: script.name)
async def test_a_job_whose_cancelling_is_lost_is_cancelled_once(
    redis: Any, job: str, proxy: Proxy, tmp_path: Path, lost: Script
) -> None:
    async with connect(proxy.url) as client, own_tasks():
        office = Office(client, tmp_path / "data")
        watching = asyncio.create_task(office.events.run())
        proxy.lose(lost.sha)
        assert (await office.jobs.cancel(job)).state == "cancelled"
        assert not watching.done()
    assert proxy.lost == [lost.sha]
    ended = [("prepare", "cancelled"), ("merge", "cancelled"), ("", "cancelled")]
    assert states(redis, job) == [("", "queued"), ("prepare", "queued"), *ended]
    assert redis.xlen(keys.WORK()) == 1
    assert redis.xlen(keys.QUEUE(engine="preparer")) == 0


async def test_a_job_whose_end_is_lost_ends_once(redis: Any, job: str, proxy: Proxy, tmp_path: Path) -> None:
    async with connect(proxy.url) as client:
        office = Office(client, tmp_path / "data")
        with at_work(proxy.url, "prepare", tmp_path / "data"), at_work(proxy.url, "merge", tmp_path / "data"):
            await soon(lambda: redis.xlen(keys.WORK()))
        for _ in range(2):
            proxy.lose(FINISH.sha, 2)
            with pytest.raises(AWAY):
                await office.jobs.finish(job)
        before = everything(redis)
        await office.jobs.finish(job)
        assert everything(redis) == before
        assert (await office.jobs.get(job)).state == "completed"
    assert states(redis, job).count(("", "completed")) == 1


async def test_a_retry_whose_reply_is_lost_runs_a_job_again_once(
    redis: Any, job: str, proxy: Proxy, tmp_path: Path
) -> None:
    async with connect(proxy.url) as client:
        office = Office(client, tmp_path / "data")
        await office.jobs.cancel(job)
        proxy.lose(REVIVE.sha)
        assert (await office.jobs.retry(job)).state == "queued"
    assert states(redis, job)[-2:] == [("", "queued"), ("prepare", "queued")]
    assert states(redis, job).count(("", "queued")) == 2
    assert redis.xlen(keys.QUEUE(engine="preparer")) == 1


async def test_a_deletion_whose_reply_is_lost_leaves_nothing(
    redis: Any, job: str, proxy: Proxy, tmp_path: Path
) -> None:
    async with connect(proxy.url) as client:
        office = Office(client, tmp_path / "data")
        proxy.lose(CANCEL.sha)
        proxy.lose(FORGET.sha)
        await office.jobs.delete(job)
    assert proxy.lost == [CANCEL.sha, FORGET.sha]
    assert not [key for key in redis.scan_iter() if job in key]
    assert redis.zcard(keys.JOBS()) == redis.zcard(keys.ACTIVE()) == 0


async def test_the_outcome_on_disk_is_the_one_of_the_first_publication(
    redis: Any, job: str, tmp_path: Path, valkey: str
) -> None:
    async with connect(valkey) as client:
        office = Office(client, tmp_path / "data")
        first = Outcome("cancelled", 1.0, 2.0, [], [])
        file = office.files.read(job)
        assert file is not None
        published = office.files.publish(file, first)
        assert published is not None
        assert published.outcome == first
        assert office.files.publish(file, Outcome("failed", 1.0, 3.0, [], [])) == published
        await office.jobs.finish(job)
        assert (await office.jobs.get(job)).state == "cancelled"


# Everything at work


async def work_through(url: str, redis: Any, data: Path, count: int) -> None:
    """Submit jobs; each completes, and everything was done once."""
    async with open_office(url, data) as office:
        jobs = [await office.submit() for _ in range(count)]
        for job in jobs:
            await office.completed(job)
        await soon(lambda: not redis.xlen(keys.WORK()))
    assert_done_once(redis, jobs)


@pytest.mark.parametrize("lost", [CLAIM, SETTLE_AND_CLAIM, HEARTBEAT], ids=lambda script: script.name)
async def test_the_worker_goes_on_whichever_reply_is_lost(
    redis: Any, proxy: Proxy, tmp_path: Path, lost: Script
) -> None:
    proxy.lose(lost.sha, 3)
    await work_through(proxy.url, redis, tmp_path / "data", 8)
    assert proxy.lost == [lost.sha] * 3


async def test_an_orchestrator_begins_whose_first_replies_are_lost(
    redis: Any, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.lose("XGROUP", 4)  # twice, as the client asks, for each of the loops that find no group
    await work_through(proxy.url, redis, tmp_path / "data", 1)
    assert proxy.lost


async def test_every_kind_of_reply_may_be_lost(redis: Any, proxy: Proxy, tmp_path: Path) -> None:
    proxy.loses = lambda name: proxy.seen[name] == 1
    await work_through(proxy.url, redis, tmp_path / "data", 10)
    assert Counter(proxy.lost) == dict.fromkeys(proxy.seen, 1)
    assert {SETTLE_AND_CLAIM.sha, FINISH.sha, SUBMIT.sha, "XREADGROUP", "XREAD", "XACK"} <= set(proxy.lost)


@pytest.mark.parametrize("seed", range(2))
async def test_every_job_completes_once_when_one_reply_in_ten_is_lost(
    redis: Any, proxy: Proxy, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dalston.orchestrator.loop.LEASE_MS", 500)
    monkeypatch.setattr("dalston.orchestrator.loop.BATCH", 4)  # of 16 at once, one nearly always is
    dice = random.Random(seed)
    proxy.loses = lambda _: dice.random() < 0.1
    await work_through(proxy.url, redis, tmp_path / "data", 30)
    assert len(proxy.lost) > 20


async def test_a_task_whose_settlement_redis_forgot_does_not_cost_an_attempt(
    redis: Any, job: str, valkey: str, tmp_path: Path
) -> None:
    async with connect(valkey) as client:
        second = await Office(client, tmp_path / "data").submit()
    with Queue(valkey, "preparer", "one").redis as lent:
        CLAIM(lent, engine="preparer", instance="one", lease="first")
    before = everything(redis)
    with at_work(valkey, "prepare", tmp_path / "data") as worker:
        await soon(lambda: worker.keeper.totals["completed"] == 2)
        with redis.pipeline() as back:  # to when the first of them was leased
            back.flushall()
            for key, value in before.items():
                back.restore(key, 0, value)
            back.xadd(keys.QUEUE_HIGH(engine="preparer"), {"task": "wake up"})
            back.execute()
        await soon(lambda: worker.keeper.totals["completed"] == 4)
    for one in (job, second):
        assert states(redis, one)[-2:] == [("prepare", "completed"), ("merge", "queued")]
        assert redis.hget(keys.TASK(task=f"{one}.prepare"), "attempt") == "1"
