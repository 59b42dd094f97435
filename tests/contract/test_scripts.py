"""Every transition of a job and its tasks, against a real server.

I1, I2, … are the invariants of docs/architecture/01-state-machine.md.
"""

from __future__ import annotations

import ast
import contextlib
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
from dalston_engine.queue import ATTEMPTS, HEARTBEAT_TTL_S, POSTPONE_MS, WAIT_MS, Queue
from dalston_engine.scripts import script
from dalston_engine.testing import family as family_of
from dalston_engine.types import Card, Need, Task

from dalston.orchestrator.growth import Change, grown, moved
from dalston.orchestrator.upkeep import LEASE_MS as LEASE
from dalston.store.files import PlanTask
from dalston.store.scripts import CANCEL, FAIL, FINISH, FORGET, REPLAN, REVIVE, SHOW, SUBMIT, SWEEP, TIDY
from dalston.store.snapshot import Snapshot
from tests.contract.model import ASKED, FINE

LINE = {"prepare": "", "transcribe": "prepare", "merge": "prepare transcribe"}
DIAMOND = {"prepare": "", "left": "prepare", "right": "prepare", "merge": "left right"}
CHAIN = {"prepare": "", "align": "prepare", "diarize": "align", "merge": "diarize"}
GROWING: dict[str, Any] = {"prepare": {"grows": True}, "transcribe": {"each": True}}
NO = ErrorRecord("engine_error", "No.")
ENDINGS = ("completed", "failed", "retry", "postponed", "released")
SCRIPTS = [
    (package, file.name.removesuffix(".lua"))
    for package in ("dalston_engine", "dalston.store")
    for file in (files(package) / "lua").iterdir()
    if file.name != "lib.lua"
]

Open = Callable[..., Queue]
Prepare = Callable[[Any, Open], dict[str, Any]]


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


def planned(job: str, shape: dict[str, str], **changes: Any) -> list[PlanTask]:
    """A plan with one task for each stage, done by the engine of that name."""
    return [
        msgspec.structs.replace(
            PlanTask(f"{job}.{stage}", stage, stage, [f"{job}.{need}" for need in needs.split()], "{}"),
            **changes.get(stage, {}),
        )
        for stage, needs in shape.items()
    ]


def submit(
    redis: Any, job: str = "j", shape: dict[str, str] = LINE, high: int | None = None, **changes: Any
) -> str:
    """Submit a job with one task for each stage."""
    plan = msgspec.json.encode(planned(job, shape, **changes)).decode()
    return str(SUBMIT(redis, job=job, run=1, **ASKED, plan=plan, high=high))


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


def given_up(redis: Any, queue: Queue) -> None:
    """A task that failed at every attempt."""
    for _ in range(ATTEMPTS):
        done(queue, "retry", NO)
        make_due(redis)
        promote(redis)


def sweep(redis: Any, lease: int) -> list[int]:
    """Queue what is due, take back what outlived its lease; answers how many of each."""
    return list(SWEEP(redis, lease=lease, attempts=ATTEMPTS, limit=100))


def reclaim(redis: Any) -> int:
    """Take back every task: a lease of 0 ms is always outlived, and nobody was away."""
    redis.delete(keys.SWEEP())
    return sweep(redis, lease=0)[1]


def promote(redis: Any) -> int:
    """Queue what is due to be tried again."""
    return sweep(redis, lease=10**9)[0]


def make_due(redis: Any) -> None:
    """Let every delay have passed."""
    for task in redis.zrange(keys.DELAYED(), 0, -1):
        redis.zadd(keys.DELAYED(), {task: 0})


def end(redis: Any, state: str = "failed", retention: int | None = None, run: int = 1) -> str:
    """End job `j`."""
    return str(FINISH(redis, job="j", run=run, state=state, keep=60, retention=retention, **FINE))


def revive(redis: Any, run: int = 2, all: int | None = None) -> str:
    """Begin another run of job `j`, or start its first one over."""
    return str(REVIVE(redis, job="j", run=1 if all else run, all=all))


def fail(redis: Any, stage: str = "prepare", absent: int = 60) -> str:
    """Fail a task of job `j` whose engine stays away."""
    error = msgspec.json.encode(NO).decode()
    return str(FAIL(redis, task=f"j.{stage}", engine=stage, error=error, absent=absent, lease=LEASE))


def replan(redis: Any, change: Change, version: int = 1) -> str:
    """Change the plan of job `j`."""
    remove, order = " ".join(change.remove), " ".join(change.order)
    plan = msgspec.json.encode(change.add).decode()
    return str(REPLAN(redis, job="j", version=version, remove=remove, plan=plan, order=order))


def shown(redis: Any) -> Snapshot:
    """Job `j` at this moment."""
    found = Snapshot.read(SHOW(redis, job="j"))
    assert found is not None
    return found


def plan_of(redis: Any) -> list[PlanTask]:
    """The plan of job `j` as it is by now."""
    return [task.plan for task in shown(redis).tasks]


def away(redis: Any, stage: str, engine: str) -> Change:
    """The change that gives a task of job `j` to another engine."""
    plan = plan_of(redis)
    fresh = [msgspec.structs.replace(task, engine=engine) for task in plan if task.stage == stage]
    change = moved(plan, [f"j.{stage}"], fresh)
    assert change is not None
    return change


def everything(redis: Any) -> dict[str, bytes]:
    """All that the server holds."""
    return {key: redis.dump(key) for key in redis.scan_iter()}


@contextlib.contextmanager
def nothing_changes(redis: Any) -> Iterator[None]:
    """What happens meanwhile changes no key, and no key's time to live."""
    before = everything(redis), {key: redis.pexpiretime(key) for key in redis.scan_iter()}
    yield
    assert (everything(redis), {key: redis.pexpiretime(key) for key in redis.scan_iter()}) == before


def states(redis: Any, shape: dict[str, str] = LINE) -> str:
    """The states of job `j`'s tasks in their order."""
    return " ".join(redis.hget(keys.TASK(task=f"j.{stage}"), "state") for stage in shape)


def opened(redis: Any) -> int:
    """How many tasks of job `j` are open, by its own count."""
    return int(redis.hget(keys.JOB(job="j"), "open"))


def lanes(redis: Any) -> list[str]:
    """Every lane there is."""
    engines = redis.smembers(keys.QUEUES())
    named = [lane(engine=engine) for engine in engines for lane in (keys.QUEUE, keys.QUEUE_HIGH)]
    return [lane for lane in named if redis.exists(lane)]


def leases(redis: Any, stream: str) -> list[tuple[str, str, int]]:
    """What the consumers of a stream hold: entry, name, and how often it was given out."""
    return [
        (one["message_id"], one["consumer"], one["times_delivered"])
        for group in redis.xinfo_groups(stream)
        for one in redis.xpending_range(stream, group["name"], "-", "+", 10)
    ]


def leased(redis: Any) -> int:
    """How many leases there are."""
    return sum(len(leases(redis, lane)) for lane in lanes(redis))


def placed(redis: Any) -> list[str]:
    """Every task that waits or runs, once for each place it is in."""
    entries = [fields["task"] for lane in lanes(redis) for _, fields in redis.xrange(lane)]
    return sorted(entries + redis.zrange(keys.DELAYED(), 0, -1))


def letters(redis: Any, engine: str = "prepare") -> list[str]:
    """The tasks of which an engine's dead letters tell."""
    return [fields["task"] for _, fields in redis.xrange(keys.DEAD(engine=engine))]


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
    """I4, I11"""
    assert submit(redis) == "OK"
    assert states(redis) == "queued waiting waiting"
    assert redis.hget(keys.JOB(job="j"), "state") == "queued"
    assert redis.zrange(keys.ACTIVE(), 0, -1) == redis.zrange(keys.JOBS(), 0, -1) == ["j"]


def test_a_job_submitted_twice_exists_once(redis: Any) -> None:
    """I9"""
    submit(redis)
    with nothing_changes(redis):
        assert submit(redis) == "EXISTS"


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
    """I9"""
    submit(redis, "a")
    submit(redis, "b")
    one = queue("prepare")
    assert claimed(one) == claimed(one) == claimed(queue("prepare"))


def test_every_task_is_claimed_once_however_many_try(redis: Any, queue: Open) -> None:
    """I1, I6"""
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
    """I8"""
    submit(redis, "low")
    submit(redis, "high", high=1)
    assert claimed(queue("prepare")).job == "high"
    assert claimed(queue("prepare", "two")).job == "low"


