"""What the processes of one server write, in one file beside what the terminal shows.

logs/dalston.log      a line each: the process's name, then what it wrote
logs/dalston.log.1    what came before, once the first one was full

Each process writes into a pipe, from which a thread copies at once: to this process's stderr as it
comes, and to the file line by line. A disk that is full costs lines in the file, nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from dalston_engine.process import Lines

LIMIT = 5_000_000
"""Bytes after which a file is full."""
LINE = 16_384
"""Bytes after which a line is cut."""
PIPE = 1 << 20
"""What a process can write while nobody copies, where the system lets us choose."""
BLOCK = 65_536
NAME, OLD = "dalston.log", "dalston.log.1"
CLOSING_S = 1.0


class Logbook(logging.Handler):
    """The log file of a server. As a logging handler it also takes this process's own lines."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        super().__init__()
        self.setFormatter(Lines())
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path, self.old, self.limit = folder / NAME, folder / OLD, limit
        self._file = self.path.open("ab", buffering=0)
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def output(self, name: str) -> Iterator[int]:
        """A descriptor for a process to write to, which is closed here once the process has it."""
        reading, writing = os.pipe()
        with contextlib.suppress(AttributeError, OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=self._copy, args=(name, reading), daemon=True))
        self._threads[-1].start()
        try:
            yield writing
        finally:
            os.close(writing)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of this process's own."""
        for line in self.format(record).splitlines():
            self._write("supervisor", line.encode())

    def end(self) -> None:
        """Wait for the last lines of processes that have ended, and close the file."""
        for thread in self._threads:
            thread.join(CLOSING_S)
        with self.lock or contextlib.nullcontext():
            self._file.close()
        self.close()

    def _copy(self, name: str, reading: int) -> None:
        rest = b""
        with open(reading, "rb", buffering=0) as pipe:
            while block := pipe.read(BLOCK):
                _show(block)
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) > LINE:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._write(name, line)
        if rest:
            self._write(name, rest)

    def _write(self, name: str, line: bytes) -> None:
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):
            if self._file.tell() > self.limit:
                self._file.close()
                self.path.replace(self.old)
                self._file = self.path.open("ab", buffering=0)
            self._file.write(f"{name:14} ".encode() + line[:LINE] + b"\n")


def _show(block: bytes) -> None:
    """To the terminal, all of it; one that is gone hears nothing."""
    with contextlib.suppress(OSError):
        while block:
            block = block[os.write(2, block) :]
