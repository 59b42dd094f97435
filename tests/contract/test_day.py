"""A day of work, with time moved by hand: nothing is left that should not be there (I16)."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys

from dalston.errors import Conflict
from dalston.orchestrator import upkeep
from dalston.store.jobs import new_id
from dalston.store.scripts import TIDY, run
from tests.contract.house import STAGES, House, house

STEP_S = 600
DAY = 24 * 3600 // STEP_S
KEPT = {
    keys.QUEUES(),
    keys.SWEEP(),
    keys.ENGINES(),
    keys.EVENTS(),
    keys.WORK(),
    *(lane(engine=engine) for engine in STAGES for lane in (keys.QUEUE, keys.QUEUE_HIGH, keys.DEAD)),
    *(keys.ENGINE(engine=engine) for engine in STAGES),
}
"""What a server without jobs may hold."""


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(5 if "DALSTON_CHAOS" in os.environ else 1))
async def test_a_day_of_retries_cancels_and_deaths_leaves_nothing_behind(
    redis: Any, valkey: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is taken back before one lease after the server came up, and it has just come up.
    monkeypatch.setattr(upkeep, "LEASE_MS", 1000)
    assert await_uptime(redis)
    dice = random.Random(seed)
    async with house(valkey, tmp_path / "data", keep=3600, retention=6 * 3600) as home:
        jobs: list[str] = []
        for _ in range(DAY):
            await ten_minutes(home, dice, jobs)
            await home.pass_time(STEP_S)
        events = [fields for _, fields in await home.redis.xrange(keys.EVENTS())]
        assert {"completed", "failed", "cancelled"} <= {one["state"] for one in events if not one["task"]}
        assert "retrying" in {one["state"] for one in events}
        for _ in range(8 * 3600 // STEP_S):
            await settle(home, dice, sure=True)
            await home.pass_time(STEP_S)
        # How long a consumer was idle cannot be moved by hand.
        await run(TIDY, home.redis, idle=-1, forget=upkeep.FORGET_MS)
        assert list(home.files.jobs.iterdir()) == list(home.files.trash.iterdir()) == []
        held = {key async for key in home.redis.scan_iter()}
        assert held - KEPT == set()
        for key in held & {keys.WORK(), *(k for k in KEPT if ":queue:" in k or ":dead:" in k)}:
            assert await home.redis.xlen(key) == 0, key
            for group in await home.redis.xinfo_groups(key):
                assert (group["pending"], group["consumers"]) == (0, 0), key


def await_uptime(redis: Any) -> bool:
    """Wait until the server is older than the lease."""
    while redis.info("server")["uptime_in_seconds"] < 2:
        redis.blpop("dalston:nothing", timeout=0.1)
    return True


async def ten_minutes(home: House, dice: random.Random, jobs: list[str]) -> None:
    """Jobs come, engines work, fail and die, people change their minds."""
    for stage in STAGES:
        home.heartbeat(stage)
    for _ in range(dice.randrange(3)):
        jobs.append(await home.submitted())
    if dice.random() < 0.1:
        home.accepted()
    if dice.random() < 0.2:
        (home.files.create(new_id()) / "source.wav").write_bytes(b"RI")
    if jobs and dice.random() < 0.3:
        job = dice.choice(jobs[-8:])
        if home.files.read(job):
            act = dice.choice([home.jobs.cancel, home.jobs.delete, home.jobs.retry])
            with contextlib.suppress(Conflict):
                await act(job)
    await settle(home, dice, sure=False)


async def settle(home: House, dice: random.Random, sure: bool) -> None:
    """Engines and an orchestrator do what there is to do; unless `sure`, not all of it goes well."""
    for _ in range(6):
        for stage in STAGES:
            if sure or dice.random() < 0.7:
                home.step(stage)
            elif dice.random() < 0.3:
                instance = f"{dice.randrange(10**6)}"
                held = home.queue(stage, instance).claim()
                if held is not None and dice.random() < 0.5:
                    home.write(held)  # and it dies before it can tell
            else:
                home.step(stage, dice.choice(["retry", "retry", "failed", "postponed", "released"]))
        await home.orchestrate()
    await home.upkeep()
    await home.orchestrator.upkeep.make_space()
    await home.orchestrator.upkeep.clean()