def test_an_entry_of_a_task_that_is_not_waiting_is_thrown_away(redis: Any, queue: Open) -> None:
    """I1"""
    submit(redis)
    one, lane = queue("prepare"), keys.QUEUE(engine="prepare")
    settled = done(one)
    redis.hset(keys.TASK(task=settled.id), "entry", redis.xadd(lane, {"task": settled.id}))
    redis.xadd(lane, {"task": "of.a.job.long.gone"})
    assert one.claim() is None
    assert redis.xlen(lane) == len(pending(redis)) == 0


def test_a_task_is_claimed_through_its_own_entry_alone(redis: Any, queue: Open) -> None:
    """I1"""
    redis.xadd(keys.QUEUE(engine="prepare"), {"task": "j.prepare"})
    submit(redis)
    assert claimed(queue("prepare")).id == "j.prepare"
    assert placed(redis) == ["j.prepare"]
    assert queue("prepare", "two").claim() is None


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
    assert CANCEL(redis, job="j", run=1) == "OK"
    assert one.renew(task, None) == "CANCELLED"


# Settle


def test_a_settled_task_releases_what_needs_it(redis: Any, queue: Open) -> None:
    """I4"""
    submit(redis)
    done(queue("prepare"))
    assert states(redis) == "completed queued waiting"
    done(queue("transcribe"))
    assert states(redis) == "completed completed queued"
    assert redis.hget(keys.TASK(task="j.transcribe"), "seconds") == "0.5"


def test_the_sink_hands_the_job_to_an_orchestrator_once(redis: Any, queue: Open) -> None:
    """I6"""
    submit(redis)
    for engine in LINE:
        assert not work(redis)
        done(queue(engine))
    assert work(redis) == [{"work": "publish", "job": "j"}]


def test_the_same_settle_again_answers_ok_and_changes_nothing(redis: Any, queue: Open) -> None:
    """I2, I9"""
    submit(redis, shape={"prepare": ""})
    one = queue("prepare")
    task = done(one)
    with nothing_changes(redis):
        assert {one.settle(task, outcome) for outcome in ENDINGS} == {"OK"}


@pytest.mark.parametrize(
    "taken", ["queued again", "claimed by another", "claimed again", "settled by another", "lost by redis"]
)
def test_a_former_owner_changes_nothing(redis: Any, queue: Open, taken: str) -> None:
    """I3"""
    submit(redis)
    one, two = queue("prepare"), queue("prepare", "two")
    task = claimed(one)
    if taken == "lost by redis":
        redis.flushall()
    else:
        assert reclaim(redis) == 1
    if taken.startswith("claimed"):
        claimed(one if taken == "claimed again" else two)
    if taken.startswith("settled"):
        done(two)
    assert_powerless(redis, one, task)


def assert_powerless(redis: Any, queue: Queue, task: Task) -> None:
    """Whoever holds this lease no longer owns the task."""
    with nothing_changes(redis):
        assert queue.renew(task, 0.5) == "LOST"
        assert {queue.settle(task, outcome, 1.0, NO) for outcome in ENDINGS} == {"LOST"}


def test_a_failure_skips_what_depends_on_it_and_ends_the_job(redis: Any, queue: Open) -> None:
    """I6, I7"""
    submit(redis)
    done(queue("prepare"), "failed", ErrorRecord("invalid_audio", "No."))
    assert states(redis) == "failed skipped skipped"
    assert "invalid_audio" in redis.hget(keys.TASK(task="j.prepare"), "error")
    assert work(redis) == [{"work": "publish", "job": "j"}]


def test_independent_branches_finish_before_a_failed_job_ends(redis: Any, queue: Open) -> None:
    """I6, I7"""
    submit(redis, shape=DIAMOND)
    done(queue("prepare"))
    done(queue("left"), "failed")
    assert states(redis, DIAMOND) == "completed failed queued skipped"
    assert not work(redis)
    done(queue("right"))
    assert states(redis, DIAMOND) == "completed failed completed skipped"
    assert len(work(redis)) == 1


def test_a_failure_above_a_diamond_skips_each_task_once(redis: Any, queue: Open) -> None:
    """I6, I7"""
    submit(redis, shape=DIAMOND)
    done(queue("prepare"), "failed")
    assert states(redis, DIAMOND) == "failed skipped skipped skipped"
    assert redis.hget(keys.JOB(job="j"), "open") == "0"
    assert len(work(redis)) == 1


def test_a_task_to_retry_waits_its_time_and_is_queued_again(redis: Any, queue: Open) -> None:
    """I1"""
    submit(redis)
    one = queue("prepare")
    first = done(one, "retry", ErrorRecord("engine_error", "Not now."))
    assert states(redis) == "retrying waiting waiting"
    assert promote(redis) == 0
    assert one.claim() is None
    make_due(redis)
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
        make_due(redis)
        promote(redis)
    assert 1000 < waits[1] <= 2000
    assert waits[0] <= 1000


def test_a_task_fails_when_it_was_tried_often_enough(redis: Any, queue: Open) -> None:
    """I5"""
    submit(redis)
    given_up(redis, queue("prepare"))
    assert states(redis) == "failed skipped skipped"
    assert "No." in redis.hget(keys.TASK(task="j.prepare"), "error")
    assert queue("prepare").claim() is None


def test_a_released_task_goes_back_uncounted(redis: Any, queue: Open) -> None:
    """I5"""
    submit(redis)
    for _ in range(ATTEMPTS + 1):
        done(queue("prepare"), "released")
        assert states(redis) == "queued waiting waiting"
    assert claimed(queue("prepare", "two")).attempt == 1


def test_a_postponed_task_waits_uncounted(redis: Any, queue: Open) -> None:
    """I5"""
    submit(redis)
    one = queue("prepare")
    for _ in range(ATTEMPTS + 1):
        task = done(one, "postponed", NO)
        settled, micros = redis.time()
        assert task.attempt == 1
        assert states(redis) == "retrying waiting waiting"
        assert one.claim() is None
        wait = redis.zscore(keys.DELAYED(), task.id) - settled * 1000 - micros / 1000
        assert POSTPONE_MS / 2 < wait <= POSTPONE_MS
        make_due(redis)
        assert promote(redis) == 1
    assert letters(redis) == []


@pytest.mark.parametrize("outcome", ENDINGS)
def test_a_settled_lease_is_worth_nothing_once_the_task_runs_again(
    redis: Any, queue: Open, outcome: str
) -> None:
    """I3, I9: the reply was lost, and the same settle comes late."""
    submit(redis, shape={"prepare": ""})
    one, two = queue("prepare"), queue("prepare", "two")
    task = done(one, outcome, NO)
    make_due(redis)
    promote(redis)
    again = two.claim()
    assert (again is None) == (outcome in {"completed", "failed"})
    with nothing_changes(redis):
        assert one.settle(task, outcome, 0.5, NO) == ("LOST" if again else "OK")


# Optional tasks


@pytest.mark.parametrize("how", ["failed", "retried in vain", "died in vain", "stayed away"])
def test_what_needs_an_optional_task_goes_on_without_it(redis: Any, queue: Open, how: str) -> None:
    """I4, I7"""
    submit(redis, shape=DIAMOND, left={"required": False})
    done(queue("prepare"))
    if how == "failed":
        done(queue("left"), "failed", NO)
    elif how == "retried in vain":
        given_up(redis, queue("left"))
    elif how == "died in vain":
        for _ in range(ATTEMPTS):
            claimed(queue("left"))
            reclaim(redis)
    else:
        swept(redis, since=0)
        assert fail(redis, "left") == "OK"
    assert states(redis, DIAMOND) == "completed failed queued waiting"
    right = done(queue("right"))
    assert claimed(queue("merge")).needs == [Need(right.id, "right", right.token)]
    assert opened(redis) == 1


def test_a_chain_of_optional_tasks_that_fail_is_gone_without(redis: Any, queue: Open) -> None:
    """I4, I7"""
    submit(redis, shape=CHAIN, align={"required": False}, diarize={"required": False})
    done(queue("prepare"))
    done(queue("align"), "failed", NO)
    assert claimed(queue("diarize")).needs == []
    done(queue("diarize"), "failed", NO)
    assert states(redis, CHAIN) == "completed failed failed queued"
    assert done(queue("merge")).needs == []
    assert work(redis) == [{"work": "publish", "job": "j"}]


