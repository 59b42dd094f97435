"""CPU seconds of a server's processes on this machine, told apart by what they run."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

PARTS = ("dalston.gateway", "dalston.orchestrator")


class Processes:
    """The processes below a server's parent."""

    def __init__(self, parent: int) -> None:
        self._parent = psutil.Process(parent)
        self._last: dict[int, float] = {}

    def lap(self) -> dict[str, float]:
        """CPU seconds, user and system, of each part since the last call; idle parts are absent."""
        spent: dict[str, float] = {}
        now: dict[int, float] = {}
        for process in self._parent.children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if name := _name(process.cmdline()):
                    now[process.pid] = _seconds(process)
                    used = now[process.pid] - self._last.get(process.pid, 0.0)
                    spent[name] = spent.get(name, 0.0) + used
        self._last = now
        return {name: round(seconds, 2) for name, seconds in spent.items() if seconds > 0}


def _name(command: list[str]) -> str | None:
    """An engine's id, `gateway`, `orchestrator` or `redis`; None for what is no part of a server."""
    for word in command:
        if word.endswith("/engine.py"):
            return Path(word).parent.name
        if word in PARTS:
            return word.removeprefix("dalston.")
    return "redis" if command and Path(command[0]).name in ("valkey-server", "redis-server") else None


def _seconds(process: psutil.Process) -> float:
    """Of a process, and of those it started, ended ones too."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            total += sum(one.cpu_times()[:4])
    return total
