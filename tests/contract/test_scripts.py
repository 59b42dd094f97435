"""Every transition of a job and its tasks, against a real server."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from dalston_engine.queue import ATTEMPTS, HEARTBEAT_TTL_S, WAIT_MS, Queue
from dalston_engine.scripts import script
from dalston_engine.testing import family as family_of
from dalston_engine.types import Card, Need, Task

from dalston.store.files import PlanTask
from dalston.store.scripts import CANCEL, FINISH, SUBMIT, SWEEP

LINE = {"prepare": "", "transcribe": "prepare", "merge": "prepare transcribe"}
DIAMOND = {"prepare": "", "left": "prepare", "right": "prepare", "merge": "left right"}
SCRIPTS = [
    (package, file.name.removesuffix(".lua"))
    for package in ("dalston_engine", "dalston.store")
    for file in (files(package) / "lua").iterdir()
    if file.name != "lib.lua"
]

Open = Callable[..., Queue]


@pytest.fixture
def queue(valkey: str, redis: Any) -> Iterator[Open]:
    """Opens the queue of an engine, as one of its instances sees it."""
    opened: list[Queue] = []

    def open_(engine: str, instance: str = "one") -> Queue:
        opened.append(Queue(valkey, engine, instance))
        return opened[-1]

    yield open_
    for one in opened:
        one.redis.close()


def submit(redis: Any, job: str = "j", shape: dict[str, str] = LINE, high: int | None = None) -> str:
    """Submit a job with one task for each stage, done by the engine of that name."""
    tasks = [
        PlanTask(f"{job}.{stage}", stage, stage, [f"{job}.{need}" for need in needs.split()], "{}")
        for stage, needs in shape.items()
    ]
    plan = msgspec.json.encode(tasks).decode()
    return str(SUBMIT(redis, job=job, owner="me", request="{}", plan=plan, high=high))


def claimed(queue: Queue) -> Task:
    """The task that a claim leases."""
    task = queue.claim()
    assert task is not None
    return task


def done(queue: Queue, outcome: str = "completed", error: ErrorRecord | None = None) -> Task:
    """A task claimed and settled."""
    task = claimed(queue)
    assert queue.settle(task, outcome, 0.5, error) == "OK"
    return task


def reclaim(redis: Any, lease: int = 0) -> int:
    """Take back what outlived its lease; one of 0 ms is always outlived."""
    _, reclaimed = SWEEP(redis, lease=lease, attempts=ATTEMPTS, limit=100)
    return int(reclaimed)


def promote(redis: Any) -> int:
    """Queue what is due to be tried again."""
    promoted, _ = SWEEP(redis, lease=10**9, attempts=ATTEMPTS, limit=100)
    return int(promoted)


def everything(redis: Any) -> dict[str, bytes]:
    """All that the server holds."""
    return {key: redis.dump(key) for key in redis.scan_iter()}


def states(redis: Any, shape: dict[str, str] = LINE) -> str:
    """The states of job `j`'s tasks in their order."""
    return " ".join(redis.hget(keys.TASK(task=f"j.{stage}"), "state") for stage in shape)


def work(redis: Any) -> list[dict[str, str]]:
    """What waits for an orchestrator."""
    return [fields for _, fields in redis.xrange(keys.WORK())]


def pending(redis: Any, engine: str = "prepare") -> list[dict[str, Any]]:
    """The leases of an engine's tasks."""
    return list(redis.xpending_range(keys.QUEUE(engine=engine), keys.GROUP, "-", "+", 10))


def age(redis: Any, milliseconds: int) -> None:
    """Make the one lease of `prepare` this old."""
    (held,) = pending(redis)
    lane = keys.QUEUE(engine="prepare")
    redis.xclaim(lane, keys.GROUP, held["consumer"], 0, [held["message_id"]], idle=milliseconds, justid=True)


# Submit