def test_an_optional_task_is_skipped_when_what_it_needs_has_failed(redis: Any, queue: Open) -> None:
    """I7"""
    submit(redis, shape=CHAIN, diarize={"required": False})
    done(queue("prepare"))
    done(queue("align"), "failed", NO)
    assert states(redis, CHAIN) == "completed failed skipped skipped"
    assert opened(redis) == 0


# Reclaim


def test_a_task_outlives_its_engine(redis: Any, queue: Open) -> None:
    """I3"""
    submit(redis)
    dead = claimed(queue("prepare"))
    assert reclaim(redis) == 1
    assert (placed(redis), leased(redis)) == ([dead.id], 0)
    assert not redis.hexists(keys.TASK(task=dead.id), "token")
    again = claimed(queue("prepare", "two"))
    assert (again.id, again.attempt) == (dead.id, 2)


def test_a_lease_that_is_kept_is_not_reclaimed(redis: Any, queue: Open) -> None:
    """I10"""
    submit(redis)
    one, lease = queue("prepare"), lease_in_force(redis)
    task = claimed(one)
    age(redis, 10**9)
    assert one.renew(task, None) == "OK"
    assert sweep(redis, lease) == [0, 0]
    assert one.settle(task, "completed") == "OK"


def test_a_lease_is_reclaimed_once_it_has_run_out(redis: Any, queue: Open) -> None:
    submit(redis)
    claimed(queue("prepare"))
    lease = lease_in_force(redis)
    age(redis, lease // 2)
    assert sweep(redis, lease) == [0, 0]
    age(redis, lease + 1)
    assert sweep(redis, lease) == [0, 1]
    assert states(redis) == "queued waiting waiting"


def test_nothing_is_reclaimed_within_one_lease_of_the_servers_start(redis: Any, queue: Open) -> None:
    """I10"""
    submit(redis)
    claimed(queue("prepare"))
    age(redis, 10**9)
    lease = redis.info("server")["uptime_in_seconds"] * 1000 + 60_000
    swept(redis, since=0)
    before = everything(redis)
    assert sweep(redis, lease) == [0, 0]
    assert everything(redis) | {keys.SWEEP(): b""} == before | {keys.SWEEP(): b""}


def test_nothing_is_reclaimed_for_one_lease_after_nobody_swept(redis: Any, queue: Open) -> None:
    """I10: whoever was away as long as Redis could not renew, and comes back as late as its sweepers."""
    submit(redis)
    claimed(queue("prepare"))
    age(redis, 10**9)
    lease = lease_in_force(redis)
    swept(redis, ago=lease // 3 + 1, since=0)
    assert sweep(redis, lease) == [0, 0]
    at = clock(redis)
    assert at + lease - 1000 < int(redis.hget(keys.SWEEP(), "from")) <= at + lease
    swept(redis, ago=-60_000, since=at + 60_000)
    assert sweep(redis, lease) == [0, 0]
    swept(redis, ago=-60_000, since=at - 1)
    assert sweep(redis, lease) == [0, 1]


def test_a_clock_that_is_set_back_delays_no_reclaiming_for_more_than_a_lease(redis: Any, queue: Open) -> None:
    """I10"""
    submit(redis)
    claimed(queue("prepare"))
    lease, hours = lease_in_force(redis), 7_200_000
    swept(redis, ago=-hours, since=clock(redis) + hours)
    assert sweep(redis, lease) == [0, 0]
    assert int(redis.hget(keys.SWEEP(), "from")) <= clock(redis) + lease


def test_what_is_due_is_queued_even_while_leases_do_not_count(redis: Any, queue: Open) -> None:
    submit(redis)
    done(queue("prepare"), "retry", NO)
    make_due(redis)
    assert sweep(redis, lease=10**9) == [1, 0]
    assert states(redis) == "queued waiting waiting"


def test_a_sweep_does_no_more_than_its_limit(redis: Any, queue: Open) -> None:
    for n in range(3):
        submit(redis, f"j{n}")
        done(queue("prepare"), "postponed", NO)
    make_due(redis)
    answers = [SWEEP(redis, lease=10**9, attempts=ATTEMPTS, limit=2) for _ in range(3)]
    assert answers == [[2, 0], [1, 0], [0, 0]]


def clock(redis: Any) -> int:
    """The server's time in milliseconds."""
    seconds, micros = redis.time()
    return int(seconds * 1000 + micros // 1000)


def swept(redis: Any, since: int, ago: int = -60_000) -> None:
    """Let the last sweep have been `ago` ms ago, and leases count from `since` on."""
    redis.hset(keys.SWEEP(), mapping={"at": clock(redis) - ago, "from": since})


def lease_in_force(redis: Any) -> int:
    """A lease that leases are held against: the server is up for as long, and others sweep."""
    while not (uptime := redis.info("server")["uptime_in_seconds"]):
        pass  # the server came up within this second
    swept(redis, since=0)
    return int(uptime * 1000)


def test_an_engine_that_dies_every_time_fails_the_task(redis: Any, queue: Open) -> None:
    """I5"""
    submit(redis)
    for n in range(ATTEMPTS):
        assert states(redis) == "queued waiting waiting"
        claimed(queue("prepare", f"i{n}"))
        assert reclaim(redis) == 1
    assert states(redis) == "failed skipped skipped"
    assert "died 3 times" in redis.hget(keys.TASK(task="j.prepare"), "error")
    assert queue("prepare").claim() is None
    assert len(work(redis)) == 1
    assert reclaim(redis) == 0


def taken(redis: Any, task: str) -> str:
    """An entry of a task beside its own, held by some instance for long."""
    lane = keys.QUEUE(engine="prepare")
    entry = str(redis.xadd(lane, {"task": task}))
    redis.xgroup_create(lane, keys.GROUP, "0")
    redis.xreadgroup(keys.GROUP, "ghost", {lane: ">"})
    redis.xclaim(lane, keys.GROUP, "ghost", 0, [entry], idle=10**9, justid=True)
    return entry


def test_a_lease_that_is_not_the_tasks_own_is_dropped(redis: Any, queue: Open) -> None:
    """I1, I10"""
    taken(redis, "j.prepare")
    submit(redis)
    one = queue("prepare")
    task = claimed(one)
    assert sweep(redis, lease_in_force(redis)) == [0, 0]
    assert (states(redis), placed(redis)) == ("running waiting waiting", [task.id])
    assert one.settle(task, "completed") == "OK"


def test_a_lease_of_a_task_that_does_not_run_is_dropped(redis: Any, queue: Open) -> None:
    """I1, I2"""
    entry = taken(redis, "j.prepare")
    submit(redis)
    done(queue("prepare"))
    redis.hset(keys.TASK(task="j.prepare"), "entry", entry)
    assert reclaim(redis) == 0
    assert (states(redis), placed(redis)) == ("completed queued waiting", ["j.transcribe"])


def test_a_delay_of_a_task_that_is_not_retrying_is_dropped(redis: Any, queue: Open) -> None:
    """I1, I2"""
    submit(redis)
    task = done(queue("prepare"))
    redis.zadd(keys.DELAYED(), {task.id: 0, "of.a.job.long.gone": 0})
    promote(redis)
    assert (states(redis), placed(redis)) == ("completed queued waiting", ["j.transcribe"])


def test_an_engine_without_a_queue_has_nothing_to_reclaim(redis: Any) -> None:
    assert reclaim(redis) == 0


# Dead letters


def test_a_task_given_up_after_its_last_attempt_leaves_a_letter(redis: Any, queue: Open) -> None:
    submit(redis)
    one = queue("prepare")
    done(one, "retry", NO)
    assert letters(redis) == []
    make_due(redis)
    promote(redis)
    claimed(one)
    reclaim(redis)
    assert letters(redis) == []
    done(one, "retry", NO)
    assert letters(redis) == ["j.prepare"]
    ((_, fields),) = redis.xrange(keys.DEAD(engine="prepare"))
    assert msgspec.json.decode(fields["error"], type=ErrorRecord) == NO


def test_a_task_whose_engine_died_too_often_leaves_a_letter(redis: Any, queue: Open) -> None:
    submit(redis)
    for _ in range(ATTEMPTS):
        assert letters(redis) == []
        claimed(queue("prepare"))
        reclaim(redis)
    assert letters(redis) == ["j.prepare"]


def test_a_task_whose_engine_stays_away_leaves_a_letter(redis: Any) -> None:
    submit(redis)
    swept(redis, since=0)
    assert fail(redis) == "OK"
    assert letters(redis) == ["j.prepare"]


def test_a_task_that_cannot_succeed_leaves_no_letter(redis: Any, queue: Open) -> None:
    submit(redis)
    done(queue("prepare"), "failed", NO)
    assert letters(redis) == []


@pytest.mark.parametrize("all", [None, 1])
def test_a_letter_is_thrown_away_when_its_job_runs_again(redis: Any, queue: Open, all: int | None) -> None:
    submit(redis)
    given_up(redis, queue("prepare"))
    end(redis)
    assert letters(redis) == ["j.prepare"]
    assert revive(redis, all=all) == "OK"
    assert letters(redis) == []
    given_up(redis, queue("prepare"))
    assert letters(redis) == ["j.prepare"]


def test_a_letter_is_thrown_away_with_its_job(redis: Any, queue: Open) -> None:
    submit(redis)
    given_up(redis, queue("prepare"))
    FORGET(redis, job="j", tasks=None)
    assert letters(redis) == []


def test_letters_of_deleted_jobs_are_tidied_away(redis: Any, queue: Open) -> None:
    """I16: the keys of an ended job, and with them the names of its letters, may be gone by then."""
    for job in ("j", "other"):
        submit(redis, job)
        given_up(redis, queue("prepare"))
    redis.delete(keys.JOB(job="j"), *(keys.TASK(task=f"j.{stage}") for stage in LINE))
    FORGET(redis, job="j", tasks=None)
    assert letters(redis) == ["j.prepare", "other.prepare"]
    assert tidy(redis) == 1
    assert letters(redis) == ["other.prepare"]


# Cancel


def bring(redis: Any, queue: Queue, state: str) -> Task | None:
    """Bring the first task of job `j` into an open state; answers its last lease."""
    if state == "queued":
        return None
    return claimed(queue) if state == "running" else done(queue, "postponed", NO)


@pytest.mark.parametrize("state", ["queued", "running", "retrying"])
def test_cancelling_ends_every_open_task(redis: Any, queue: Open, state: str) -> None:
    """I1, I6"""
    submit(redis)
    one = queue("prepare")
    bring(redis, one, state)
    assert states(redis) == f"{state} waiting waiting"
    assert CANCEL(redis, job="j", run=1) == "OK"
    assert states(redis) == "cancelled cancelled cancelled"
    assert (placed(redis), leased(redis), opened(redis)) == ([], 0, 0)
    assert work(redis) == [{"work": "publish", "job": "j"}]
    assert (one.claim(), promote(redis), reclaim(redis)) == (None, 0, 0)


def test_cancelling_leaves_ended_tasks_as_they_are(redis: Any, queue: Open) -> None:
    """I2"""
    submit(redis, shape=DIAMOND)
    done(queue("prepare"))
    done(queue("left"), "failed", NO)
    assert CANCEL(redis, job="j", run=1) == "OK"
    assert states(redis, DIAMOND) == "completed failed cancelled skipped"


def test_the_owner_of_a_cancelled_task_is_told_and_changes_nothing(redis: Any, queue: Open) -> None:
    """I2"""
    submit(redis)
    one = queue("prepare")
    task = claimed(one)
    CANCEL(redis, job="j", run=1)
    with nothing_changes(redis):
        assert one.renew(task, 0.5) == "CANCELLED"
        assert {one.settle(task, outcome, 1.0, NO) for outcome in ENDINGS} == {"CANCELLED"}


def test_a_former_owner_of_a_cancelled_task_changes_nothing(redis: Any, queue: Open) -> None:
    """I3"""
    submit(redis)
    one = queue("prepare")
    task = claimed(one)
    reclaim(redis)
    CANCEL(redis, job="j", run=1)
    assert_powerless(redis, one, task)


def test_a_job_with_nothing_open_is_ending(redis: Any, queue: Open) -> None:
    submit(redis, shape={"prepare": ""})
    done(queue("prepare"))
    with nothing_changes(redis):
        assert CANCEL(redis, job="j", run=1) == "ENDING"


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_a_job_that_has_ended_is_not_cancelled(redis: Any, state: str) -> None:
    submit(redis)
    end(redis, state)
    with nothing_changes(redis):
        assert CANCEL(redis, job="j", run=1) == state


def test_an_unknown_job_is_not_cancelled(redis: Any) -> None:
    assert CANCEL(redis, job="j", run=1) == "NONE"
    assert everything(redis) == {}


# Replan: growing


def test_a_task_that_grows_holds_what_needs_it(redis: Any, queue: Open) -> None:
    """I4"""
    submit(redis, shape=LINE, **GROWING)
    done(queue("prepare"))
    assert states(redis) == "completed waiting waiting"
    assert work(redis) == [{"work": "grow", "job": "j", "task": "j.prepare"}]
    assert opened(redis) == 2


def test_a_task_that_found_no_parts_holds_nothing(redis: Any, queue: Open) -> None:
    """I4"""
    submit(redis, **GROWING)
    task, before = claimed(queue("prepare")), plan_of(redis)
    assert queue("prepare").settle(task, "completed", whole=True) == "OK"
    assert states(redis) == "completed queued waiting"
    assert work(redis) == []
    with nothing_changes(redis):
        assert queue("prepare").settle(task, "completed", whole=True) == "OK"
    assert replan(redis, grown(before, None)) == "OK", "whoever heard of the task earlier may still ask"
    assert done(queue("transcribe")).part is None
    done(queue("merge"))
    assert work(redis) == [{"work": "publish", "job": "j"}]


def test_a_plan_that_does_not_grow_goes_on(redis: Any, queue: Open) -> None:
    submit(redis, **GROWING)
    done(queue("prepare"))
    assert replan(redis, grown(plan_of(redis), None)) == "OK"
    assert states(redis) == "completed queued waiting"
    assert (done(queue("transcribe")).part, opened(redis)) == (None, 1)
    done(queue("merge"))
    assert work(redis)[1:] == [{"work": "publish", "job": "j"}]


@pytest.mark.parametrize("parts", [1, 3])
def test_a_plan_grows_one_task_for_each_part(redis: Any, queue: Open, parts: int) -> None:
    """I1, I4, I6"""
    submit(redis, **GROWING)
    first = done(queue("prepare"))
    assert replan(redis, grown(plan_of(redis), parts)) == "OK"
    assert not redis.exists(keys.TASK(task="j.transcribe"))
    assert opened(redis) == parts + 1
    tasks = [done(queue("transcribe")) for _ in range(parts)]
    assert [(task.id, task.part) for task in tasks] == [(f"j.transcribe.{n}", n) for n in range(parts)]
    assert [task.needs for task in tasks] == [[Need(first.id, "prepare", first.token)]] * parts
    assert queue("transcribe").claim() is None
    merge = done(queue("merge"))
    assert merge.needs == [Need(task.id, task.stage, task.token) for task in (first, *tasks)]
    assert [task.plan.id for task in shown(redis).tasks] == [first.id, *(task.id for task in tasks), merge.id]
    assert work(redis)[1:] == [{"work": "publish", "job": "j"}]


def test_a_plan_that_grew_to_nothing_goes_on_behind_it(redis: Any, queue: Open) -> None:
    submit(redis, **GROWING)
    done(queue("prepare"))
    assert replan(redis, grown(plan_of(redis), 0)) == "OK"
    assert [need.stage for need in claimed(queue("merge")).needs] == ["prepare"]


def test_a_grown_plan_keeps_the_lane_of_its_job(redis: Any, queue: Open) -> None:
    """I8"""
    submit(redis, high=1, **GROWING)
    done(queue("prepare"))
    replan(redis, grown(plan_of(redis), 2))
    assert redis.xlen(keys.QUEUE_HIGH(engine="transcribe")) == 2


def test_a_growing_task_that_fails_for_good_holds_nothing(redis: Any, queue: Open) -> None:
    """I7"""
    submit(redis, **GROWING)
    done(queue("prepare"), "failed", NO)
    assert states(redis) == "failed skipped skipped"
    assert work(redis) == [{"work": "publish", "job": "j"}]


def test_a_plan_of_another_version_is_not_changed(redis: Any, queue: Open) -> None:
    """I9: the plan has grown already, by this orchestrator or by another one."""
    submit(redis, **GROWING)
    done(queue("prepare"))
    change = grown(plan_of(redis), 2)
    with nothing_changes(redis):
        assert replan(redis, change, version=0) == replan(redis, change, version=2) == "STALE"
    assert replan(redis, change) == "OK"
    with nothing_changes(redis):
        assert replan(redis, change) == "STALE"


@pytest.mark.parametrize("outcome", ["", "completed", "failed"])
def test_a_plan_is_not_changed_when_a_task_to_take_out_has_started(
    redis: Any, queue: Open, outcome: str
) -> None:
    """I2"""
    submit(redis)
    change = away(redis, "prepare", "other")
    task = claimed(queue("prepare"))
    if outcome:
        queue("prepare").settle(task, outcome)
    with nothing_changes(redis):
        assert replan(redis, change) == "STALE"


@pytest.mark.parametrize("job", ["ended", "unknown"])
def test_the_plan_of_a_job_that_does_not_run_is_not_changed(redis: Any, job: str) -> None:
    submit(redis)
    change = away(redis, "prepare", "other")
    end(redis) if job == "ended" else FORGET(redis, job="j", tasks=None)
    with nothing_changes(redis):
        assert replan(redis, change) == "ENDED"


SIDE = {"prepare": "", "side": "", "transcribe": "prepare", "merge": "transcribe side"}
"""Something runs beside the task that grows."""


@pytest.mark.parametrize("parts", [0, 2, None])
def test_a_plan_grows_after_something_else_in_it_has_failed(
    redis: Any, queue: Open, parts: int | None
) -> None:
    """I6, I7: what needs the growth alone still runs, and the job ends."""
    submit(redis, shape=SIDE, **GROWING)
    done(queue("side"), "failed", NO)
    assert states(redis, SIDE) == "queued failed waiting skipped"
    done(queue("prepare"))
    assert replan(redis, grown(plan_of(redis), parts)) == "OK"
    for _ in range(1 if parts is None else parts):
        done(queue("transcribe"))
    assert (queue("merge").claim(), opened(redis)) == (None, 0)
    assert {"work": "publish", "job": "j"} in work(redis)


def test_a_plan_grows_behind_what_was_skipped(redis: Any, queue: Open) -> None:
    """I7"""
    shape = SIDE | {"beside": "side", "merge": "transcribe beside"}
    submit(redis, shape=dict(sorted(shape.items(), key=lambda item: item[0] == "merge")), **GROWING)
    done(queue("side"), "failed", NO)
    done(queue("prepare"))
    assert replan(redis, grown(plan_of(redis), 1)) == "OK"
    done(queue("transcribe"))
    assert (queue("merge").claim(), opened(redis)) == (None, 0)


def test_a_plan_grows_without_an_optional_task_that_failed(redis: Any, queue: Open) -> None:
    """I4, I7"""
    submit(redis, shape=SIDE, side={"required": False}, **GROWING)
    done(queue("side"), "failed", NO)
    done(queue("prepare"))
    assert replan(redis, grown(plan_of(redis), 1)) == "OK"
    done(queue("transcribe"))
    assert [need.stage for need in claimed(queue("merge")).needs] == ["transcribe"]


def test_a_plan_in_which_nothing_grows_goes_on(redis: Any, queue: Open) -> None:
    submit(redis, prepare={"grows": True})
    done(queue("prepare"))
    assert replan(redis, grown(plan_of(redis), 5)) == "OK"
    assert states(redis) == "completed queued waiting"


def test_moving_a_task_does_not_end_the_wait_for_growth(redis: Any, queue: Open) -> None:
    """I4: the plan that grows is the one that `grow` changes."""
    submit(redis, shape=SIDE, **GROWING)
    done(queue("prepare"))
    assert replan(redis, away(redis, "side", "other")) == "OK"
    assert states(redis, SIDE) == "completed queued waiting waiting"
    assert replan(redis, grown(plan_of(redis), 2), version=2) == "OK"
    assert claimed(queue("transcribe")).part == 0


def test_a_plan_whose_growth_was_cut_off_grows_when_the_job_runs_again(redis: Any, queue: Open) -> None:
    """I6: somebody is told to grow it."""
    submit(redis, **GROWING)
    done(queue("prepare"))
    CANCEL(redis, job="j", run=1)
    end(redis, "cancelled")
    redis.delete(keys.WORK())
    assert revive(redis) == "OK"
    assert states(redis) == "completed waiting waiting"
    assert work(redis) == [{"work": "grow", "job": "j", "task": "j.prepare"}]


# Replan: moving


@pytest.mark.parametrize("high", [None, 1])
@pytest.mark.parametrize("state", ["queued", "retrying"])
def test_a_task_moves_to_another_engine(redis: Any, queue: Open, state: str, high: int | None) -> None:
    """I1"""
    submit(redis, high=high)
    bring(redis, queue("prepare"), state)
    assert replan(redis, away(redis, "prepare", "other")) == "OK"
    assert placed(redis) == ["j.prepare"]
    assert (queue("prepare").claim(), promote(redis)) == (None, 0)
    task = done(queue("other"))
    assert (task.id, task.engine, task.stage, task.attempt) == ("j.prepare", "other", "prepare", 1)
    assert states(redis) == "completed queued waiting"
    assert opened(redis) == 2


def test_a_waiting_task_moves_and_runs_in_its_turn(redis: Any, queue: Open) -> None:
    """I4"""
    submit(redis)
    assert replan(redis, away(redis, "transcribe", "other")) == "OK"
    assert states(redis) == "queued waiting waiting"
    done(queue("prepare"))
    assert queue("transcribe").claim() is None
    done(queue("other"))
    assert [need.stage for need in claimed(queue("merge")).needs] == ["prepare", "transcribe"]


def test_an_engine_that_comes_back_gets_nothing_that_moved(redis: Any, queue: Open) -> None:
    """I3: its last lease ran out before the task moved."""
    submit(redis)
    one = queue("prepare")
    task = claimed(one)
    reclaim(redis)
    replan(redis, away(redis, "prepare", "other"))
    assert_powerless(redis, one, task)
    assert one.claim() is None
    assert claimed(queue("other")).id == task.id


def test_a_task_moves_there_and_back(redis: Any, queue: Open) -> None:
    """I1"""
    submit(redis)
    for version, engine in enumerate(("other", "prepare"), 1):
        assert replan(redis, away(redis, "prepare", engine), version) == "OK"
    assert placed(redis) == ["j.prepare"]
    assert (queue("other").claim(), claimed(queue("prepare")).id) == (None, "j.prepare")


# Fail


def test_a_task_fails_that_waits_in_vain(redis: Any, queue: Open) -> None:
    """I1, I6, I7"""
    submit(redis)
    swept(redis, since=0)
    assert fail(redis) == "OK"
    assert states(redis) == "failed skipped skipped"
    assert "No." in redis.hget(keys.TASK(task="j.prepare"), "error")
    assert (placed(redis), queue("prepare").claim()) == ([], None)
    assert work(redis) == [{"work": "publish", "job": "j"}]


@pytest.mark.parametrize("why", ["running", "retrying", "moved", "waiting", "failed", "forgotten"])
def test_a_task_that_does_not_wait_for_the_engine_is_not_failed(redis: Any, queue: Open, why: str) -> None:
    submit(redis)
    swept(redis, since=0)
    if why == "moved":
        replan(redis, away(redis, "prepare", "other"))
    elif why == "failed":
        fail(redis)
    elif why == "forgotten":
        FORGET(redis, job="j", tasks=None)
    elif why != "waiting":
        bring(redis, queue("prepare"), why)
    with nothing_changes(redis):
        assert fail(redis, "transcribe" if why == "waiting" else "prepare") == "STALE"


@pytest.mark.parametrize("who", ["nobody yet", "nobody lately", "somebody for a short while"])
def test_being_away_counts_only_while_somebody_sweeps(redis: Any, who: str) -> None:
    submit(redis)
    if who == "nobody lately":
        swept(redis, since=0, ago=LEASE)
    elif who != "nobody yet":
        swept(redis, since=clock(redis) - 59_000)
    with nothing_changes(redis):
        assert fail(redis) == "STALE"


# Finish


def test_a_finished_job_is_on_its_way_out(redis: Any, queue: Open) -> None:
    """I11, I12"""
    submit(redis)
    for engine in LINE:
        done(queue(engine))
    assert end(redis, "completed") == "OK"
    names = [keys.JOB(job="j"), *(keys.TASK(task=f"j.{stage}") for stage in LINE)]
    assert all(0 < redis.ttl(name) <= 60 for name in names)
    assert redis.hget(keys.JOB(job="j"), "state") == "completed"
    assert not redis.zcard(keys.ACTIVE())
    assert redis.zrange(keys.JOBS(), 0, -1) == ["j"]


def test_a_job_ends_once(redis: Any) -> None:
    """I9"""
    submit(redis)
    end(redis, "failed")
    with nothing_changes(redis):
        assert end(redis, "completed", retention=5) == "EXISTS"
        assert FINISH(redis, job="?", run=1, state="completed", keep=99, retention=5, **FINE) == "EXISTS"


@pytest.mark.parametrize("retention", [None, 0, 5])
def test_an_ended_job_is_listed_by_the_end_of_its_retention(redis: Any, retention: int | None) -> None:
    submit(redis)
    end(redis, retention=retention)
    listed = redis.zrange(keys.EXPIRY(), 0, -1, withscores=True)
    ended = int(redis.hget(keys.JOB(job="j"), "finished_at"))
    assert listed == ([] if retention is None else [("j", ended + retention * 1000)])


@pytest.mark.parametrize("state", ["queued", "running", "retrying"])
def test_a_job_ends_with_what_redis_holds_for_open(redis: Any, queue: Open, state: str) -> None:
    """I1, I3, I12: Redis went back in time behind the files."""
    submit(redis)
    one = queue("prepare")
    task = bring(redis, one, state)
    assert end(redis, "completed") == "OK"
    assert states(redis) == "skipped skipped skipped"
    assert (placed(redis), leased(redis), opened(redis)) == ([], 0, 0)
    assert (one.claim(), promote(redis), reclaim(redis)) == (None, 0, 0)
    if task:
        assert_powerless(redis, one, task)


# Revive


def test_a_failed_job_runs_again_what_did_not_complete(redis: Any, queue: Open) -> None:
    """I2, I4, I6, I11"""
    submit(redis, shape=DIAMOND)
    first = done(queue("prepare"))
    done(queue("left"), "failed", NO)
    done(queue("right"))
    end(redis, retention=5)
    assert revive(redis) == "OK"
    assert states(redis, DIAMOND) == "completed queued completed waiting"
    assert opened(redis) == 2
    assert (redis.zrange(keys.ACTIVE(), 0, -1), redis.zcard(keys.EXPIRY())) == (["j"], 0)
    assert {redis.ttl(key) for key in redis.scan_iter()} == {-1}
    again = done(queue("left"))
    assert (again.attempt, again.needs) == (1, [Need(first.id, "prepare", first.token)])
    assert [need.stage for need in done(queue("merge")).needs] == ["left", "right"]
    assert work(redis)[1:] == [{"work": "publish", "job": "j"}]
    assert end(redis, "completed", run=2) == "OK"


@pytest.mark.parametrize("state", ["queued", "running", "retrying"])
def test_a_cancelled_job_runs_again(redis: Any, queue: Open, state: str) -> None:
    """I1, I3"""
    submit(redis)
    one = queue("prepare")
    task = bring(redis, one, state)
    CANCEL(redis, job="j", run=1)
    end(redis, "cancelled")
    assert revive(redis) == "OK"
    assert states(redis) == "queued waiting waiting"
    assert placed(redis) == ["j.prepare"]
    if task:
        assert_powerless(redis, one, task)
    assert claimed(one).attempt == 1


@pytest.mark.parametrize("ended", [True, False])
def test_a_job_whose_files_are_gone_starts_over(redis: Any, queue: Open, ended: bool) -> None:
    """I1, I2, I3"""
    submit(redis, shape=DIAMOND)
    done(queue("prepare"))
    done(queue("left"))
    one = queue("right")
    task = claimed(one)
    if ended:
        end(redis)
    assert revive(redis, all=1) == "OK"
    assert states(redis, DIAMOND) == "queued waiting waiting waiting"
    assert (placed(redis), leased(redis), opened(redis)) == (["j.prepare"], 0, 4)
    assert_powerless(redis, one, task)
    assert shown(redis).restarted
    for stage in DIAMOND:
        assert done(queue(stage)).attempt == 1
    assert opened(redis) == 0
    end(redis)
    revive(redis)
    assert not shown(redis).restarted


def test_a_job_that_runs_is_not_revived(redis: Any, queue: Open) -> None:
    """I2"""
    submit(redis)
    done(queue("prepare"))
    with nothing_changes(redis):
        assert revive(redis, run=1) == "EXISTS"


def test_an_ended_job_is_not_revived_by_who_knows_of_no_later_run(redis: Any) -> None:
    """I2, I13: an orchestrator has read its file before it ended, and tells Redis of it now."""
    submit(redis)
    CANCEL(redis, job="j", run=1)
    end(redis, "cancelled")
    with nothing_changes(redis):
        assert revive(redis, run=1) == "EXISTS"


def test_a_later_run_is_neither_ended_nor_started_over_by_who_is_late(redis: Any, queue: Open) -> None:
    """I13: an orchestrator that froze before its last step goes on after the retry."""
    submit(redis)
    done(queue("prepare"), "failed", NO)
    end(redis)
    assert revive(redis, run=2) == "OK"
    with nothing_changes(redis):
        assert end(redis, run=1) == "STALE"
        assert revive(redis, all=1) == "EXISTS"
        assert revive(redis, run=2) == "EXISTS"
    assert end(redis, run=2) == "OK"


def test_a_run_that_redis_has_not_heard_of_begins_whatever_it_was_doing(redis: Any, queue: Open) -> None:
    """I1, I3, I14: it went back to the run before."""
    submit(redis)
    first, one = done(queue("prepare")), queue("transcribe")
    task = claimed(one)
    assert revive(redis, run=2) == "OK"
    assert states(redis) == "completed queued waiting"
    assert (leased(redis), opened(redis)) == (0, 2)
    assert_powerless(redis, one, task)
    assert claimed(one).needs == [Need(first.id, "prepare", first.token)]


@pytest.mark.parametrize("all", [None, 1])
def test_an_unknown_job_is_not_revived(redis: Any, all: int | None) -> None:
    assert revive(redis, all=all) == "NONE"
    assert everything(redis) == {}


def test_a_job_with_nothing_left_to_run_is_published_again(redis: Any, queue: Open) -> None:
    """I6: it failed because its transcript was gone, after all its tasks had completed."""
    submit(redis, shape={"prepare": ""})
    done(queue("prepare"))
    end(redis, "failed")
    redis.delete(keys.WORK())
    assert revive(redis) == "OK"
    assert opened(redis) or work(redis) == [{"work": "publish", "job": "j"}]


def test_an_optional_task_that_failed_is_tried_again_with_its_job(redis: Any, queue: Open) -> None:
    """I4"""
    submit(redis, shape=DIAMOND, left={"required": False})
    done(queue("prepare"))
    done(queue("left"), "failed", NO)
    done(queue("right"), "failed", NO)
    end(redis)
    revive(redis)
    assert states(redis, DIAMOND) == "completed queued queued waiting"
    done(queue("right"))
    assert states(redis, DIAMOND) == "completed queued completed waiting"
    done(queue("left"))
    assert len(claimed(queue("merge")).needs) == 2


# Forget


@pytest.mark.parametrize("state", ["queued", "running", "retrying", "ended"])
def test_a_forgotten_job_has_no_keys(redis: Any, queue: Open, state: str) -> None:
    """I1, I3, I15"""
    submit(redis)
    one = queue("prepare")
    task = bring(redis, one, "running" if state == "ended" else state)
    if state == "ended":
        end(redis, retention=5)
    assert FORGET(redis, job="j", tasks=None) == "OK"
    assert (left_of(redis), placed(redis), leased(redis)) == ([], [], 0)
    assert (one.claim(), promote(redis), reclaim(redis)) == (None, 0, 0)
    if task:
        assert_powerless(redis, one, task)


def test_a_grown_job_is_forgotten_whole(redis: Any, queue: Open) -> None:
    """I15"""
    submit(redis, **GROWING)
    done(queue("prepare"))
    replan(redis, grown(plan_of(redis), 3))
    lease = claimed(queue("transcribe"))
    FORGET(redis, job="j", tasks="j.prepare j.transcribe j.merge")
    assert (left_of(redis), placed(redis), leased(redis)) == ([], [], 0)
    assert_powerless(redis, queue("transcribe"), lease)


def test_tasks_of_a_job_whose_own_key_is_gone_are_forgotten_by_name(redis: Any) -> None:
    """I15"""
    submit(redis)
    redis.delete(keys.JOB(job="j"))
    FORGET(redis, job="j", tasks=" ".join(f"j.{stage}" for stage in LINE))
    assert (left_of(redis), placed(redis)) == ([], [])


def test_forgetting_leaves_other_jobs_alone(redis: Any, queue: Open) -> None:
    submit(redis, "other", high=1)
    one = queue("prepare")
    task = claimed(one)
    submit(redis)
    FORGET(redis, job="j", tasks=None)
    FORGET(redis, job="unknown", tasks=None)
    assert redis.zrange(keys.ACTIVE(), 0, -1) == redis.zrange(keys.JOBS(), 0, -1) == ["other"]
    assert placed(redis) == ["other.prepare"]
    assert one.settle(task, "completed") == "OK"


def left_of(redis: Any) -> list[str]:
    """The keys and list entries of job `j`."""
    own = [key for key in redis.scan_iter() if re.fullmatch(r"dalston:(job:j|task:j\..*)", key)]
    lists = (keys.JOBS(), keys.ACTIVE(), keys.EXPIRY())
    return own + [name for name in lists if redis.zscore(name, "j") is not None]


# Show


def test_a_job_is_shown_with_its_tasks(redis: Any, queue: Open) -> None:
    submit(redis, left={"required": False}, **GROWING)
    token = done(queue("prepare")).token
    found = shown(redis)
    assert (found.state, found.open, found.version, found.restarted) == ("running", 2, 1, False)
    assert [task.plan for task in found.tasks] == planned("j", LINE, **GROWING)
    assert [token in artifact for artifact in found.artifacts] == [True, False, False]
    assert [stage.state for stage in found.stages] == ["completed", "waiting", "waiting"]


def test_an_unknown_job_is_not_shown(redis: Any) -> None:
    assert SHOW(redis, job="j") == []
    assert everything(redis) == {}


# Tidy


def tidy(redis: Any, idle: int = 10**9, forget: int = 10**9) -> int:
    """Forget what nobody needs; answers how much."""
    return int(TIDY(redis, idle=idle, forget=forget))


def consumers(redis: Any, lane: str, group: str = keys.GROUP) -> list[str]:
    """Who ever claimed from a lane."""
    return sorted(consumer["name"] for consumer in redis.xinfo_consumers(lane, group))


@pytest.mark.parametrize("high", [None, 1])
def test_idle_consumers_that_hold_nothing_are_forgotten(redis: Any, queue: Open, high: int | None) -> None:
    """I16"""
    for n, name in enumerate(("holds", "held", "never")):
        submit(redis, f"j{n}", {"prepare": ""}, high)
        task = claimed(queue("prepare", name))
        if name == "held":
            queue("prepare", name).settle(task, "completed")
        if name == "never":
            queue("prepare", name).settle(task, "released")
    lane = (keys.QUEUE_HIGH if high else keys.QUEUE)(engine="prepare")
    tidy(redis)
    assert consumers(redis, lane) == ["held", "holds", "never"]
    tidy(redis, idle=-1)
    assert consumers(redis, lane) == ["holds"]
    assert reclaim(redis) == 1
    assert {claimed(queue("prepare", name)).id for name in ("held", "holds")} == {"j0.prepare", "j2.prepare"}


def test_orchestrators_that_hold_nothing_are_forgotten(redis: Any, queue: Open) -> None:
    """I16"""
    submit(redis, shape={"prepare": ""})
    done(queue("prepare"))
    redis.xgroup_create(keys.WORK(), "orchestrators", id="0")
    for name in ("holds", "idle"):
        redis.xreadgroup("orchestrators", name, {keys.WORK(): ">"}, count=1)
    tidy(redis, idle=-1)
    assert consumers(redis, keys.WORK(), "orchestrators") == ["holds"]


def test_instances_are_forgotten_that_were_not_heard_from(redis: Any, queue: Open) -> None:
    """I16"""
    for name in ("alive", "silent", "left"):
        queue("prepare", name).heartbeat(Card("prepare", "prepare"), "idle", {})
    queue("prepare", "left").leave()
    redis.zadd(keys.ENGINES(), {"prepare/silent": clock(redis) - 60_000})
    assert tidy(redis, forget=50_000) == 2
    assert redis.zrange(keys.ENGINES(), 0, -1) == ["prepare/alive"]


def test_there_may_be_nothing_to_tidy(redis: Any) -> None:
    assert tidy(redis, idle=-1, forget=0) == 0
    assert everything(redis) == {}


# Asking again


def repeated_submit(redis: Any, queue: Open) -> dict[str, Any]:
    plan = msgspec.json.encode(planned("j", DIAMOND)).decode()
    told = {"job": "j", "run": 1, "owner": "me", "created": 1, "trace": None, "key": "k"}
    return told | {"request": "{}", "plan": plan, "high": 1}


def repeated_claim(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    submit(redis, "other", high=1)
    return {"engine": "prepare", "instance": "one", "lease": "0"}


def repeated_renew(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    task = claimed(queue("prepare"))
    return {"task": task.id, "token": task.token, "progress": 0.5}


def repeated_tell(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    task = claimed(queue("prepare"))
    return {"task": task.id, "token": task.token, "n": 0, "segments": '[{"start":0,"end":1,"text":" a"}]'}


def repeated_settle(outcome: str, attempt: int = 1, **changes: Any) -> Prepare:
    def prepare(redis: Any, queue: Open) -> dict[str, Any]:
        submit(redis, **changes)
        for _ in range(attempt - 1):
            claimed(queue("prepare"))
            reclaim(redis)
        task = claimed(queue("prepare"))
        return {"task": task.id, "token": task.token, "outcome": outcome, "seconds": 1, "audio": 2,
                "error": "{}", "delay": 9, "attempts": ATTEMPTS, "whole": None}  # fmt: skip

    return prepare


def repeated_settle_and_claim(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis, "other")
    following = {"engine": "prepare", "instance": "one", "lease": "0"}
    return repeated_settle("completed")(redis, queue) | following


def repeated_heartbeat(redis: Any, queue: Open) -> dict[str, Any]:
    return {"engine": "e", "instance": "i", "card": "{}", "state": "idle", "totals": "{}", "ttl": 30}


def repeated_sweep(redis: Any, queue: Open) -> dict[str, Any]:
    for job in ("j", "other"):
        submit(redis, job)
    done(queue("prepare"), "retry", NO)
    make_due(redis)
    claimed(queue("prepare"))
    return {"lease": 0, "attempts": ATTEMPTS, "limit": 100}


def repeated_cancel(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis, shape=DIAMOND)
    done(queue("prepare"))
    claimed(queue("left"))
    return {"job": "j", "run": 1}


def repeated_growth(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis, **GROWING)
    done(queue("prepare"))
    change = grown(plan_of(redis), 2)
    plan = msgspec.json.encode(change.add).decode()
    remove, order = " ".join(change.remove), " ".join(change.order)
    return {"job": "j", "version": 1, "remove": remove, "plan": plan, "order": order}


def repeated_move(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    change = away(redis, "prepare", "other")
    plan = msgspec.json.encode(change.add).decode()
    return {"job": "j", "version": 1, "remove": "j.prepare", "plan": plan, "order": " ".join(change.order)}


def repeated_fail(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    swept(redis, since=0)
    return {"task": "j.prepare", "engine": "prepare", "error": "{}", "absent": 60, "lease": LEASE}


def repeated_finish(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    done(queue("prepare"))
    claimed(queue("transcribe"))
    return {
        "job": "j",
        "run": 1,
        "state": "completed",
        "error": None,
        "keep": 60,
        "retention": 5,
        "notify": 1,
    }


def repeated_revive(all: int | None) -> Prepare:
    def prepare(redis: Any, queue: Open) -> dict[str, Any]:
        submit(redis)
        done(queue("prepare"))
        given_up(redis, queue("transcribe"))
        end(redis, retention=5)
        return {"job": "j", "run": 1 if all else 2, "all": all}

    return prepare


def repeated_forget(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    done(queue("prepare"))
    given_up(redis, queue("transcribe"))
    return {"job": "j", "tasks": None}


def repeated_show(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    return {"job": "j"}


def repeated_admit(redis: Any, queue: Open) -> dict[str, Any]:
    return {"job": "j", "key": "k", "rate": 2, "concurrent": 1, "minutes": 0, "room": 2}


def repeated_release(redis: Any, queue: Open) -> dict[str, Any]:
    redis.zadd(keys.LIMITED(key="k"), {"j": 5})
    return {"job": "j", "key": "k"}


def repeated_repeat(redis: Any, queue: Open) -> dict[str, Any]:
    return {"owner": "me", "token": "t", "value": "v", "before": None, "ttl": 60}


def repeated_due(redis: Any, queue: Open) -> dict[str, Any]:
    redis.zadd(keys.DELIVERIES(), {"j:a": 1, "j:b": 2})
    return {"lease": 60_000, "limit": 10}


def repeated_deliver(redis: Any, queue: Open) -> dict[str, Any]:
    redis.zadd(keys.UNDELIVERED(), {"j:a": 1})
    return {"deliveries": "j:a j:b", "after": 10_000, "again": None}


def repeated_tidy(redis: Any, queue: Open) -> dict[str, Any]:
    submit(redis)
    given_up(redis, queue("prepare"))
    redis.zrem(keys.JOBS(), "j")
    return {"idle": -1, "forget": 0}


def repeated_beat(redis: Any, queue: Open) -> dict[str, Any]:
    return {"worker": "w", "facts": '{"state":"ready","capacity":"2"}', "ttl": 10}


def _seated(redis: Any) -> dict[str, Any]:
    """A worker, and what the first attachment of a session to it is asked with."""
    redis.hset(keys.WORKER(worker="w"), mapping={"state": "ready", "capacity": 2, "models": '{"m":["*"]}'})
    redis.expire(keys.WORKER(worker="w"), 60)
    redis.zadd(keys.WORKERS(), {"w": redis.time()[0] * 1000})
    return {"session": "s", "epoch": 1, "attach": "x", "gateway": "g", "owner": "me", "key": "live",
            "facts": "{}", "models": "m", "language": None, "avoid": None, "lease": 10_000, "lost": 60_000,
            "ttl": 3600}  # fmt: skip


def _attached(redis: Any) -> None:
    assert script("allocate", "dalston.store")(redis, **_seated(redis))[0] == "OK"


def repeated_allocate(redis: Any, queue: Open) -> dict[str, Any]:
    return _seated(redis)


def repeated_hold(redis: Any, queue: Open) -> dict[str, Any]:
    _attached(redis)
    return {"gateway": "g", "sessions": "s,1,2.5", "lease": 10_000, "ttl": 7200}


def repeated_append(redis: Any, queue: Open) -> dict[str, Any]:
    _attached(redis)
    return {"session": "s", "epoch": 1, "seq": 3, "audio": "2.5", "final": "{}", "ttl": 3600}


def repeated_describe(redis: Any, queue: Open) -> dict[str, Any]:
    _attached(redis)
    return {
        "session": "s",
        "attach": redis.hget(keys.SESSION(session="s"), "attach"),
        "facts": '{"models":[]}',
    }


def repeated_leave(redis: Any, queue: Open) -> dict[str, Any]:
    repeated_append(redis, queue)
    return {"session": "s", "epoch": 1, "state": "ended", "cause": "ended", "keep": 600}


REPEATED = {
    "submit": repeated_submit,
    "claim": repeated_claim,
    "renew": repeated_renew,
    "tell": repeated_tell,
    **{f"settle {outcome}": repeated_settle(outcome) for outcome in ENDINGS},
    "settle for the last time": repeated_settle("retry", ATTEMPTS),
    "settle what grows": repeated_settle("completed", **GROWING),
    "settle+claim": repeated_settle_and_claim,
    "heartbeat": repeated_heartbeat,
    "beat": repeated_beat,
    "sweep": repeated_sweep,
    "cancel": repeated_cancel,
    "replan to grow": repeated_growth,
    "replan to move": repeated_move,
    "fail": repeated_fail,
    "finish": repeated_finish,
    "revive": repeated_revive(None),
    "revive all": repeated_revive(1),
    "forget": repeated_forget,
    "show": repeated_show,
    "tidy": repeated_tidy,
    "admit": repeated_admit,
    "release": repeated_release,
    "repeat": repeated_repeat,
    "due": repeated_due,
    "deliver": repeated_deliver,
    "allocate": repeated_allocate,
    "hold": repeated_hold,
    "append": repeated_append,
    "describe": repeated_describe,
    "leave": repeated_leave,
}
"""For every script a state in which it does something, and what it is called with."""


def meaning(redis: Any) -> dict[str, Any]:
    """All that the server holds but for the times at which it was told."""
    found: dict[str, Any] = {}
    for key in redis.scan_iter():
        kind = redis.type(key)
        if kind == "hash":
            found[key] = redis.hgetall(key)
        elif kind == "zset":
            found[key] = redis.zrange(key, 0, -1, withscores=not _renewed(key))
        elif kind == "set":
            found[key] = redis.smembers(key)
        elif kind == "string":
            found[key] = redis.get(key)
        else:
            found[key] = (redis.xrange(key), leases(redis, key))
    found.pop(keys.SWEEP(), None)
    for fields in found.values():
        if isinstance(fields, dict):
            for name in ("seen_at", "held_at", "beat"):
                fields.pop(name, None)
    ends = {key: redis.pexpiretime(key) for key in found if not _renewed(key)}
    return {"keys": found, "ends": ends}


def _renewed(key: str) -> bool:
    """Whether a key's times are those of the last call."""
    return key.startswith(("dalston:engine", "dalston:realtime:", "dalston:limit:live"))


@pytest.mark.parametrize("what", REPEATED)
def test_a_script_called_again_changes_nothing_more(redis: Any, queue: Open, what: str) -> None:
    """I9: its reply was lost."""
    name = what.split()[0]
    one = script(name, next((package for package, known in SCRIPTS if known == name), "dalston_engine"))
    arguments = REPEATED[what](redis, queue)
    before = meaning(redis)
    one(redis, **arguments)
    after = meaning(redis)
    assert (after == before) == (one.name in {"show"})
    one(redis, **arguments)
    assert meaning(redis) == after


def test_every_script_is_called_again() -> None:
    assert {what.split()[0] for what in REPEATED} == {name for _, name in SCRIPTS} | {"settle+claim"}


def test_only_the_owner_of_a_running_task_tells_of_segments(redis: Any, queue: Open) -> None:
    submit(redis)
    first = claimed(queue("prepare"))
    reclaim(redis)
    second = claimed(queue("prepare", "two"))
    said: dict[str, Any] = {"task": second.id, "n": 0, "segments": "[]"}
    assert script("tell")(redis, token=first.token, **said) == "LOST"
    assert not redis.exists(keys.SEGMENTS(job="j"))
    assert script("tell")(redis, token=second.token, **said) == "OK"
    done_before = redis.xlen(keys.SEGMENTS(job="j"))
    assert queue("prepare", "two").settle(second, "completed") == "OK"
    assert script("tell")(redis, token=second.token, **said) == "LOST"
    assert redis.xlen(keys.SEGMENTS(job="j")) == done_before == 1


# Fleet


def test_a_heartbeat_shows_the_card_and_ages(redis: Any, queue: Open) -> None:
    card = Card("prepare", "prepare", "1")
    queue("prepare").heartbeat(card, "idle", {"completed": 7})
    told = redis.hget(keys.ENGINE(engine="prepare"), "card")
    assert msgspec.json.decode(told, type=Card) == card
    instance = keys.INSTANCE(engine="prepare", instance="one")
    assert redis.hmget(instance, "state", "totals") == ["idle", '{"completed":7}']
    assert 0 < redis.ttl(instance) <= HEARTBEAT_TTL_S
    assert redis.zrange(keys.ENGINES(), 0, -1) == ["prepare/one"]


def test_an_instance_that_leaves_is_forgotten(redis: Any, queue: Open) -> None:
    one = queue("prepare")
    one.leave()
    one.heartbeat(Card("prepare", "prepare"), "idle", {})
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
