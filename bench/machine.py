"""What the machine says of processes and of itself; memory is in MB."""

from __future__ import annotations

from pathlib import Path

import psutil

MB = 1e6


def child(parent: int, *words: str) -> int:
    """The process below `parent` that has one of these words in its command line."""
    for process in psutil.Process(parent).children(recursive=True):
        if any(word in part for word in words for part in process.cmdline()):
            return int(process.pid)
    raise LookupError(f"no {words[0]} runs below process {parent}")


def pss(pid: int) -> float:
    """A process's proportional set size: a page that n processes share counts as 1/n."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024 / MB


def rss(pid: int) -> float:
    """A process's resident set size."""
    return float(psutil.Process(pid).memory_info().rss) / MB


def busy() -> float:
    """How busy all cores were since the last call, in percent."""
    return float(psutil.cpu_percent())
