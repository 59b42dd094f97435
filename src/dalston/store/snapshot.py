"""A job and its tasks as Redis knows them at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from dalston_engine.errors import ErrorRecord
from msgspec import Struct

from dalston.store.client import Client
from dalston.store.files import PlanTask, StageRecord
from dalston.store.scripts import SHOW, run, run_all


class SnapshotTask(Struct):
    """One task: its place in the plan, and how far it is."""

    plan: PlanTask
    record: StageRecord
    artifact: str
    """The name of what its settled attempt left; empty when there is none."""

    @property
    def required(self) -> bool:
        return self.plan.required


class Snapshot(Struct):
    """A job at one moment."""

    state: str
    open: int
    """Tasks that have not ended."""
    version: int
    run: int
    restarted: bool
    request: bytes
    tasks: list[SnapshotTask]

    @staticmethod
    async def of(redis: Client, job: str) -> Snapshot | None:
        """The job, or None when Redis does not know it."""
        return Snapshot.read(await run(SHOW, redis, job=job))

    @staticmethod
    async def several(redis: Client, jobs: Sequence[str]) -> list[Snapshot | None]:
        """Jobs, each at a moment of its own."""
        return [
            Snapshot.read(answer) for answer in await run_all(SHOW, redis, [{"job": job} for job in jobs])
        ]

    @staticmethod
    def read(answer: Sequence[Any]) -> Snapshot | None:
        """The job from what the script `show` answers."""
        if not answer:
            return None
        fields, *tasks = answer
        known = _dict(fields)
        return Snapshot(
            state=known["state"],
            open=int(known["open"]),
            version=int(known["version"]),
            run=int(known["run"]),
            restarted="restarted" in known,
            request=known["request"].encode(),
            tasks=[_task(id, _dict(fields)) for id, fields in tasks if fields],
        )

    @property
    def stages(self) -> list[StageRecord]:
        return [task.record for task in self.tasks]

    @property
    def artifacts(self) -> list[str]:
        return [task.artifact for task in self.tasks]


def _dict(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _task(id: str, known: dict[str, Any]) -> SnapshotTask:
    part = int(known["part"]) if "part" in known else None
    plan = PlanTask(
        id=id,
        stage=known["stage"],
        engine=known["engine"],
        needs=known["needs"].split(),
        params=known["params"],
        required=known.get("required") != "0",
        grows="grows" in known,
        each="each" in known,
        part=part,
    )
    waited = int(known.get("started_at", 0)) - int(known.get("queued_at", 1))
    record = StageRecord(
        stage=plan.stage,
        engine=plan.engine,
        state=known["state"],
        attempt=int(known["attempt"]),
        part=part,
        progress=1.0
        if known["state"] == "completed"
        else float(known["progress"])
        if "progress" in known
        else None,
        queued_seconds=waited / 1000 if waited >= 0 else None,
        seconds=float(known["seconds"]) if known.get("seconds") else None,
        error=msgspec.json.decode(known["error"], type=ErrorRecord) if known.get("error") else None,
    )
    artifact = f"{id}.{known['token']}" if record.state == "completed" else ""
    return SnapshotTask(plan, record, artifact)
