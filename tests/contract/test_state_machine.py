"""Everything that can happen, in any order, against a real server; and what holds after each step.

The rules are the moves of engines, gateway and orchestrators, with processes that die between two
of them and a Redis that goes back in time. The invariants, named i1, i2, …, are those of
docs/architecture/01-state-machine.md. `DALSTON_CHAOS=1` runs longer, at random, and shrinks what fails.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

import msgspec
import pytest
from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from dalston_engine.queue import ATTEMPTS, Queue
from dalston_engine.types import Task
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dalston.orchestrator.growth import Change, grown, moved
from dalston.store.files import PlanTask
from dalston.store.scripts import CANCEL, FAIL, FINISH, FORGET, REPLAN, REVIVE, SUBMIT, SWEEP, TIDY
from tests.contract.model import (
    ACTIVE,
    ASKED,
    ENDED,
    ENGINES,
    FINE,
    OPEN,
    SETTLED,
    File,
    View,
    everything,
    look,
    named,
    plans,
    put_back,
    snapshot,
)

LONG = "DALSTON_CHAOS" in os.environ
EXAMPLES, STEPS = (2000, 80) if LONG else (80, 50)
INSTANCES = ("one", "two")
OUTCOMES = ("completed", "completed", "completed", "failed", "retry", "retry", "released", "postponed")
ERROR = ErrorRecord("engine_error", "No.")
NO = msgspec.json.encode(ERROR).decode()
LEASE = 10**9
MOST_JOBS = 3
SEEN: Counter[str] = Counter()
"""What happened over the whole run: rules that did something, answers, states."""


class Machine(RuleBasedStateMachine):
    """A few jobs, two engines of two instances each, and what is known of them outside of Redis."""

    redis: Any
    queues: dict[tuple[str, str], Queue]

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushall()
        for queue in self.queues.values():
            queue.next = None
        self.count = 0
        self.files: dict[str, File] = {}
        self.leases: list[tuple[Task, Queue]] = []
        self.attempts: dict[str, int] = {}
        """Claims of each task that were not given back (I5)."""
        self.settled: dict[str, tuple[str, str]] = {}
        """State and token of each settled task (I2)."""
        self.orphans: set[str] = set()
        """Dead letters of jobs whose keys are gone."""
        self.behind = False
        """Whether Redis may not know what is on disk: until the two are compared."""
        self.read: tuple[str, File] | None = None
        """A job's file as an orchestrator has read it that has not come to the next step since."""
        self.saved: tuple[dict[str, Any], dict[str, int], dict[str, tuple[str, str]], set[str]] | None = None
        self.view = View()

    def teardown(self) -> None:
        """Whatever has happened, every job comes to its end once everybody works."""
        if sys.exc_info()[0] is None:
            self.compare()
            for _ in range(20):
                self.let_time_pass(everything_is_late=True)
                for queue in list(self.queues.values()) * 4:
                    self.one_task(queue, "completed")
                self.do_work(100)
                self.all_of_it_holds()
                if not self.view.active:
                    break
            assert not self.view.active, self.view

    # Gateway

    @initialize(plan=plans(), parts=st.none() | st.integers(0, 2))
    def begin(self, plan: list[PlanTask], parts: int | None) -> None:
        """There is a job to start with."""
        self.files["j0"] = File(named("j0", plan), False, parts)
        assert self.send("j0") == "OK"

    @precondition(lambda self: len(self.files) < MOST_JOBS)
    @rule(plan=plans(), high=st.booleans(), parts=st.none() | st.integers(0, 2), dies=st.integers(0, 7))
    def submit(self, plan: list[PlanTask], high: bool, parts: int | None, dies: int) -> None:
        """A job is on disk first; the gateway may die before Redis knows."""
        self.count += 1
        job = f"j{self.count}"
        self.files[job] = File(named(job, plan), high, parts)
        self.behind |= not dies
        if dies:
            assert self.send(job) == "OK"
            self.changes_nothing(lambda: self.send(job), "EXISTS")
            self.did("submit")

    @precondition(lambda self: self.files)
    @rule(data=st.data(), sure=st.booleans(), at_once=st.booleans())
    def cancel(self, data: st.DataObject, sure: bool, at_once: bool) -> None:
        """A gateway cancels, and ends the job itself or leaves that to an orchestrator."""
        if not sure:
            return
        job = data.draw(st.sampled_from(sorted(self.files)))
        found, run = self.view.jobs.get(job, {}), self.files[job].run
        if int(found.get("run", 0)) < run:
            found = {"state": "NONE", "open": "0"}
        ending = "ENDING" if found["state"] in ACTIVE else found["state"]
        word = CANCEL(self.redis, job=job, run=run)
        assert word == ("OK" if int(found["open"]) else ending)
        if word == "NONE" and self.files[job].outcome is None:
            self.files[job].outcome = "cancelled"
        self.changes_nothing(lambda: CANCEL(self.redis, job=job, run=run), ending)
        self.did("cancel", f"cancel {word}")
        if at_once:
            self.publish(job)

    @precondition(lambda self: any(file.outcome in {"failed", "cancelled"} for file in self.files.values()))
    @rule(data=st.data(), dies=st.integers(0, 7))
    def retry(self, data: st.DataObject, dies: int) -> None:
        """The outcome is taken from the disk, then the job runs again; the gateway may die in between."""
        ended = sorted(job for job, file in self.files.items() if file.outcome in {"failed", "cancelled"})
        job = data.draw(st.sampled_from(ended))
        self.files[job].outcome = None
        self.files[job].run += 1
        self.behind |= not dies
        if dies:
            self.resume(job)
            self.did("retry")

    @precondition(lambda self: self.files)
    @rule(data=st.data(), sure=st.integers(0, 2), dies=st.integers(0, 7))
    def delete(self, data: st.DataObject, sure: int, dies: int) -> None:
        """The folder goes first; the gateway may die before the keys do."""
        if sure:
            return
        job = data.draw(st.sampled_from(sorted(self.files)))
        CANCEL(self.redis, job=job, run=1)
        plan = self.files.pop(job).plan
        self.behind |= not dies
        if dies:
            self.forget(job, plan)
            self.did("delete")

    # Engines

    @precondition(lambda self: self.view.in_state("queued", "running"))
    @rule(engine=st.sampled_from(ENGINES), instance=st.sampled_from(INSTANCES))
    def claim(self, engine: str, instance: str) -> None:
        """An instance asks for work, and takes long over it."""
        if self.claimed(self.queues[engine, instance]):
            self.did("claim")

    @precondition(lambda self: self.view.in_state("queued", "running"))
    @rule(outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=6))
    def perform(self, outcomes: list[str]) -> None:
        """Engines do a few tasks as they should."""
        for outcome in outcomes:
            if any(self.one_task(queue, outcome) for queue in self.queues.values()):
                self.did("perform")

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), progress=st.sampled_from([None, 0.5]))
    def renew(self, data: st.DataObject, progress: float | None) -> None:
        """An owner, or one that was, keeps its lease."""
        task, queue = data.draw(st.sampled_from(self.leases[-4:]))
        word = self.with_lease(task, lambda: queue.renew(task, progress), late="LOST")
        self.did("renew", f"renew {word}")

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), more=st.booleans())
    def settle(self, data: st.DataObject, outcome: str, more: bool) -> None:
        """An owner, or one that was, ends its lease, and may ask for more work in the same step."""
        task, queue = data.draw(st.sampled_from(self.leases[-4:]))
        more = more and outcome != "released"
        self.did("settle", f"settle {self.settles(task, queue, outcome, more)}")

    @precondition(lambda self: self.view.in_state(*OPEN))
    @rule(rounds=st.integers(1, 3))
    def go_on(self, rounds: int) -> None:
        """All goes well for a while."""
        for _ in range(rounds):
            for queue in self.queues.values():
                self.one_task(queue, "completed")
            self.do_work(2)
        self.did("go_on")

    # Orchestrators

    @precondition(lambda self: self.view.in_state("running", "retrying"))
    @rule(everything_is_late=st.booleans())
    def sweep(self, everything_is_late: bool) -> None:
        """Every lease and delay has run out, or none."""
        self.let_time_pass(everything_is_late)
        self.did("sweep" if everything_is_late else "sweep in time")

    @precondition(lambda self: self.view.delayed)
    @rule(data=st.data())
    def come_due(self, data: st.DataObject) -> None:
        """The delays of some tasks pass."""
        due = data.draw(st.lists(st.sampled_from(sorted(self.view.delayed)), min_size=1, unique=True))
        self.redis.zadd(keys.DELAYED(), dict.fromkeys(due, 0))
        assert SWEEP(self.redis, lease=LEASE, attempts=ATTEMPTS, limit=100) == [len(due), 0]
        assert {self.redis.hget(keys.TASK(task=task), "state") for task in due} == {"queued"}
        self.did("come_due")

    @precondition(lambda self: self.view.work)
    @rule(count=st.integers(1, 4), dies=st.integers(0, 3), loses=st.integers(0, 1))
    def orchestrate(self, count: int, dies: int, loses: int) -> None:
        """Work is done twice, because two took it up; or the orchestrator dies before it says so."""
        self.do_work(count, acknowledge=bool(dies), lost=not loses)
        self.did("orchestrate")

    @precondition(lambda self: self.view.work)
    @rule()
    def half_publish(self) -> None:
        """An orchestrator dies, or freezes, after an outcome is on disk and before Redis knows."""
        for _, work in self.redis.xrange(keys.WORK(), count=4):
            job = work["job"]
            if work["work"] == "publish" and (file := self.files.get(job)) and not file.outcome:
                found = look(self.redis).jobs.get(job)
                if found and found["open"] == "0" and int(found["run"]) == file.run:
                    file.outcome, self.behind = self.outcome(job), True
                    self.read = job, msgspec.structs.replace(file)
                    return self.did("half_publish")
        return None

    @precondition(lambda self: self.files and not self.read)
    @rule(data=st.data())
    def freeze(self, data: st.DataObject) -> None:
        """An orchestrator reads a job's file, and freezes."""
        job = data.draw(st.sampled_from(sorted(self.files)))
        self.read = job, msgspec.structs.replace(self.files[job])
        self.did("freeze")

    @precondition(lambda self: self.read)
    @rule()
    def thaw(self) -> None:
        """It acts on what it has read; whatever was done since stays so."""
        assert self.read is not None
        (job, file), self.read = self.read, None
        found = self.view.jobs.get(job)
        if file.outcome is None:
            if self.send(job, file) == "EXISTS":
                self.revive(job, None, file.run)
            self.publish(job)
        elif found is not None and job in self.files:
            told: dict[str, Any] = {"job": job, "run": file.run, "keep": 600, "retention": None, **FINE}
            word = FINISH(self.redis, state=file.outcome, **told)
            late = "STALE" if int(found["run"]) > file.run else "OK"
            assert word == (late if found["state"] in ACTIVE else "EXISTS")
            self.did(f"thaw {word}")
        self.did("thaw")

    @precondition(lambda self: self.view.in_state("queued"))
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """An engine stays away, and another takes over one of its tasks."""
        id = data.draw(st.sampled_from(self.view.in_state("queued")))
        job, other = id.split(".")[0], "b" if self.view.tasks[id]["engine"] == "a" else "a"
        found = snapshot(self.redis, job)
        assert found is not None
        plan = [task.plan for task in found.tasks]
        fresh = [msgspec.structs.replace(task, engine=other) for task in plan if task.id == id]
        change = moved(plan, [id], fresh)
        assert change is not None
        assert self.replan(job, found.version, change) == "OK"
        self.changes_nothing(lambda: self.replan(job, found.version, change), "STALE")
        assert self.redis.hget(keys.TASK(task=id), "engine") == other
        self.did("move")

    @precondition(lambda self: self.view.in_state("queued"))
    @rule(data=st.data(), sure=st.booleans())
    def fail(self, data: st.DataObject, sure: bool) -> None:
        """An engine stays away, and nothing else can do its task."""
        if not sure:
            return
        id = data.draw(st.sampled_from(self.view.in_state("queued")))
        told: dict[str, Any] = {
            "task": id,
            "engine": self.view.tasks[id]["engine"],
            "error": NO,
            "absent": 60,
            "lease": LEASE,
        }
        self.redis.hset(keys.SWEEP(), mapping={"at": self.redis.time()[0] * 1000, "from": 0})
        assert FAIL(self.redis, **told) == "OK"
        self.changes_nothing(lambda: FAIL(self.redis, **told), "STALE")
        self.did("fail")

    @precondition(lambda self: self.view.letters)
    @rule()
    def tidy(self) -> None:
        """Consumers that hold nothing are forgotten, and letters of jobs that are gone."""
        TIDY(self.redis, idle=-1, forget=LEASE)
        self.changes_nothing(lambda: TIDY(self.redis, idle=-1, forget=LEASE), 0)
        listed = set(self.redis.zrange(keys.JOBS(), 0, -1))
        assert {task.split(".")[0] for task in look(self.redis).letters.values()} <= listed
        self.did("tidy")

    # Redis

    @precondition(lambda self: not self.saved)
    @rule(sure=st.integers(0, 4))
    def save(self, sure: int) -> None:
        """What has reached the append-only file by now."""
        if sure:
            return
        self.saved = everything(self.redis), dict(self.attempts), dict(self.settled), set(self.orphans)
        self.did("save")

    @precondition(lambda self: self.saved)
    @rule()
    def go_back(self) -> None:
        """Redis was killed, and has lost what did not reach the file."""
        assert self.saved is not None
        saved, self.attempts, self.settled, self.orphans = self.saved
        put_back(self.redis, saved)
        self.saved, self.behind = None, True
        self.did("go_back")

    @precondition(lambda self: self.behind)
    @rule()
    def compare(self) -> None:
        """An orchestrator brings Redis in line with the files."""
        self.bring_in_line()
        self.behind = False
        self.changes_nothing(self.bring_in_line)
        self.did("compare")

    @precondition(lambda self: any(job["state"] in ENDED for job in self.view.jobs.values()))
    @rule(data=st.data())
    def run_out(self, data: st.DataObject) -> None:
        """The keys of an ended job reach the end of their time to live."""
        ended = sorted(job for job, fields in self.view.jobs.items() if fields["state"] in ENDED)
        job = data.draw(st.sampled_from([*ended, None]))
        if job:
            ids = self.view.plan(job)
            self.orphans |= {letter for letter, task in self.view.letters.items() if task in ids}
            self.redis.delete(keys.JOB(job=job), *(keys.TASK(task=id) for id in ids))
            self.drop(ids)
            self.did("run_out")

    # How it is done

    def did(self, *what: str) -> None:
        SEEN.update(what)

    def changes_nothing(self, call: Callable[[], Any], answer: Any = None, but: str = "") -> None:
        """I9, and I3: a call that must change nothing, and what it answers."""
        before = everything(self.redis, but)
        told = call()
        assert answer in (None, told)
        assert everything(self.redis, but) == before

    def claimed(self, queue: Queue) -> Task | None:
        """Claim as the instance that this queue is of."""
        before = look(self.redis)
        task, held = queue.claim(), before.held_by(queue.engine, queue.instance)
        queued = [id for id in before.in_state("queued") if before.tasks[id]["engine"] == queue.engine]
        if task is None:
            assert not held + queued
            return None
        assert task.id in (held or queued)
        self.changes_nothing(queue.claim, task)
        if not held:
            self.leased(task, queue)
        self.i4_a_task_reads_what_completed_of_its_needs(task)
        return task

    def leased(self, task: Task, queue: Queue) -> None:
        """Know of a new lease."""
        self.i8_no_task_of_the_high_lane_waits(task)
        self.attempts[task.id] += 1
        self.leases.append((task, queue))

    def one_task(self, queue: Queue, outcome: str) -> Task | None:
        """Claim a task and settle it, if there is one."""
        task = self.claimed(queue)
        if task is not None:
            assert self.settles(task, queue, outcome) == "OK"
        return task

    def settles(self, task: Task, queue: Queue, outcome: str, more: bool = False) -> str:
        """Settle, and again because the reply was lost; `more`: and claim in the same step."""
        error, now = None if outcome == "completed" else ERROR, look(self.redis)
        file = self.files.get(task.job)
        whole = outcome == "completed" and file is not None and file.parts is None
        settled = (task, outcome, 0.1, error, None, whole)
        held = now.held_by(queue.engine, queue.instance)
        expected = self.expected(task, late="OK")
        if expected == "OWNER":
            held.remove(task.id)
            self.attempts[task.id] -= outcome in {"released", "postponed"}
        if more:
            word = queue.settle(*settled, more=True)
            assert word == ("OK" if expected == "OWNER" else expected)
        else:
            word = self.with_lease(task, lambda: queue.settle(*settled), late="OK")
        following, queue.next = queue.next, None
        if following and following.id not in held:
            self.leased(following, queue)
            self.did("settle and claim")
        told = None if following and following.id == task.id else word  # its old lease is lost by now
        self.changes_nothing(lambda: queue.settle(*settled, more=bool(following)), told)
        again, queue.next = queue.next, None
        assert again == following
        return word

    def with_lease(self, task: Task, call: Callable[[], str], late: str) -> str:
        """Do something with a lease; only its owner changes anything."""
        word = self.expected(task, late)
        if word == "LOST":
            self.i3_a_former_owner_changes_nothing(call)
        elif word != "OWNER":
            self.changes_nothing(call, word)
        else:
            word = call()
            assert word == "OK"
        return word

    def expected(self, task: Task, late: str) -> str:
        """What a call with a lease answers: OWNER, `late`, CANCELLED or LOST."""
        now = look(self.redis).tasks.get(task.id, {})
        if now.get("token") != task.token:
            return "LOST"
        return {"running": "OWNER", "cancelled": "CANCELLED"}.get(now["state"], late)

    def let_time_pass(self, everything_is_late: bool) -> None:
        """Sweep when every lease and delay has run out, or none."""
        if everything_is_late:
            self.redis.delete(keys.SWEEP())
            for task in self.redis.zrange(keys.DELAYED(), 0, -1):
                self.redis.zadd(keys.DELAYED(), {task: 0})
            SWEEP(self.redis, lease=0, attempts=ATTEMPTS, limit=100)
            assert not look(self.redis).in_state("running", "retrying")
        told = {"lease": 0 if everything_is_late else LEASE, "attempts": ATTEMPTS, "limit": 100}
        self.changes_nothing(lambda: SWEEP(self.redis, **told), [0, 0], but=keys.SWEEP())

    def send(self, job: str, read: File | None = None) -> str:
        """Tell Redis of a job on disk, as it is or was read."""
        file = read or self.files[job]
        plan, high = msgspec.json.encode(file.plan).decode(), 1 if file.high else None
        word = str(SUBMIT(self.redis, job=job, run=file.run, **ASKED, plan=plan, high=high))
        if word == "OK":
            self.attempts |= {task.id: 0 for task in file.plan}
        return word

    def resume(self, job: str) -> None:
        """Let a job without an outcome run, whatever Redis knows of it."""
        if self.send(job) == "EXISTS":
            self.revive(job, all=None)

    def revive(self, job: str, all: int | None, run: int = 0) -> None:
        """Begin the job's run, or start it over: run all of its tasks again, or what did not complete."""
        before, run = look(self.redis), run or self.files[job].run
        again = [id for id in before.plan(job) if all or before.tasks[id]["state"] != "completed"]
        behind = int(before.jobs[job]["run"]) < run
        assert REVIVE(self.redis, job=job, run=run, all=all) == ("OK" if behind or all else "EXISTS")
        if behind or all:
            self.attempts |= dict.fromkeys(again, 0)
            self.settled = {id: was for id, was in self.settled.items() if id not in again}
        self.changes_nothing(lambda: REVIVE(self.redis, job=job, run=run, all=all), "EXISTS")

    def forget(self, job: str, plan: Iterable[PlanTask] = ()) -> None:
        """Remove the keys of a job that has no folder."""
        told = {"job": job, "tasks": " ".join(task.id for task in plan)}
        FORGET(self.redis, **told)
        self.changes_nothing(lambda: FORGET(self.redis, **told), "OK")
        self.drop([id for id in self.attempts if id.split(".")[0] == job])

    def drop(self, ids: list[str]) -> None:
        """Know no more of these tasks."""
        for id in ids:
            self.attempts.pop(id, None)
            self.settled.pop(id, None)

    def do_work(self, count: int, acknowledge: bool = True, lost: bool = False) -> None:
        """Do the oldest work there is, each of it twice."""
        for entry, work in self.redis.xrange(keys.WORK(), count=count):
            for _ in range(2):
                if work["work"] == "publish":
                    self.publish(work["job"], lost)
                else:
                    self.grow(work["job"], work["task"])
            if acknowledge:
                self.redis.xdel(keys.WORK(), entry)

    def publish(self, job: str, lost: bool = False) -> None:
        """The outcome onto the disk, then into Redis; or start over, when what a stage wrote is lost."""
        file, found = self.files.get(job), look(self.redis).jobs.get(job)
        if file is None:
            return self.forget(job)
        if file.outcome is None:
            if found is None or int(found["open"]):
                return None
            if int(found["run"]) < file.run:
                return self.resume(job)
            file.outcome = self.outcome(job)
            if lost and file.outcome != "cancelled":
                file.outcome = "failed" if "restarted" in found else None
            if file.outcome is None:
                self.did("start over")
                return self.revive(job, all=1)
        told: dict[str, Any] = {
            "job": job,
            "run": file.run,
            "error": None,
            "keep": 600,
            "retention": None,
            "notify": None,
        }
        word = FINISH(self.redis, state=file.outcome, **told)
        assert word == "EXISTS" or self.redis.hget(keys.JOB(job=job), "state") == file.outcome
        return self.changes_nothing(lambda: FINISH(self.redis, state="failed", **told), "EXISTS")

    def outcome(self, job: str) -> str:
        """How a job has ended all of whose tasks have."""
        found = snapshot(self.redis, job)
        assert found is not None
        states = {task.record.state for task in found.tasks if task.required or task.record.state != "failed"}
        assert states <= SETTLED
        return next((state for state in ("cancelled", "failed") if state in states), "completed")

    def grow(self, job: str, task: str) -> None:
        """Put what a settled task found into its job's plan."""
        found = snapshot(self.redis, job)
        grower = next((one for one in found.tasks if one.plan.id == task), None) if found else None
        if found is None or grower is None or not grower.plan.grows or grower.record.state != "completed":
            return
        change = grown(
            [one.plan for one in found.tasks], self.files[job].parts if job in self.files else None
        )
        self.changes_nothing(lambda: self.replan(job, found.version - 1, change))
        word = self.replan(job, found.version, change)
        assert word == "OK" or not found.open, "the orchestrator tries for ever"
        self.did(f"grow {word}")

    def replan(self, job: str, version: int, change: Change) -> str:
        """Change a plan if it still is of that version."""
        remove, order = " ".join(change.remove), " ".join(change.order)
        plan = msgspec.json.encode(change.add).decode()
        word = str(REPLAN(self.redis, job=job, version=version, remove=remove, plan=plan, order=order))
        if word == "OK":
            self.drop(change.remove)
            self.attempts |= {task.id: 0 for task in change.add}
        return word

    def bring_in_line(self) -> None:
        """What `Recovery` does."""
        known, active = (
            set(self.redis.zrange(keys.JOBS(), 0, -1)),
            set(self.redis.zrange(keys.ACTIVE(), 0, -1)),
        )
        for job in (known | active) - set(self.files):
            self.forget(job)
        for job, file in self.files.items():
            if file.outcome is None and (job not in active or file.run > 1):
                self.resume(job)
            elif file.outcome is not None:
                if job in active:
                    self.publish(job)
                self.redis.zadd(keys.JOBS(), {job: 0}, nx=True)

    # What holds

    @invariant()
    def all_of_it_holds(self) -> None:
        """Every method that is named after an invariant, but for those that watch a single step."""
        self.view = look(self.redis)
        for check in HOLDS:
            check(self)
        SEEN.update(task["state"] for task in self.view.tasks.values())
        SEEN.update(f"job {job['state']}" for job in self.view.jobs.values())

    def i1_a_task_is_in_exactly_one_place(self) -> None:
        places: dict[str, dict[tuple[str, bool], dict[str, Any]]] = {
            state: {lane: {} for lane in self.view.lanes} for state in ("queued", "running")
        }
        for id in self.view.in_state("queued", "running"):
            task = self.view.tasks[id]
            place = (id, task["instance"]) if task["state"] == "running" else id
            places[task["state"]][task["engine"], "high" in task][task["entry"]] = place
        for lane, entries in self.view.lanes.items():
            held = self.view.held[lane]
            assert {entry: (entries.get(entry), who) for entry, who in held.items()} == places["running"][
                lane
            ]
            assert {entry: id for entry, id in entries.items() if entry not in held} == places["queued"][lane]
        assert sorted(self.view.delayed) == self.view.in_state("retrying")
        assert all(len(self.view.held_by(*who)) <= 1 for who in self.queues)

    def i2_a_settled_task_stays_as_it_is(self) -> None:
        now = {
            id: (task["state"], task.get("token", ""))
            for id, task in self.view.tasks.items()
            if task["state"] in SETTLED
        }
        assert {id: now.get(id) for id in self.settled} == self.settled
        self.settled = now

    def i4_a_task_runs_when_its_needs_are_met(self) -> None:
        for id in self.view.in_state(*OPEN):
            task = self.view.tasks[id]
            met = all(self.view.met(need) for need in task["needs"].split())
            assert met == (task["state"] != "waiting"), id

    def i5_attempts_are_claims_that_were_not_given_back(self) -> None:
        assert {id: int(task["attempt"]) for id, task in self.view.tasks.items()} == self.attempts
        assert max(self.attempts.values(), default=0) <= ATTEMPTS

    def i6_open_counts_and_somebody_is_told_to_go_on(self) -> None:
        told = {(work["work"], work.get("task", work["job"])) for _, work in self.view.work}
        for id, job in self.view.jobs.items():
            opened = [task for task in self.view.plan(id) if self.view.tasks[task]["state"] in OPEN]
            assert int(job["open"]) == len(opened)
            assert opened or job["state"] in ENDED or ("publish", id) in told
            for need in {need for task in opened for need in self.view.tasks[task]["needs"].split()}:
                grows = self.view.tasks[need]["state"] == "completed" and "grows" in self.view.tasks[need]
                assert not grows or ("grow", need) in told

    def i7_exactly_what_is_behind_a_failure_is_skipped(self) -> None:
        for id, job in self.view.jobs.items():
            states = {task: self.view.tasks[task]["state"] for task in self.view.plan(id)}
            if job["state"] in ACTIVE and "cancelled" not in states.values():
                for task, state in states.items():
                    stopped = any(map(self.view.stops, self.view.tasks[task]["needs"].split()))
                    assert (state == "skipped") == stopped, states

    def i11_active_are_the_jobs_that_have_not_ended(self) -> None:
        assert set(self.view.active) == {id for id, job in self.view.jobs.items() if job["state"] in ACTIVE}

    def i12_an_ended_job_has_nothing_open_and_is_on_its_way_out(self) -> None:
        lasting = set()
        for id, job in self.view.jobs.items():
            if job["state"] in ACTIVE:
                lasting |= {keys.JOB(job=id), *(keys.TASK(task=task) for task in self.view.plan(id))}
            else:
                assert {self.view.tasks[task]["state"] for task in self.view.plan(id)} <= SETTLED
        assert self.view.lasting == lasting

    def i13_i14_redis_agrees_with_the_disk_but_for_a_while(self) -> None:
        for id, file in self.files.items() if not self.behind else ():
            found = self.view.jobs.get(id)
            if file.outcome is None:
                assert found is not None
                assert (found["state"] in ACTIVE, int(found["run"])) == (True, file.run)
            else:
                assert found is None or found["state"] in ENDED
            assert id in self.view.listed

    def i15_what_has_no_folder_has_no_keys_but_for_a_while(self) -> None:
        assert set(self.view.tasks) == {task for job in self.view.jobs for task in self.view.plan(job)}
        assert self.behind or {*self.view.jobs, *self.view.listed} <= set(self.files)

    def i16_a_task_knows_its_letter(self) -> None:
        known = {task["letter"]: id for id, task in self.view.tasks.items() if "letter" in task}
        letters = {letter: id for letter, id in self.view.letters.items() if letter not in self.orphans}
        assert letters == known
        assert set(known.values()) <= set(self.view.in_state("failed"))

    def i3_a_former_owner_changes_nothing(self, call: Callable[[], str]) -> None:
        self.changes_nothing(call, "LOST")

    def i4_a_task_reads_what_completed_of_its_needs(self, task: Task) -> None:
        now = look(self.redis)
        needs = [now.tasks[id] | {"id": id} for id in now.tasks[task.id]["needs"].split()]
        read = [(need["id"], need["token"]) for need in needs if need["state"] == "completed"]
        assert [(need.id, need.token) for need in task.needs] == read

    def i8_a_task_is_in_the_lane_of_its_job(self) -> None:
        high = {task for id, job in self.view.jobs.items() if "high" in job for task in self.view.plan(id)}
        assert {id for id, task in self.view.tasks.items() if "high" in task} == high
        assert self.behind or all(
            ("high" in job) == self.files[id].high for id, job in self.view.jobs.items()
        )

    def i8_no_task_of_the_high_lane_waits(self, task: Task) -> None:
        now = look(self.redis)
        high = [id for id in now.in_state("queued") if now.tasks[id]["engine"] == task.engine
                and "high" in now.tasks[id]]  # fmt: skip
        assert "high" in now.tasks[task.id] or not high


