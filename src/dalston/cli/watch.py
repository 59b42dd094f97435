"""`dalston watch`: a job's stages as they go, until it has ended."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec
from dalston_engine.errors import DalstonError

from dalston.cli.server import connected
from dalston.cli.show import why_not

MARKS = {"completed": "✓", "failed": "✗", "running": "▶", "cancelled": "⊘", "skipped": "-"}


async def watch(id: str, json: bool, data: str | None) -> None:
    """Show a job until it has ended; raises DalstonError when it did not complete."""
    async with connected(data) as client:
        if json:
            ended = await client.follow(id, lambda job: print(msgspec.json.encode(job).decode(), flush=True))
        elif sys.stdout.isatty():
            ended = await _live(lambda seen: client.follow(id, seen))
        else:
            ended = await client.follow(id, Told())
    if ended["state"] != "completed":
        raise DalstonError(why_not(ended))


async def _live(follow: Callable[[Callable[[Any], None]], Any]) -> Any:
    from rich.live import Live

    with Live() as live:
        return await follow(lambda job: live.update("\n".join(lines(job))))


def lines(job: Any) -> list[str]:
    """The job and its stages, a line each."""
    head = f"{job['id']}  {job['state']}  {job['progress']:.0%}"
    return [head, *(f"  {_stage(stage)}" for stage in job["stages"])]


def _stage(stage: Any) -> str:
    part = "" if stage.get("part") is None else f" {stage['part']}"
    took = f"  {stage['seconds']:.2f} s" if "seconds" in stage else ""
    share = f"  {stage['progress']:.0%}" if stage["state"] == "running" and "progress" in stage else ""
    again = f"  try {stage['attempt']}" if stage["attempt"] > 1 else ""
    mark = MARKS.get(stage["state"], "·")
    return f"{mark} {stage['stage'] + part:12} {stage['engine']:16} {stage['state']}{took}{share}{again}"


class Told:
    """For a pipe: a line for every new state of a stage, and one for the job's end."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, Any], str] = {}

    def __call__(self, job: Any) -> None:
        for stage in job["stages"]:
            key = stage["stage"], stage.get("part")
            if self._seen.get(key) != stage["state"] and stage["state"] != "waiting":
                self._seen[key] = stage["state"]
                print(_stage(stage), flush=True)
        if job["state"] in {"completed", "failed", "cancelled"}:
            print(f"{job['id']}  {job['state']}", flush=True)
