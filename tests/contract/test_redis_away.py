"""Redis goes away and comes back: everybody waits, goes on, and nothing ends or is done twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys
from dalston_engine.queue import AWAY, connect
from dalston_engine.scripts import Script, script

from dalston.errors import Unavailable
from dalston.store import client
from dalston.store.client import wait_until_up
from dalston.store.scripts import CANCEL, FINISH, FORGET, REVIVE, SUBMIT, SWEEP
from tests.contract.model import ASKED, FINE
from tests.contract.workshop import Office, Throwaway, assert_done_once, job_file, open_office
from tests.waiting import soon, until

pytestmark = pytest.mark.anyio
TIMEOUT_S, BLOCK_MS = 0.6, 300
"""Time-outs of sockets and longest reads, for tests that outlast them."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Throwaway]:
    """A server of this test's own; it answers."""
    # What was answered is in its file: this is about connections, not about lost seconds.
    made = Throwaway(tmp_path / "redis-data", "--appendfsync", "always")
    made.start()
    try:
        with connect(made.url) as one:
            until(lambda: answers(one))
        yield made
    finally:
        made.kill()


def answers(one: Any) -> bool:
    """Whether the server does."""
    with contextlib.suppress(*AWAY):
        return bool(one.ping())
    return False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody blocks and waits for a fraction of the usual time."""
    monkeypatch.setattr("dalston_engine.queue.WAIT_MS", BLOCK_MS)
    for module in ("dalston.store.events", "dalston.orchestrator.loop"):
        monkeypatch.setattr(f"{module}.BLOCK_MS", BLOCK_MS)
    monkeypatch.setattr("dalston.orchestrator.loop.LEASE_MS", 500)


@contextlib.asynccontextmanager
async def at_work(url: str, data: Path) -> AsyncIterator[Office]:
    """Everybody at work on a server that answers."""
    async with client.connect(url) as probe:
        await wait_until_up(probe)
    async with open_office(url, data) as office:
        yield office


async def all_completed(office: Office, redis: Any, jobs: list[str]) -> None:
    """All jobs have, and each of their steps was taken once."""
    office.check()
    for job in jobs:
        await office.completed(job)
    await soon(lambda: not redis.xlen(keys.WORK()))
    assert_done_once(redis, jobs)


# Connections


async def test_everybody_reconnects_when_the_server_is_killed(
    server: Throwaway, impatient: None, tmp_path: Path
) -> None:
    async with at_work(server.url, tmp_path / "data") as office:
        jobs = [await office.submit() for _ in range(3)]
        for _ in range(4):
            server.kill()
            jobs.append(await office.submit())
            with pytest.raises(AWAY):
                await office.redis.ping()
            server.start()
            jobs.append(await office.submit())
            began = time.monotonic()
            await office.completed(jobs[-1])
            print(f"completed {time.monotonic() - began:.2f} s after the start")
        with connect(server.url) as redis:
            await all_completed(office, redis, jobs)


async def test_everybody_waits_while_the_server_does_not_answer(
    server: Throwaway, impatient: None, tmp_path: Path
) -> None:
    # A few time-outs long, so that nobody is still in the read with which it began.
    url = f"{server.url}?socket_timeout={TIMEOUT_S}"
    async with at_work(url, tmp_path / "data") as office:
        jobs = [await office.submit() for _ in range(3)]
        server.send(signal.SIGSTOP)
        try:
            submitting = asyncio.create_task(office.submit())
            done, _ = await asyncio.wait({submitting}, timeout=10)
            assert done, "a submission waits for Redis although the job is on disk"
            jobs.append(submitting.result())
            with pytest.raises(Unavailable, match="is safe"):
                await office.jobs.wait(jobs[-1], 3 * TIMEOUT_S)
        finally:
            server.send(signal.SIGCONT)
        jobs.append(await office.submit())
        with connect(server.url) as redis:
            await all_completed(office, redis, jobs)


async def test_connections_that_are_cut_cost_nothing(
    redis: Any, valkey: str, impatient: None, tmp_path: Path
) -> None:
    async with at_work(valkey, tmp_path / "data") as office:
        jobs = []
        for _ in range(40):
            jobs.append(await office.submit())
            redis.client_kill_filter(_type="normal", skipme=True)
        await all_completed(office, redis, jobs)


# Recovery


@pytest.mark.parametrize("end", ["completed", "cancelled"])
async def test_a_job_that_ended_while_redis_was_compared_with_the_files_is_left_alone(
    redis: Any, valkey: str, impatient: None, tmp_path: Path, end: str
) -> None:
    async with at_work(valkey, tmp_path / "data") as office:
        file = await office.accept()
        read = office.files.read(file.id)  # by an orchestrator that starts just now
        assert read is not None
        if end == "cancelled":
            plan = plan_of(file.id, "nobody")
            SUBMIT(redis, job=file.id, run=1, **ASKED, plan=plan, high=None)
            await office.jobs.cancel(file.id)
        else:
            await office.jobs.submit(file)
            await office.completed(file.id)
        await soon(lambda: not redis.xlen(keys.WORK()))
        told = redis.xrange(keys.EVENTS())
        await office.jobs.resume([read])
        assert redis.hget(keys.JOB(job=file.id), "state") == end
        assert redis.xrange(keys.EVENTS()) == told


def plan_of(job: str, engine: str) -> str:
    """Its plan as JSON, for an engine."""
    return json.dumps([{"id": t.id, "stage": t.stage, "engine": engine, "needs": t.needs, "params": "{}"}
                       for t in job_file(job).plan])  # fmt: skip


# Refused writes


async def refused(office: Office) -> list[str]:
    """Two jobs, accepted while the server takes no writes; they wait."""
    jobs = [await office.submit() for _ in range(2)]
    for job in jobs:
        found = await office.jobs.wait(job, 0.3)
        assert (found.state, found.stages) == ("queued", [])
    return jobs


async def test_everybody_waits_while_memory_is_full(
    redis: Any, valkey: str, impatient: None, tmp_path: Path
) -> None:
    async with at_work(valkey, tmp_path / "data") as office:
        jobs = [await office.submit()]
        await office.completed(jobs[0])
        redis.config_set("maxmemory", 1)
        try:
            jobs += await refused(office)
        finally:
            redis.config_set("maxmemory", 0)
        jobs.append(await office.submit())
        await all_completed(office, redis, jobs)


async def test_everybody_waits_while_the_server_is_a_replica(
    server: Throwaway, impatient: None, tmp_path: Path
) -> None:
    with connect(server.url) as redis:
        async with at_work(server.url, tmp_path / "data") as office:
            jobs = [await office.submit()]
            await office.completed(jobs[0])
            redis.replicaof("127.0.0.1", 1)
            jobs += await refused(office)
            redis.replicaof("NO", "ONE")
            jobs.append(await office.submit())
            await all_completed(office, redis, jobs)


async def test_a_script_that_is_refused_changes_nothing(redis: Any, valkey: str) -> None:
    submit: dict[str, Any] = {
        "run": 1,
        "owner": "me",
        "created": 1,
        "trace": None,
        "request": "{}",
        "plan": plan_of("j", "preparer"),
        "high": None,
        "key": "k",
    }
    SUBMIT(redis, job="j", **submit)
    settle = {"whole": None, "seconds": None, "audio": None, "error": None, "delay": 0, "attempts": 3}
    instance = {"engine": "preparer", "instance": "one"}
    calls: list[tuple[Script, dict[str, Any]]] = [
        (script("heartbeat"), instance | {"card": "{}", "state": "idle", "totals": "{}", "ttl": 30}),
        (SUBMIT, {"job": "k"} | submit),
        (script("claim"), instance | {"lease": "t"}),
        (script("renew"), {"task": "j.prepare", "token": "t", "progress": 0.5}),
        (script("tell"), {"task": "j.prepare", "token": "t", "n": 0, "segments": "[]"}),
        (script("settle+claim"), {"task": "j.prepare", "token": "t", "outcome": "retry", "lease": "u"}
         | instance | settle),
        (SWEEP, {"lease": 15_000, "attempts": 3, "limit": 9}),
        (CANCEL, {"job": "j", "run": 1}),
        (FINISH, {"job": "j", "run": 1, "state": "cancelled", "keep": 60, "retention": 60} | FINE),
        (REVIVE, {"job": "j", "run": 2, "all": None}),
        (FORGET, {"job": "j", "tasks": ""}),
    ]  # fmt: skip
    told = []
    for call, values in calls:
        before = {key: redis.dump(key) for key in redis.scan_iter()}
        redis.config_set("maxmemory", 1)
        try:
            call(redis, **values)
            told.append(f"{call.name} done")
        except AWAY:
            assert {key: redis.dump(key) for key in redis.scan_iter()} == before, call.name
            told.append(f"{call.name} refused")
        finally:
            redis.config_set("maxmemory", 0)
        call(redis, **values)
    print(", ".join(told))
    assert "submit refused" in told
    assert "settle+claim done" in told
