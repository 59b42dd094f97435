"""Random interleavings of all scripts against a real server; the invariants of the state machine hold.

The invariants are those of docs/architecture/01-state-machine.md, under their numbers.
"""

from __future__ import annotations

import os
from collections import Counter
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

from dalston.orchestrator.growth import Change, grown
from dalston.store.files import PlanTask
from dalston.store.scripts import CANCEL, FAIL, FINISH, FORGET, REPLAN, REVIVE, SHOW, SUBMIT, SWEEP, TIDY
from dalston.store.snapshot import Snapshot, SnapshotTask

LONG = "DALSTON_CHAOS" in os.environ
EXAMPLES, STEPS = (1500, 80) if LONG else (60, 50)
ENGINES = ("a", "b")
INSTANCES = ("one", "two")
OPEN = {"waiting", "queued", "running", "retrying"}
SETTLED = {"completed", "failed", "skipped", "cancelled"}
ACTIVE = {"queued", "running"}
OUTCOMES = ("completed", "completed", "completed", "failed", "retry", "retry", "released", "postponed")
ERROR = ErrorRecord("engine_error", "No.")
MOST_JOBS = 3
SEEN: Counter[str] = Counter()
"""How often each rule fired and each state was seen, over all examples."""


@st.composite
def plans(draw: st.DrawFn) -> list[PlanTask]:
    """Acyclic plans with one sink; ids are completed when the job has one."""
    count = draw(st.integers(1, 4))
    grows = count > 2 and draw(st.booleans())
    tasks: list[PlanTask] = []
    for n in range(count):
        earlier = [task.id for task in tasks]
        needs = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
        each = grows and n == 1
        if each:
            needs = ["0"]
        engine, required = draw(st.sampled_from(ENGINES)), draw(st.integers(0, 3)) > 0
        tasks.append(
            PlanTask(str(n), "prepare", engine, needs, "{}", required or n == 0, grows and n == 0, each)
        )
    needed = {need for task in tasks for need in task.needs}
    sinks = [task.id for task in tasks if task.id not in needed]
    return [*tasks, PlanTask("sink", "merge", draw(st.sampled_from(ENGINES)), sinks, "{}")]


