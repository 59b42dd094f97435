"""`dalston logs`: what the processes of the server have written, and write."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TextIO

from dalston_engine.errors import DalstonError

from dalston import settings as settings_
from dalston.local.logbook import NAME, OLD

PAUSE_S = 0.1


class NoLog(DalstonError):
    """There is nothing to show."""

    code, retryable = "no_log", False


def logs(names: list[str], follow: bool, lines: int, data: str | None) -> None:
    """The last lines of the named processes, or of all; then, with `follow`, those to come."""
    folder = settings_.load(data=data).folder / "logs"
    if not (folder / NAME).exists():
        raise NoLog(f"There is no log in {folder}; `dalston up` writes one.")
    wanted = set(names)
    try:
        with _opened(folder / NAME) as now:
            _past(folder / OLD, now, wanted, lines, follow)
            if follow:
                for line in _coming(folder / NAME, now):
                    _print(line, wanted)
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _past(old: Path, now: TextIO, wanted: set[str], lines: int, follow: bool) -> None:
    last: deque[str] = deque(maxlen=lines)
    known: set[str] = set()
    with _opened(old) if old.exists() else io.StringIO() as before:
        for line in chain(before, now):
            name = line.partition(" ")[0]
            known.add(name)
            if not wanted or name in wanted:
                last.append(line)
    if wanted - known and not follow:
        missing = ", ".join(sorted(wanted - known))
        raise NoLog(f"Nothing has been written by {missing}. There are: {', '.join(sorted(known))}.")
    for line in last:
        _print(line, wanted)


def _coming(path: Path, now: TextIO) -> Iterator[str]:
    """Lines as they are written; when the file is full, it is read to its end, then the next one."""
    with contextlib.ExitStack() as opened:
        while True:
            full = _is_another(path, now)
            if line := now.readline():
                yield line
            elif full:
                now = opened.enter_context(_opened(path))
            else:
                sys.stdout.flush()
                time.sleep(PAUSE_S)


def _opened(path: Path) -> TextIO:
    """A log to be read; only a newline ends a line, whatever engines write in one."""
    return path.open(errors="replace", newline="\n")


def _is_another(path: Path, now: TextIO) -> bool:
    with contextlib.suppress(FileNotFoundError):  # for a moment there is none
        return path.stat().st_ino != os.fstat(now.fileno()).st_ino
    return False


def _print(line: str, wanted: set[str]) -> None:
    """A line; the name goes without saying when only one was asked for."""
    name, _, text = line.partition(" ")
    if not wanted or name in wanted:
        sys.stdout.write(text.lstrip(" ") if len(wanted) == 1 else line)