def test_a_submitted_job_queues_the_tasks_that_need_nothing(redis: Any) -> None:
    assert submit(redis) == "OK"
    assert states(redis) == "queued waiting waiting"
    assert redis.hget(keys.JOB(job="j"), "state") == "queued"
    assert redis.zrange(keys.ACTIVE(), 0, -1) == redis.zrange(keys.JOBS(), 0, -1) == ["j"]


def test_a_job_submitted_twice_exists_once(redis: Any) -> None:
    submit(redis)
    before = everything(redis)
    assert submit(redis) == "EXISTS"
    assert everything(redis) == before


# Claim


def test_a_claim_leases_the_task_and_starts_the_job(redis: Any, queue: Open) -> None:
    submit(redis)
    task = claimed(queue("prepare"))
    assert (task.id, task.job, task.stage, task.engine) == ("j.prepare", "j", "prepare", "prepare")
    assert (task.attempt, task.needs) == (1, [])
    assert states(redis) == "running waiting waiting"
    assert redis.hget(keys.JOB(job="j"), "state") == "running"


def test_a_claim_tells_the_tokens_of_what_the_task_reads(redis: Any, queue: Open) -> None:
    submit(redis)
    needs = [
        Need(task.id, task.stage, task.token) for task in map(done, map(queue, ("prepare", "transcribe")))
    ]
    assert claimed(queue("merge")).needs == needs


def test_an_instance_that_holds_a_task_is_given_it_again(redis: Any, queue: Open) -> None:
    submit(redis, "a")
    submit(redis, "b")
    one = queue("prepare")
    assert claimed(one) == claimed(one) == claimed(queue("prepare"))


def test_every_task_is_claimed_once_however_many_try(redis: Any, queue: Open) -> None:
    for n in range(60):
        submit(redis, f"j{n}", {"prepare": ""}, high=n % 2 or None)

    def drain(one: Queue) -> list[str]:
        names = []
        while task := one.claim():
            names.append(task.id)
            assert one.settle(task, "completed") == "OK"
        return names

    with ThreadPoolExecutor() as pool:
        names = [
            name for found in pool.map(drain, [queue("prepare", f"i{n}") for n in range(6)]) for name in found
        ]
    assert Counter(names) == {f"j{n}.prepare": 1 for n in range(60)}
    assert len(work(redis)) == 60


def test_the_high_lane_is_served_first(redis: Any, queue: Open) -> None:
    submit(redis, "low")
    submit(redis, "high", high=1)
    assert claimed(queue("prepare")).job == "high"
    assert claimed(queue("prepare", "two")).job == "low"


def test_an_entry_of_a_task_that_is_not_waiting_is_thrown_away(redis: Any, queue: Open) -> None:
    submit(redis)
    one, lane = queue("prepare"), keys.QUEUE(engine="prepare")
    done(one)
    redis.xadd(lane, {"task": "j.prepare"})
    redis.xadd(lane, {"task": "of.a.job.long.gone"})
    assert one.claim() is None
    assert redis.xlen(lane) == len(pending(redis)) == 0


# Wait


@pytest.mark.parametrize("high", [None, 1])
def test_a_task_that_comes_between_claim_and_wait_is_not_missed(
    redis: Any, queue: Open, high: int | None
) -> None:
    one = queue("prepare")
    submit(redis, "before")
    done(one)
    assert one.claim() is None
    submit(redis, "between", high=high)
    waiting = threading.Thread(target=one.wait)
    waiting.start()
    assert_wakes(waiting)
    assert claimed(one).job == "between"


def test_a_task_that_comes_during_the_wait_ends_it(redis: Any, queue: Open) -> None:
    one = queue("prepare")
    assert one.claim() is None
    waiting = threading.Thread(target=one.wait)
    waiting.start()
    while not redis.info("clients")["blocked_clients"]:
        pass
    submit(redis)
    assert_wakes(waiting)


