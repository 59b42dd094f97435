"""A Valkey, a data folder and instances of one engine, for as long as its checks last.

The stages before the engine's own are played here by hand; everything else is the real thing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from dalston_engine import keys
from dalston_engine.errors import DalstonError, ErrorRecord
from dalston_engine.queue import ATTEMPTS, AWAY, Queue, connect
from dalston_engine.stages import STAGES
from dalston_engine.types import Segment, Task
from dalston_engine.workspace import Workspace
from msgspec import Struct

from dalston import settings as settings_
from dalston.conformance import inside
from dalston.conformance.material import Material
from dalston.local import valkey
from dalston.local.environments import EngineFolder
from dalston.local.server import engine_surroundings, surroundings
from dalston.store.files import Files, PlanTask
from dalston.store.jobs import new_id
from dalston.store.scripts import CANCEL, SUBMIT, SWEEP

PAUSE_S = 0.02
TASK_S = 600.0
"""How long a step may take, loading a model included."""
LEASE_MS = 3_000
"""Shorter than the server's 15 s, to save the wait; an engine renews its lease every second."""
HAND = "conformance-{stage}"
"""The engine that plays a stage."""
ENDED = {"completed", "failed", "retrying", "cancelled", "skipped"}
TAIL = 20


class Failed(DalstonError):
    """The engine does not do what every engine must."""

    code, retryable = "nonconforming", False


class Attempt(Struct):
    """What became of a task."""

    task: str
    job: str
    state: str
    attempt: int
    error: ErrorRecord | None
    token: str


