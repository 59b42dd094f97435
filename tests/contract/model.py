"""What the state machine is held against: plans at random, the files on disk, all that a server holds."""

from __future__ import annotations

from typing import Any

import msgspec
from dalston_engine import keys
from dalston_engine.testing import family
from hypothesis import strategies as st
from msgspec import Struct, field

from dalston.store.files import PlanTask
from dalston.store.scripts import SHOW
from dalston.store.snapshot import Snapshot

ENGINES = ("a", "b")
OPEN = {"waiting", "queued", "running", "retrying"}
SETTLED = {"completed", "failed", "skipped", "cancelled"}
ACTIVE = {"queued", "running"}
ENDED = {"completed", "failed", "cancelled"}
ASKED: dict[str, Any] = {"owner": "me", "created": 1, "trace": None, "request": "{}", "key": None}
"""What `submit` is told of a job besides its id, its run, its plan and its lane."""
FINE: dict[str, Any] = {"error": None, "notify": None}
"""What `finish` is told of a job without an error of which nobody is told."""

Fields = dict[str, str]


class File(Struct):
    """A job on disk."""

    plan: list[PlanTask]
    high: bool
    parts: int | None
    """How many parts the task that grows finds."""
    outcome: str | None = None
    run: int = 1


@st.composite
def plans(draw: st.DrawFn, job: str = "") -> list[PlanTask]:
    """Acyclic plans with one sink; the first task may grow, and then what is behind it may be `each`."""
    engines = st.sampled_from(ENGINES)
    grows = draw(st.booleans())
    tasks = [PlanTask("0", "prepare", draw(engines), [], "{}", grows or draw(st.booleans()), grows)]
    behind = {"0"} if grows else set()
    for n in range(1, draw(st.integers(1, 4))):
        needs = draw(st.lists(st.sampled_from([task.id for task in tasks]), unique=True))
        each = bool(behind & set(needs)) and draw(st.booleans())
        behind |= {str(n)} if behind & set(needs) else set()
        required = draw(st.integers(0, 2)) > 0
        tasks.append(PlanTask(str(n), "transcribe", draw(engines), needs, "{}", required, each=each))
    needed = {need for task in tasks for need in task.needs}
    sink = PlanTask("sink", "merge", draw(engines), [t.id for t in tasks if t.id not in needed], "{}")
    return [*tasks, sink]


def named(job: str, plan: list[PlanTask]) -> list[PlanTask]:
    """The plan as that of a job."""
    return [
        msgspec.structs.replace(task, id=f"{job}.{task.id}", needs=[f"{job}.{need}" for need in task.needs])
        for task in plan
    ]


def everything(redis: Any, but: str = "") -> dict[str, tuple[bytes, int]]:
    """All keys of the server but one: what they hold and when they end, as milliseconds or -1."""
    names = sorted({key for key in redis.scan_iter(count=1000) if key != but})
    with redis.pipeline(transaction=False) as pipe:
        for key in names:
            pipe.dump(key)
            pipe.pexpiretime(key)
        found = pipe.execute()
    return dict(zip(names, zip(found[::2], found[1::2], strict=True), strict=True))


def put_back(redis: Any, saved: dict[str, tuple[bytes, int]]) -> None:
    """Let the server hold what it held then, and nothing else."""
    redis.flushall()
    for key, (content, end) in saved.items():
        redis.restore(key, max(end, 0), content, absttl=end >= 0)


def snapshot(redis: Any, job: str) -> Snapshot | None:
    """A job as the server's own code reads it."""
    return Snapshot.read(SHOW(redis, job=job))


class View(Struct):
    """All that the server holds, key by key."""

    jobs: dict[str, Fields] = field(default_factory=dict)
    tasks: dict[str, Fields] = field(default_factory=dict)
    lasting: set[str] = field(default_factory=set)
    """Keys of jobs and tasks that have no TTL."""
    lanes: dict[tuple[str, bool], dict[str, str]] = field(default_factory=dict)
    """Entries of each lane, by engine and whether it is the high one."""
    held: dict[tuple[str, bool], dict[str, str]] = field(default_factory=dict)
    """Entries that are leased, and to whom."""
    delayed: list[str] = field(default_factory=list)
    work: list[tuple[str, Fields]] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    letters: dict[str, str] = field(default_factory=dict)
    """Dead letters and the tasks they tell of."""

    def plan(self, job: str) -> list[str]:
        """The ids of a job's tasks."""
        return self.jobs[job]["tasks"].split()

    def in_state(self, *states: str) -> list[str]:
        """The tasks in these states."""
        return sorted(id for id, task in self.tasks.items() if task["state"] in states)

    def held_by(self, engine: str, instance: str) -> list[str]:
        """The tasks that an instance runs."""
        return [
            id for id in self.in_state("running")
            if (self.tasks[id]["engine"], self.tasks[id]["instance"]) == (engine, instance)
        ]  # fmt: skip

    def met(self, id: str) -> bool:
        """Whether what needs the task may go on."""
        task = self.tasks[id]
        if task["state"] == "completed":
            return "grows" not in task
        return task["state"] == "failed" and task.get("required") == "0"

    def stops(self, id: str) -> bool:
        """Whether what needs the task will never run."""
        task = self.tasks[id]
        return task["state"] == "skipped" or (task["state"] == "failed" and task.get("required") != "0")


def look(redis: Any) -> View:
    """What the server holds now."""
    view, names = View(), sorted(set(redis.scan_iter(count=1000)))
    hashes = [name for name in names if family(name) in (keys.JOB, keys.TASK)]
    with redis.pipeline(transaction=False) as pipe:
        for name in hashes:
            pipe.hgetall(name)
            pipe.ttl(name)
        pipe.zrange(keys.DELAYED(), 0, -1)
        pipe.xrange(keys.WORK())
        pipe.zrange(keys.ACTIVE(), 0, -1)
        pipe.zrange(keys.JOBS(), 0, -1)
        for engine in ENGINES:
            pipe.xrange(keys.DEAD(engine=engine))
            for lane in (keys.QUEUE, keys.QUEUE_HIGH):
                pipe.xrange(lane(engine=engine))
                pipe.xpending_range(lane(engine=engine), keys.GROUP, "-", "+", 100)
        found = iter(pipe.execute(raise_on_error=False))  # a lane may have no group yet
    for name in hashes:
        known = view.jobs if family(name) is keys.JOB else view.tasks
        known[name.split(":")[-1]] = next(found)
        if next(found) == -1:
            view.lasting.add(name)
    view.delayed, view.work, view.active, view.listed = (next(found) for _ in range(4))
    for engine in ENGINES:
        view.letters |= {entry: fields["task"] for entry, fields in next(found)}
        for high in (False, True):
            view.lanes[engine, high] = {entry: fields["task"] for entry, fields in next(found)}
            pending = next(found)
            pending = [] if isinstance(pending, Exception) else pending
            view.held[engine, high] = {one["message_id"]: one["consumer"] for one in pending}
    return view