def assert_wakes(waiting: threading.Thread) -> None:
    """The wait ends because of an entry, long before its time-out."""
    waiting.join(WAIT_MS / 2000)
    assert not waiting.is_alive()


# Renew


def test_a_renewal_extends_the_lease_and_notes_the_progress(redis: Any, queue: Open) -> None:
    submit(redis)
    one = queue("prepare")
    task = claimed(one)
    age(redis, 60_000)
    assert one.renew(task, 0.25) == one.renew(task, None) == "OK"
    (held,) = pending(redis)
    assert held["time_since_delivered"] < 60_000
    assert held["times_delivered"] == 1
    assert redis.hget(keys.TASK(task=task.id), "progress") == "0.25"


def test_a_renewal_tells_of_a_cancelled_job(redis: Any, queue: Open) -> None:
    submit(redis)
    one = queue("prepare")
    task = claimed(one)
    assert CANCEL(redis, job="j") == "OK"
    assert one.renew(task, None) == "CANCELLED"


# Settle


def test_a_settled_task_releases_what_needs_it(redis: Any, queue: Open) -> None:
    submit(redis)
    done(queue("prepare"))
    assert states(redis) == "completed queued waiting"
    done(queue("transcribe"))
    assert states(redis) == "completed completed queued"
    assert redis.hget(keys.TASK(task="j.transcribe"), "seconds") == "0.5"


def test_the_sink_hands_the_job_to_an_orchestrator_once(redis: Any, queue: Open) -> None:
    submit(redis)
    for engine in LINE:
        assert not work(redis)
        done(queue(engine))
    assert work(redis) == [{"work": "publish", "job": "j"}]


def test_the_same_settle_again_answers_ok_and_changes_nothing(redis: Any, queue: Open) -> None:
    submit(redis, shape={"prepare": ""})
    one = queue("prepare")
    task = done(one)
    before = everything(redis)
    assert one.settle(task, "completed") == one.settle(task, "failed") == "OK"
    assert everything(redis) == before


@pytest.mark.parametrize("taken", ["queued again", "claimed by another", "claimed again", "forgotten"])
def test_a_former_owner_changes_nothing(redis: Any, queue: Open, taken: str) -> None:
    submit(redis)
    one = queue("prepare")
    task = claimed(one)
    if taken == "forgotten":
        redis.flushall()
    else:
        assert reclaim(redis) == 1
    if taken.startswith("claimed"):
        claimed(one if taken == "claimed again" else queue("prepare", "two"))
    before = everything(redis)
    assert one.renew(task, 0.5) == "LOST"
    assert {one.settle(task, outcome) for outcome in ("completed", "failed", "retry", "released")} == {"LOST"}
    assert everything(redis) == before


def test_a_failure_skips_what_depends_on_it_and_ends_the_job(redis: Any, queue: Open) -> None:
    submit(redis)
    done(queue("prepare"), "failed", ErrorRecord("invalid_audio", "No."))
    assert states(redis) == "failed skipped skipped"
    assert "invalid_audio" in redis.hget(keys.TASK(task="j.prepare"), "error")
    assert work(redis) == [{"work": "publish", "job": "j"}]


def test_independent_branches_finish_before_a_failed_job_ends(redis: Any, queue: Open) -> None:
    submit(redis, shape=DIAMOND)
    done(queue("prepare"))
    done(queue("left"), "failed")
    assert states(redis, DIAMOND) == "completed failed queued skipped"
    assert not work(redis)
    done(queue("right"))
    assert states(redis, DIAMOND) == "completed failed completed skipped"
    assert len(work(redis)) == 1


def test_a_failure_above_a_diamond_skips_each_task_once(redis: Any, queue: Open) -> None:
    submit(redis, shape=DIAMOND)
    done(queue("prepare"), "failed")
    assert states(redis, DIAMOND) == "failed skipped skipped skipped"
    assert redis.hget(keys.JOB(job="j"), "open") == "0"
    assert len(work(redis)) == 1


