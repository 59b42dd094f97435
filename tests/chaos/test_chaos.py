"""Everything is killed, frozen and cut off; every accepted job completes, once, with the right text.

`make chaos` runs it for longer, with other random choices each time.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys

from tests.chaos.cluster import ENGINES, LEASE_S, PATH, Cluster, CutValkey, cluster
from tests.waiting import soon

LONG = "DALSTON_CHAOS" in os.environ
ROUNDS = 4 if LONG else 1
JOBS = 200

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800 if LONG else 300)]


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What this run's random choices start from; shown when the test fails."""
    chosen = random.randrange(10**6) if LONG else 20
    print(f"seed {chosen}")
    return chosen


async def complete(house: Cluster, job: str, text: str) -> Any:
    """The job, which has completed with this text and no more than one try too many."""
    found = await house.follow(job)
    assert found["state"] == "completed", found
    assert found["text"] == text
    assert all(stage["attempt"] <= 3 for stage in found["stages"])
    return found


def assert_ended_once(house: Cluster, found: Any) -> None:
    """The job's outcome is what was first told of it, and only what counts is left of its attempts."""
    outcome = house.outcome(found["id"])
    assert outcome["state"] == found["state"]
    settled = sum(stage["state"] == "completed" for stage in outcome["stages"])
    assert len(house.attempts(found["id"])) == settled
    again = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(outcome["finished_at"]))
    assert found["finished_at"].startswith(again)


@pytest.mark.parametrize("round", range(ROUNDS))
async def test_every_accepted_job_completes_once_whatever_is_killed(
    tmp_path: Path, round: int, seed: int
) -> None:
    dice = random.Random(seed)
    async with cluster(tmp_path / "data", instances=2) as house:
        limit = asyncio.Semaphore(40)

        async def one(n: int) -> Any:
            text = f"job {n} says {n * 7919}"
            async with limit:
                job = await house.submit(text, n, seconds=round_(dice.uniform(0.05, 0.2)))
            return await complete(house, job, text)

        async def chaos() -> list[str]:
            each = [f"{kind}-{n}" for kind in (*ENGINES, "orchestrator", "gateway") for n in (0, 1)]
            dice.shuffle(each)
            victims = ["valkey", *each, *(["valkey", *each] if LONG else [])]
            for victim in victims:
                await asyncio.sleep(dice.uniform(0.3, 1.2))
                house.kill(victim)
            return victims

        found, victims = await asyncio.gather(asyncio.gather(*map(one, range(JOBS))), chaos())
        assert len(found) == JOBS
        await house.idle()
        for job in found:
            assert_ended_once(house, job)
        events = await house.redis.xrange(keys.EVENTS())
        ends = Counter(e["job"] for _, e in events if not e["task"] and e["state"] == "completed")
        assert {job["id"]: ends[job["id"]] for job in found} == {job["id"]: 1 for job in found}
        # A folder without it is an upload that its gateway did not live to accept; it goes after an hour.
        accepted = list((house.data / "jobs").glob("*/job.json"))
        assert await house.redis.zcard(keys.JOBS()) == len(accepted)
        restarts = sum(max(s["attempt"] for s in job["stages"]) > 1 for job in found)
        print(f"killed {len(victims)} processes; {restarts} of {JOBS} jobs had a task tried again")


def round_(number: float) -> float:
    """A number as a form carries it."""
    return round(number, 3)


async def test_a_lease_is_taken_over_when_its_owner_dies_or_freezes_but_not_when_redis_does(
    tmp_path: Path,
) -> None:
    await asyncio.gather(_dead_and_frozen(tmp_path / "one"), _redis_frozen(tmp_path / "two"))


async def _dead_and_frozen(data: Path) -> None:
    async with cluster(data) as house:
        await house.start_engine("fake", 1)
        jobs = [await house.submit(f"text {n}", seconds=3) for n in range(2)]
        owners = {(await house.running(job))["instance"]: job for job in jobs}
        assert len(owners) == 2
        names = {pid: name for name, pid in house.supervisor.pids.items()}
        (one, frozen), (two, dead) = ((names[int(i.split("-")[-2])], job) for i, job in owners.items())
        old = (await house.task(frozen))["token"]
        house.kill(one, signal.SIGSTOP)
        # Nobody but a new instance is to take over: the dead one's successor stays frozen too.
        pid = house.supervisor.pids[two]
        house.kill(two)
        began = time.monotonic()

        async def another() -> bool:
            return house.supervisor.pids[two] != pid

        await soon(another)
        house.kill(two, signal.SIGSTOP)
        await house.start_engine("fake", 2)
        await house.start_engine("fake", 3)
        took = {}
        for job in (frozen, dead):
            await house.running(job, attempt=2)
            took[job] = time.monotonic() - began
        print(f"taken over after {took[frozen]:.1f} s (frozen) and {took[dead]:.1f} s (killed)")
        assert max(took.values()) <= LEASE_S + 2
        found = [await complete(house, job, f"text {n}") for n, job in enumerate(jobs)]
        house.kill(one, signal.SIGCONT)
        house.kill(two, signal.SIGCONT)

        async def woken() -> bool:
            return "⊘" in house.log(one)

        await soon(woken)
        for job in found:
            assert_ended_once(house, job)
        assert not [left for left in house.attempts(frozen) if old in left]
        await house.idle()