class Machine(RuleBasedStateMachine):
    """All that can happen to a few jobs."""

    redis: Any
    url: str

    @initialize()
    def begin(self) -> None:
        self.redis.flushall()
        self.count = 0
        self.queues = {(e, i): Queue(self.url, e, i) for e in ENGINES for i in INSTANCES}
        self.leases: list[tuple[Task, Queue]] = []
        self.outcomes: dict[str, str] = {}
        self.settled: dict[str, str] = {}
        self.forgotten: set[str] = set()
        self.saved: dict[str, Any] | None = None
        self.look()

    def teardown(self) -> None:
        """Whatever has happened, every job comes to an end once everybody works."""
        for _ in range(ATTEMPTS + 1):
            self.sweep_all()
            while any([self.finish_one(queue, "completed") for queue in self.queues.values()]):
                self.orchestrate()
            self.orchestrate()
        assert not self.redis.zcard(keys.ACTIVE())
        self.a_look_comes_first()
        self.i1_a_task_is_in_exactly_one_place()
        for queue in self.queues.values():
            queue.redis.close()

    # What is there

    def look(self) -> None:
        """Read all jobs as they are now."""
        self.jobs: dict[str, Snapshot] = {}
        for job in self.redis.zrange(keys.JOBS(), 0, -1):
            found = Snapshot.read(SHOW(self.redis, job=job))
            assert found is not None
            self.jobs[job] = found

    @property
    def tasks(self) -> dict[str, SnapshotTask]:
        return {task.plan.id: task for job in self.jobs.values() for task in job.tasks}

    def everything(self) -> dict[str, Any]:
        """All that the server holds."""
        return {key: self.redis.dump(key) for key in self.redis.scan_iter()}

    def met(self, task: str) -> bool:
        """Whether what needs the task may go on."""
        found = self.tasks[task]
        state = found.record.state
        return (state == "completed" and not found.plan.grows) or (state == "failed" and not found.required)

    def hash(self, task: str, field: str) -> str | None:
        value: str | None = self.redis.hget(keys.TASK(task=task), field)
        return value

    # What can happen

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule(plan=plans(), high=st.booleans())
    def submit(self, plan: list[PlanTask], high: bool) -> None:
        job = f"j{self.count}"
        self.count += 1
        named = [
            msgspec.structs.replace(t, id=f"{job}.{t.id}", needs=[f"{job}.{n}" for n in t.needs])
            for t in plan
        ]
        values: dict[str, Any] = {"job": job, "owner": "me", "request": "{}", "high": 1 if high else None}
        values["plan"] = msgspec.json.encode(named).decode()
        assert SUBMIT(self.redis, **values) == "OK"
        before = self.everything()
        assert SUBMIT(self.redis, **values) == "EXISTS"
        assert self.everything() == before, "I9"

    @rule(engine=st.sampled_from(ENGINES), instance=st.sampled_from(INSTANCES))
    def claim(self, engine: str, instance: str) -> None:
        queue = self.queues[engine, instance]
        before = self.tasks
        task = queue.claim()
        if task is None:
            return
        assert queue.claim() == task, "I9"
        was = before[task.id].record
        if was.state == "queued":
            assert int(self.hash(task.id, "attempt") or 0) == was.attempt + 1, "I5"
            waiting_high = [
                t
                for t in self.redis.xrange(keys.QUEUE_HIGH(engine=engine))
                if self.hash(t[1]["task"], "state") == "queued"
            ]
            assert self.hash(task.id, "high") or not waiting_high, "I8"
        else:
            assert (was.state, self.hash(task.id, "token")) == ("running", task.token)
        self.leases.append((task, queue))

    @rule(outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4))
    def work(self, outcomes: list[str]) -> None:
        """Engines claim and settle as they should."""
        for outcome in outcomes:
            for queue in self.queues.values():
                if self.finish_one(queue, outcome):
                    break

    def finish_one(self, queue: Queue, outcome: str) -> bool:
        """Claim a task and settle it; whether there was one."""
        task = queue.claim()
        if task is not None:
            self.leases.append((task, queue))
            assert queue.settle(task, outcome, 0.1, ERROR) == "OK"
        return task is not None

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), progress=st.sampled_from([None, 0.5]))
    def renew(self, data: st.DataObject, progress: float | None) -> None:
        task, queue = data.draw(st.sampled_from(self.leases[-6:]))
        self.fenced(task, lambda: queue.renew(task, progress))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def settle(self, data: st.DataObject, outcome: str) -> None:
        task, queue = data.draw(st.sampled_from(self.leases[-6:]))
        error = None if outcome == "completed" else ERROR
        attempt, state = self.hash(task.id, "attempt"), self.hash(task.id, "state")
        word = self.fenced(task, lambda: queue.settle(task, outcome, 0.1, error))
        if word == "OK" and state == "running" and outcome in ("released", "postponed"):
            assert int(self.hash(task.id, "attempt") or 0) == int(attempt or 0) - 1, "I5"
        before = self.everything()
        assert queue.settle(task, outcome, 0.1, error) == word, "I9"
        assert self.everything() == before, "I9"

    def fenced(self, task: Task, call: Any) -> str:
        """What a call with a lease answers; a former owner's changes nothing (I3)."""
        owner = self.hash(task.id, "token") == task.token
        before = None if owner else self.everything()
        word = str(call())
        if before is not None:
            assert word == "LOST", "I3"
            assert self.everything() == before, "I3"
        return word

    @rule()
    def sweep_all(self) -> None:
        """Every lease has run out, every delay has passed."""
        for task in self.redis.zrange(keys.DELAYED(), 0, -1):
            self.redis.zadd(keys.DELAYED(), {task: 0})
        SWEEP(self.redis, lease=0, attempts=ATTEMPTS, limit=100)

    @rule()
    def sweep_nothing(self) -> None:
        before = {task: found.record.state for task, found in self.tasks.items()}
        SWEEP(self.redis, lease=10**9, attempts=ATTEMPTS, limit=100)
        self.look()
        assert {task: found.record.state for task, found in self.tasks.items()} == before, "I10"

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 2)):
            return
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        found = self.jobs[job]
        word = CANCEL(self.redis, job=job)
        assert word == (("OK" if found.open else "ENDING") if found.state in ACTIVE else found.state)
        before = self.everything()
        assert CANCEL(self.redis, job=job) == ("ENDING" if found.state in ACTIVE else found.state)
        assert self.everything() == before, "I9"

    @rule()
    def orchestrate(self) -> None:
        """Do all the work there is, each of it twice."""
        for entry, work in self.redis.xrange(keys.WORK()):
            for _ in range(2):
                if work["work"] == "grow":
                    self.grow(work["job"], work["task"])
                else:
                    self.publish(work["job"])
            self.redis.xdel(keys.WORK(), entry)

    def grow(self, job: str, task: str) -> None:
        found = Snapshot.read(SHOW(self.redis, job=job))
        grower = next((one for one in found.tasks if one.plan.id == task), None) if found else None
        if (
            found is not None
            and grower is not None
            and grower.plan.grows
            and grower.record.state == "completed"
        ):
            change = grown([one.plan for one in found.tasks], 2)
            assert self.replan(job, found.version - 1, change) in ("STALE", "ENDED")
            assert self.replan(job, found.version, change) in ("OK", "ENDED")
            SEEN["grown"] += 1

    def replan(self, job: str, version: int, change: Change) -> str:
        added, order = msgspec.json.encode(change.add).decode(), " ".join(change.order)
        remove = " ".join(change.remove)
        return str(REPLAN(self.redis, job=job, version=version, remove=remove, plan=added, order=order))

    def publish(self, job: str) -> None:
        found = Snapshot.read(SHOW(self.redis, job=job))
        if found is not None and (job in self.outcomes or not found.open):
            states = {task.record.state for task in found.tasks if task.required}
            state = next((s for s in ("cancelled", "failed") if s in states), "completed")
            self.finish(job, self.outcomes.setdefault(job, state))

    def finish(self, job: str, state: str) -> None:
        FINISH(self.redis, job=job, state=state, error=None, keep=600, retention=None)
        before = self.everything()
        assert FINISH(self.redis, job=job, state="failed", error="{}", keep=600, retention=None) == "EXISTS"
        assert self.everything() == before, "I9"

    @precondition(lambda self: any(task.record.state == "queued" for task in self.tasks.values()))
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """An engine stays away: its task goes to the other one."""
        queued = sorted(id for id, task in self.tasks.items() if task.record.state == "queued")
        id = data.draw(st.sampled_from(queued))
        job, task = id.split(".")[0], self.tasks[id].plan
        found, other = self.jobs[job], "b" if task.engine == "a" else "a"
        change = Change([id], [msgspec.structs.replace(task, engine=other)], [t.plan.id for t in found.tasks])
        assert self.replan(job, found.version, change) == "OK"
        before = self.everything()
        assert self.replan(job, found.version, change) == "STALE", "I9"
        assert self.everything() == before, "I9"
        assert self.hash(id, "engine") == other

    @precondition(lambda self: any(task.record.state == "queued" for task in self.tasks.values()))
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 3)):
            return
        queued = sorted(id for id, task in self.tasks.items() if task.record.state == "queued")
        id = data.draw(st.sampled_from(queued))
        told = {
            "task": id,
            "engine": self.tasks[id].plan.engine,
            "error": msgspec.json.encode(ERROR).decode(),
        }
        assert FAIL(self.redis, **told) == "OK"
        before = self.everything()
        assert FAIL(self.redis, **told) == "STALE"
        assert self.everything() == before, "I9"

    @precondition(lambda self: any(state != "completed" for state in self.outcomes.values()))
    @rule(data=st.data(), all=st.booleans())
    def revive(self, data: st.DataObject, all: bool) -> None:
        ended = sorted(
            j for j, s in self.outcomes.items() if s != "completed" and self.jobs[j].state not in ACTIVE
        )
        if not ended:
            return
        job = data.draw(st.sampled_from(ended))
        del self.outcomes[job]
        self.settled = {task: state for task, state in self.settled.items() if task.split(".")[0] != job}
        assert REVIVE(self.redis, job=job, all=1 if all else None) == "OK"
        before = self.everything()
        assert REVIVE(self.redis, job=job, all=None) == "EXISTS"
        assert self.everything() == before, "I9"

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 2)):
            return
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        for _ in range(2):
            assert FORGET(self.redis, job=job, tasks="") == "OK"
        self.outcomes.pop(job, None)
        self.forgotten.add(job)
        self.settled = {task: state for task, state in self.settled.items() if task.split(".")[0] != job}

    @rule()
    def tidy(self) -> None:
        TIDY(self.redis, idle=-1, forget=10**9)
        assert TIDY(self.redis, idle=-1, forget=10**9) == 0

    @rule()
    def save(self) -> None:
        """What the append-only file has by now."""
        ttls = {key: max(self.redis.pttl(key), 0) for key in self.redis.scan_iter()}
        self.saved = {"keys": self.everything(), "ttls": ttls, "settled": dict(self.settled)}
        self.saved["forgotten"] = set(self.forgotten)

    @precondition(lambda self: self.saved)
    @rule()
    def go_back(self) -> None:
        """Redis has lost what came after; then the files are compared with it."""
        assert self.saved is not None
        self.redis.flushall()
        for key, dump in self.saved["keys"].items():
            self.redis.restore(key, self.saved["ttls"][key], dump)
        self.settled = dict(self.saved["settled"])
        self.saved = None
        self.look()
        for job in self.jobs:
            if job in self.forgotten:
                FORGET(self.redis, job=job, tasks="")
                self.settled = {t: s for t, s in self.settled.items() if t.split(".")[0] != job}
            elif job in self.outcomes:
                self.settled = {t: s for t, s in self.settled.items() if t.split(".")[0] != job}
                self.finish(job, self.outcomes[job])
            elif self.jobs[job].state not in ACTIVE:
                self.settled = {t: s for t, s in self.settled.items() if t.split(".")[0] != job}
                REVIVE(self.redis, job=job, all=None)
        SEEN["went back"] += 1
        for job in [job for job in self.outcomes if job not in self.jobs]:
            del self.outcomes[job]

    # What holds

    @invariant()
    def a_look_comes_first(self) -> None:
        if hasattr(self, "count"):
            self.look()
            SEEN.update(task.record.state for task in self.tasks.values())
            SEEN.update(f"job {job.state}" for job in self.jobs.values())

    @invariant()
    def i1_a_task_is_in_exactly_one_place(self) -> None:
        for engine in ENGINES:
            for high, lane in ((None, keys.QUEUE(engine=engine)), ("1", keys.QUEUE_HIGH(engine=engine))):
                waiting, held = {}, {}
                for id, task in self.tasks.items():
                    if task.plan.engine == engine and self.hash(id, "high") == high:
                        entry = self.hash(id, "entry")
                        if task.record.state == "queued":
                            waiting[entry] = id
                        elif task.record.state == "running":
                            held[entry] = (id, self.hash(id, "instance"))
                entries = {entry: fields["task"] for entry, fields in self.redis.xrange(lane)}
                pending = self.pending(lane)
                assert {e: (t, pending[e]) for e, t in entries.items() if e in pending} == held
                assert {e: t for e, t in entries.items() if e not in pending} == waiting
                assert set(pending) <= set(entries)
        delayed = {id for id, task in self.tasks.items() if task.record.state == "retrying"}
        assert set(self.redis.zrange(keys.DELAYED(), 0, -1)) == delayed

    def pending(self, lane: str) -> dict[str, str]:
        """The leased entries of a lane and who holds them."""
        if not self.redis.exists(lane) or not self.redis.xinfo_groups(lane):
            return {}
        found = self.redis.xpending_range(lane, keys.GROUP, "-", "+", 100)
        return {one["message_id"]: one["consumer"] for one in found}

    @invariant()
    def i2_a_settled_task_stays_settled(self) -> None:
        now = {id: task.record.state for id, task in self.tasks.items()}
        assert {id: now.get(id) for id in self.settled} == self.settled
        self.settled = {id: state for id, state in now.items() if state in SETTLED}

    @invariant()
    def i4_a_task_runs_when_its_needs_are_met(self) -> None:
        for task in self.tasks.values():
            if task.record.state in ("queued", "running", "retrying"):
                assert all(map(self.met, task.plan.needs)), task
            elif task.record.state == "waiting":
                assert not all(map(self.met, task.plan.needs)), task

    @invariant()
    def i5_no_task_is_claimed_too_often(self) -> None:
        assert all(task.record.attempt <= ATTEMPTS for task in self.tasks.values())

    @invariant()
    def i6_open_counts_the_open_tasks(self) -> None:
        published = {work["job"] for _, work in self.redis.xrange(keys.WORK()) if work["work"] == "publish"}
        for id, job in self.jobs.items():
            assert job.open == sum(task.record.state in OPEN for task in job.tasks)
            assert job.state not in ACTIVE or job.open or id in published

    @invariant()
    def i7_exactly_the_descendants_of_a_failure_are_skipped(self) -> None:
        for job in self.jobs.values():
            ended = {t.plan.id: t.record.state for t in job.tasks}
            stops = {
                t.plan.id
                for t in job.tasks
                if t.record.state == "skipped" or (t.required and t.record.state == "failed")
            }
            if job.state in ACTIVE and "cancelled" not in ended.values():
                for task in job.tasks:
                    assert (task.record.state == "skipped") == bool(stops & set(task.plan.needs)), ended

    @invariant()
    def i11_active_are_those_that_have_not_ended(self) -> None:
        active = {job for job, found in self.jobs.items() if found.state in ACTIVE}
        assert set(self.redis.zrange(keys.ACTIVE(), 0, -1)) == active

    @invariant()
    def i12_an_ended_job_has_nothing_open_and_is_on_its_way_out(self) -> None:
        for id, job in self.jobs.items():
            names = [keys.JOB(job=id), *(keys.TASK(task=task.plan.id) for task in job.tasks)]
            ended = job.state not in ACTIVE
            assert not (ended and job.open)
            assert [self.redis.ttl(name) > 0 for name in names] == [ended] * len(names)

    @invariant()
    def i13_an_outcome_stays(self) -> None:
        for job, state in self.outcomes.items():
            assert self.jobs[job].state == state

    @invariant()
    def i15_a_forgotten_job_has_no_keys(self) -> None:
        left = {key.split(":")[-1].split(".")[0] for family in (keys.JOB, keys.TASK)
                for key in self.redis.scan_iter(family.pattern.split("{")[0] + "*")}  # fmt: skip
        assert left == set(self.jobs)


@pytest.mark.timeout(1800 if LONG else 120)
def test_the_invariants_hold_whatever_happens(valkey: str, redis: Any) -> None:
    machine = type("Dalston", (Machine,), {"redis": redis, "url": valkey})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=list(Phase) if LONG else [Phase.generate],
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
    redis.flushall()
    deep = {*OPEN, *SETTLED, "job completed", "job failed", "job cancelled", "grown", "went back"}
    assert deep <= set(SEEN), deep - set(SEEN)