def test_a_task_to_retry_waits_its_time_and_is_queued_again(redis: Any, queue: Open) -> None:
    submit(redis)
    one = queue("prepare")
    first = done(one, "retry", ErrorRecord("engine_error", "Not now."))
    assert states(redis) == "retrying waiting waiting"
    assert promote(redis) == 0
    assert one.claim() is None
    redis.zadd(keys.DELAYED(), {first.id: 0})
    assert promote(redis) == 1
    again = claimed(one)
    assert (again.id, again.attempt) == (first.id, 2)
    assert again.token != first.token
    assert not redis.exists(keys.DELAYED())


def test_each_retry_waits_longer(redis: Any, queue: Open) -> None:
    submit(redis)
    one, waits = queue("prepare"), []
    for _ in range(2):
        task = done(one, "retry")
        settled, micros = redis.time()
        waits.append(redis.zscore(keys.DELAYED(), task.id) - settled * 1000 - micros / 1000)
        redis.zadd(keys.DELAYED(), {task.id: 0})
        promote(redis)
    assert 1000 < waits[1] <= 2000
    assert waits[0] <= 1000


def test_a_task_fails_when_it_was_tried_often_enough(redis: Any, queue: Open) -> None:
    submit(redis)
    one = queue("prepare")
    for _ in range(ATTEMPTS - 1):
        task = done(one, "retry")
        redis.zadd(keys.DELAYED(), {task.id: 0})
        promote(redis)
    done(one, "retry", ErrorRecord("engine_error", "Never."))
    assert states(redis) == "failed skipped skipped"
    assert "Never." in redis.hget(keys.TASK(task="j.prepare"), "error")


def test_a_released_task_goes_back_uncounted(redis: Any, queue: Open) -> None:
    submit(redis)
    done(queue("prepare"), "released")
    assert states(redis) == "queued waiting waiting"
    assert claimed(queue("prepare", "two")).attempt == 1


# Reclaim


def test_a_task_outlives_its_engine(redis: Any, queue: Open) -> None:
    submit(redis)
    dead = claimed(queue("prepare"))
    assert reclaim(redis) == 1
    assert not redis.hexists(keys.TASK(task=dead.id), "token")
    again = claimed(queue("prepare", "two"))
    assert (again.id, again.attempt) == (dead.id, 2)


def test_a_lease_that_is_kept_is_not_reclaimed(redis: Any, queue: Open) -> None:
    submit(redis)
    one = queue("prepare")
    task = claimed(one)
    age(redis, 10**9)
    one.renew(task, None)
    assert reclaim(redis, lease=1000) == 0
    assert one.settle(task, "completed") == "OK"


def test_nothing_is_reclaimed_within_one_lease_of_the_servers_start(redis: Any, queue: Open) -> None:
    submit(redis)
    claimed(queue("prepare"))
    age(redis, 10**9)
    before = everything(redis)
    assert reclaim(redis, lease=10**8) == 0
    assert everything(redis) | {keys.SWEEP(): b""} == before | {keys.SWEEP(): b""}
    assert reclaim(redis) == 1


def test_an_engine_that_dies_every_time_fails_the_task(redis: Any, queue: Open) -> None:
    submit(redis)
    for n in range(ATTEMPTS):
        assert states(redis) == "queued waiting waiting"
        claimed(queue("prepare", f"i{n}"))
        assert reclaim(redis) == 1
    assert states(redis) == "failed skipped skipped"
    assert "died 3 times" in redis.hget(keys.TASK(task="j.prepare"), "error")
    assert len(work(redis)) == 1
    assert reclaim(redis) == 0


def test_an_engine_without_a_queue_has_nothing_to_reclaim(redis: Any) -> None:
    assert reclaim(redis) == 0


# Finish