async def _redis_frozen(data: Path) -> None:
    async with cluster(data) as house:
        job = await house.submit("waited", seconds=LEASE_S + 8)
        await house.running(job)
        house.kill("valkey", signal.SIGSTOP)
        await asyncio.sleep(LEASE_S + 3)
        house.kill("valkey", signal.SIGCONT)
        found = await complete(house, job, "waited")
        assert [stage["attempt"] for stage in found["stages"]] == [1, 1, 1]


@pytest.mark.parametrize("round", range(ROUNDS))
async def test_nothing_is_lost_with_the_last_second_of_the_append_only_file(
    tmp_path: Path, round: int, seed: int
) -> None:
    dice = random.Random(seed)
    async with cluster(tmp_path / "data", with_valkey=False) as house:
        store = CutValkey(house.valkey, house.data / "redis")
        await store.start()
        try:
            await house.start(with_valkey=False)
            await house.start_engine("fake", 1)
            watching = asyncio.create_task(store.watch())
            texts = [f"job {n} says {n * 104729}" for n in range(40)]
            jobs = [await house.submit(text, seconds=round_(dice.uniform(0, 0.15))) for text in texts]
            slow = await house.submit("never told", seconds=60, priority="high")
            followers = [asyncio.create_task(house.follow(job)) for job in jobs]

            async def some() -> bool:
                return sum(follower.done() for follower in followers) >= 8

            await soon(some)
            await house.running(slow)
            cancelled = await house.ask(f"{PATH}/{slow}/cancel", method="POST")
            assert cancelled["state"] == "cancelled"
            late = [await house.submit(f"late {n}") for n in range(4)]
            lost = await store.kill_and_cut(1.0, more=dice.randrange(200))
            watching.cancel()
            assert lost > 0
            await store.start()
            for job, text in zip(jobs + late, [*texts, *(f"late {n}" for n in range(4))], strict=True):
                await complete(house, job, text)
            await house.idle()
            for follower in followers:
                assert_ended_once(house, await follower)
            assert (await house.ask(f"{PATH}/{slow}"))["finished_at"] == cancelled["finished_at"]
            assert_ended_once(house, cancelled)
            house.leaves_nothing_stray()
            print(f"{lost} bytes of the append-only file cut off")
        finally:
            watching.cancel()
            await store.stop()


async def test_a_draining_engine_gives_its_task_back_and_a_cancelled_one_stops(tmp_path: Path) -> None:
    async with cluster(tmp_path / "data") as house:
        await house.start_engine("fake", 1)
        job = await house.submit("handed over", seconds=60)
        first = (await house.running(job))["instance"]
        names = {pid: name for name, pid in house.supervisor.pids.items()}
        began = time.monotonic()
        house.kill(names[int(first.split("-")[-2])], signal.SIGTERM)

        async def elsewhere() -> bool:
            task = await house.task(job)
            return task["state"] == "running" and task["instance"] != first

        await soon(elsewhere, LEASE_S / 3)
        handed = time.monotonic() - began
        second = await house.task(job)
        assert second["attempt"] == "1"
        began = time.monotonic()
        told = await house.ask(f"{PATH}/{job}/cancel", method="POST")
        assert told["state"] == "cancelled"
        name = {pid: name for name, pid in house.supervisor.pids.items()}[
            int(second["instance"].split("-")[-2])
        ]

        async def stopped() -> bool:
            return "⊘" in house.log(name)

        await soon(stopped, 5)
        took = time.monotonic() - began
        print(f"handed over after {handed:.2f} s, stopped {took:.2f} s after the cancel")
        assert took < 2
        await house.idle()
        assert_ended_once(house, told)


@pytest.mark.skipif(not LONG, reason="three leases long: make chaos")
async def test_an_engine_that_dies_every_time_leaves_a_dead_letter_and_others_go_on(tmp_path: Path) -> None:
    async with cluster(tmp_path / "data", instances=2) as house:
        bad = await house.submit("never", fail="crash")
        good = [await house.submit(f"text {n}") for n in range(10)]
        for n, job in enumerate(good):
            await complete(house, job, f"text {n}")
        found = await house.follow(bad)
        assert (found["state"], found["error"]["code"]) == ("failed", "engine_died")
        letters = (await house.ask("/v1/dead-letters"))["dead_letters"]
        assert [letter["job"] for letter in letters] == [bad]
        again = await house.ask(f"{PATH}/{bad}/retry", method="POST")
        assert again["state"] in ("queued", "running")
        assert (await house.follow(bad))["error"]["code"] == "engine_died"