class Workbench:
    """Everything a check needs; see `workbench`."""

    def __init__(self, engine: EngineFolder, folder: Path, models: Path, model: str) -> None:
        self.model, self.engine, self.stage = model, engine, STAGES[engine.manifest.stage]
        self.data, self.place, self.log = folder / "data", folder / "place", folder / "engine.log"
        self.tmp, self.cwd, self.killed = folder / "tmp", folder / "cwd", folder / "killed"
        self.inputs = folder / "inputs"
        for path in (self.data, self.place, self.tmp, self.cwd, self.killed, self.inputs):
            path.mkdir()
        own = settings_.Settings(data=str(self.data), models=str(models), redis_url=valkey.url(folder / "v"))
        self.settings = msgspec.structs.replace(own, offline=settings_.load().offline)
        self.files = Files(self.data)
        self.redis: Any = connect(self.settings.redis_url)
        self.errors: list[str] = []
        """What the engine's tasks have failed with."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """What an instance is told by its environment."""
        env = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}}
        return env | engine_surroundings(self.engine, surroundings(self.settings), self.model)

    @contextlib.contextmanager
    def instance(self, hold: str = "", tmp: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """An instance at work; `hold`: where each of its tasks waits, see `inside`."""
        python, code = self.engine.command
        held = [inside.__file__, "hold", hold, str(self.place)] if hold else []
        for left in self.place.iterdir():
            left.unlink()
        env = self.env | {"TMPDIR": str(tmp or self.tmp)}
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [python, *held, code], env=env, cwd=self.cwd, preexec_fn=valkey.die_with_parent,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.process = process
        try:
            yield process
        finally:
            self.process = None
            process.kill()
            process.wait()

    def alone(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The engine run by hand, without a server."""
        python, code = self.engine.command
        return self._run([python, inside.__file__, "alone", code, *map(str, arguments)])

    def hear(self, model: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """The engine given the recordings in a folder as utterances of live sessions."""
        python, code = self.engine.command
        return self._run([python, inside.__file__, "hear", model, str(folder), code])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        env = self.env | {"TMPDIR": str(self.tmp)}
        try:
            return subprocess.run(  # noqa: S603
                command, env=env, cwd=self.cwd, capture_output=True, text=True, check=False, timeout=TASK_S
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"`engine.py` with a recording did not end within {TASK_S:.0f} s") from None

    def submit(self, material: Material, params: dict[str, Any]) -> str:
        """A job whose last task is the engine's; the tasks before it are done. Returns the task."""
        job, given = new_id(), msgspec.json.encode(params).decode()
        names = list(STAGES)[: list(STAGES).index(self.stage.name) + 1]
        plan = [
            PlanTask(f"{job}.{name}", name, HAND.format(stage=name), [f"{job}.{n}" for n in names[:at]], "{}")
            for at, name in enumerate(names)
        ]
        plan[-1].engine, plan[-1].params = self.engine.manifest.id, given
        (self.files.create(job) / "source.wav").write_bytes(material.source)
        told: dict[str, Any] = {
            "owner": "conformance",
            "created": 1,
            "request": "{}",
            "high": None,
            "trace": None,
            "key": None,
        }
        SUBMIT(self.redis, job=job, run=1, plan=msgspec.json.encode(plan).decode(), **told)
        for name in names[:-1]:
            self._play(name, material)
        return f"{job}.{self.stage.name}"

    def cancel(self, task: str) -> None:
        """Cancel a task's job."""
        CANCEL(self.redis, job=task.split(".")[0], run=1)

    def taken_back(self, task: str) -> bool:
        """Sweep as an orchestrator does; whether the task's first lease has ended by now."""
        SWEEP(self.redis, lease=LEASE_MS, attempts=ATTEMPTS, limit=100)
        found = self.look(task)
        return found.state != "running" or found.attempt > 1

    def look(self, task: str) -> Attempt:
        """A task as Redis has it now."""
        found = self.redis.hgetall(keys.TASK(task=task))
        error = msgspec.json.decode(found["error"], type=ErrorRecord) if found.get("error") else None
        attempt, token = int(found.get("attempt") or 0), found.get("token", "")
        return Attempt(task, task.split(".")[0], found["state"], attempt, error, token)

    def ended(self, material: Material, params: dict[str, Any]) -> Attempt:
        """What became of a task with that material and those options."""
        task = self.submit(material, params)
        self.until(lambda: self.look(task).state in ENDED, f"the task with {material.name}")
        attempt = self.look(task)
        self.errors += [attempt.error.message] if attempt.error else []
        return attempt

    def held(self, task: str) -> bool:
        """Wait until the task is held, or has ended; whether it is held."""
        flag = self.place / inside.HELD
        self.until(lambda: flag.exists() or self.look(task).state in ENDED, "the task")
        held = flag.exists()
        flag.unlink(missing_ok=True)
        return held

    def swallowed(self) -> bool:
        """Whether a task went on though it was told to stop."""
        return (self.place / inside.SWALLOWED).exists()

    def result(self, attempt: Attempt) -> bytes:
        """What a completed task returned, as JSON."""
        return (self.files.jobs / attempt.job / f"{attempt.task}.{attempt.token}.json").read_bytes()

    def told(self, attempt: Attempt) -> list[Segment]:
        """What a task that was followed said on its way."""
        entries = self.redis.xrange(keys.SEGMENTS(job=attempt.job))
        return [s for _, told in entries for s in msgspec.json.decode(told["segments"], type=list[Segment])]

    def left(self, attempt: Attempt) -> list[str]:
        """What the task's attempts left in the job's folder."""
        return sorted(path.name for path in (self.files.jobs / attempt.job).glob(f"{attempt.task}.*"))

    def stray_attempts(self) -> list[str]:
        """Files in the jobs' folders that belong to no completed task."""
        found = []
        for job in self.files.jobs.iterdir():
            tasks = self.redis.hget(keys.JOB(job=job.name), "tasks").split()
            done = [one for one in map(self.look, tasks) if one.state == "completed"]
            wanted = {"source.wav", *(f"{one.task}.{one.token}" for one in done)}
            names = {path.name for path in job.iterdir()}
            found += [name for name in names if not {name, name.removesuffix(".json")} & wanted]
        return found

    def until(self, what: Callable[[], Any], name: str) -> Any:
        """The first true answer of `what`; raises Failed when the process ends first."""
        end = time.monotonic() + TASK_S
        while not (answer := what()):
            if time.monotonic() > end:
                raise Failed(f"{name} did not end within {TASK_S:.0f} s")
            code = self.process.poll() if self.process else None
            if code is not None and not what():
                raise Failed(f"the process ended with {code} while it should work")
            time.sleep(PAUSE_S)
        return answer

    def last_words(self) -> str:
        """The last lines that the instances wrote."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-TAIL:])

    def _play(self, stage: str, material: Material) -> None:
        queue = Queue(self.settings.redis_url, HAND.format(stage=stage), "hand")
        with contextlib.closing(queue.redis):
            task = queue.claim()
            assert task is not None
            self._write(task, material)
            queue.settle(task, "completed", 0.0)

    def _write(self, task: Task, material: Material) -> None:
        with Workspace(self.files.jobs, task) as workspace:
            if task.stage == "prepare":
                workspace.folder.mkdir()
                (workspace.folder / "audio.wav").write_bytes(material.audio)
            workspace.result.write_bytes(material.result(task.stage))


@contextlib.contextmanager
def workbench(engine: EngineFolder, folder: Path, models: Path, model: str = "") -> Iterator[Workbench]:
    """A workbench in an empty folder; its Valkey ends with the context. `model`: the one to have loaded."""
    command = valkey.command(folder / "v")
    with subprocess.Popen(command, preexec_fn=valkey.die_with_parent) as server:  # noqa: S603
        bench = Workbench(engine, folder, models, model)
        try:
            _wait_for(bench.redis, server)
            yield bench
        finally:
            bench.redis.close()
            server.terminate()


def _wait_for(redis: Any, server: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            redis.ping()
            return
        except AWAY:
            if server.poll() is not None:
                raise Failed("the Redis of the checks did not start; `dalston doctor` says more") from None
            time.sleep(PAUSE_S)