HOLDS = [
    check
    for name, check in vars(Machine).items()
    if re.match(r"i\d", name) and len(signature(check).parameters) == 1
]
EFFECTS = {*OPEN, *SETTLED, *(f"job {state}" for state in ACTIVE | ENDED), "grow OK",
           "renew OK", "renew LOST", "settle OK", "settle LOST", "cancel OK", "cancel completed"}  # fmt: skip
"""What a run that is worth anything has seen."""
RARE = {"start over", "renew CANCELLED", "settle CANCELLED", "thaw OK", "thaw STALE", "thaw EXISTS",
        *(f"cancel {word}" for word in ("ENDING", "NONE", *ENDED))}  # fmt: skip
"""And what a long one has; tests/contract/test_scripts.py has a case for each."""


@pytest.mark.timeout(3600 if LONG else 120)
def test_the_invariants_hold_whatever_happens(
    valkey: str, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for delay in ("RETRY_DELAY_MS", "POSTPONE_MS"):  # they pass when a rule says so
        monkeypatch.setattr(f"dalston_engine.queue.{delay}", LEASE)
    queues = {(engine, name): Queue(valkey, engine, name) for engine in ENGINES for name in INSTANCES}
    run_state_machine_as_test(
        type("Dalston", (Machine,), {"redis": redis, "queues": queues}),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not LONG,
            database=None,
            phases=[Phase.generate, *[Phase.shrink] * LONG],
            suppress_health_check=list(HealthCheck),
        ),
    )
    for queue in queues.values():
        queue.redis.close()
    redis.flushall()
    rules = {rule.function.__name__ for rule in Machine.setup_state().rules}
    wanted = rules | EFFECTS | (RARE if LONG else set())
    assert wanted <= set(SEEN), wanted - set(SEEN)