def test_a_finished_job_is_on_its_way_out(redis: Any, queue: Open) -> None:
    submit(redis)
    for engine in LINE:
        done(queue(engine))
    assert FINISH(redis, job="j", state="completed", error=None, keep=60, retention=None) == "OK"
    names = [keys.JOB(job="j"), *(keys.TASK(task=f"j.{stage}") for stage in LINE)]
    assert all(0 < redis.ttl(name) <= 60 for name in names)
    assert redis.hget(keys.JOB(job="j"), "state") == "completed"
    assert not redis.zcard(keys.ACTIVE())


def test_a_job_ends_once(redis: Any) -> None:
    submit(redis)
    FINISH(redis, job="j", state="failed", error="{}", keep=60, retention=None)
    before = everything(redis)
    assert FINISH(redis, job="j", state="completed", error=None, keep=99, retention=None) == "EXISTS"
    assert FINISH(redis, job="unknown", state="completed", error=None, keep=99, retention=None) == "EXISTS"
    assert everything(redis) == before


# Fleet


def test_a_heartbeat_shows_the_card_and_ages(redis: Any, queue: Open) -> None:
    card = Card("prepare", "prepare", "1")
    queue("prepare").heartbeat(card, "idle", 7)
    told = redis.hget(keys.ENGINE(engine="prepare"), "card")
    assert msgspec.json.decode(told, type=Card) == card
    instance = keys.INSTANCE(engine="prepare", instance="one")
    assert redis.hmget(instance, "state", "tasks") == ["idle", "7"]
    assert 0 < redis.ttl(instance) <= HEARTBEAT_TTL_S
    assert redis.zrange(keys.ENGINES(), 0, -1) == ["prepare/one"]


def test_an_instance_that_leaves_is_forgotten(redis: Any, queue: Open) -> None:
    one = queue("prepare")
    one.leave()
    one.heartbeat(Card("prepare", "prepare"), "idle", 0)
    one.leave()
    assert not redis.exists(keys.INSTANCE(engine="prepare", instance="one"))
    assert redis.zrange(keys.ENGINES(), 0, -1, withscores=True) == [("prepare/one", 0.0)]
    assert redis.exists(keys.ENGINE(engine="prepare"))


def test_an_instance_that_leaves_with_a_task_loses_only_its_lease(redis: Any, queue: Open) -> None:
    submit(redis)
    one = queue("prepare")
    claimed(one)
    one.leave()
    assert reclaim(redis) == 1
    assert claimed(queue("prepare", "two")).attempt == 2


# Reflection


@pytest.mark.parametrize(("package", "name"), SCRIPTS)
def test_a_script_uses_every_argument_it_declares(package: str, name: str) -> None:
    head, body = (files(package) / "lua" / f"{name}.lua").read_text().split("\n", 1)
    assert head.startswith("-- args: ")
    code = re.sub(r"--.*", "", body)
    assert [arg for arg in script(name, package).args if not re.search(rf"\b{arg}\b", code)] == []


@pytest.mark.parametrize(("package", "name"), SCRIPTS)
def test_a_script_refuses_other_arguments(package: str, name: str) -> None:
    one = script(name, package)
    right = dict.fromkeys(one.args, 1)
    for wrong in (right | {"other": 1}, dict(list(right.items())[1:])):
        with pytest.raises(TypeError, match=name):
            one(None, **wrong)


def test_every_key_is_described() -> None:
    body = ast.parse(inspect.getsource(keys)).body
    described = {
        before.targets[0].id
        for before, after in itertools.pairwise(body)
        if isinstance(before, ast.Assign)
        and isinstance(before.targets[0], ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    assert set(keys.ALL) <= described


@pytest.mark.parametrize("name", keys.ALL)
def test_every_key_is_told_from_all_others(name: str) -> None:
    family = keys.ALL[name]
    assert family.lifetime in {"job", "heartbeat", "permanent"}
    example = family(**dict.fromkeys(re.findall(r"{(\w+)}", family.pattern), "x"))
    assert family_of(example) is family
    assert family_of(f"{example}:x:y:z") is None
