"""Starts processes, starts them again when they end, and takes them all along when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from dalston_engine.process import PARENT_PIPE
from msgspec import Struct, field

from dalston.local.logbook import Logbook
from dalston.local.valkey import die_with_parent

log = logging.getLogger("dalston.supervisor")

BACKOFF_S = (0.2, 1, 2, 5, 10, 30)
"""Pauses before the first, second, … restart in a row."""
STEADY_S = 60
"""A process that ran this long starts over at the first pause."""
LOOPING = 4
"""A process that fell this often in a row is reported as one that does not keep running."""
GRACE_S = 5
"""How long a process may take to stop before it is killed."""


class Program(Struct):
    """A process to keep running."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    nice: int = 0
    fds: tuple[int, ...] = ()
    last: bool = False
    """True for what others need until they have stopped."""
    advice: str = "Its own last lines say why; `dalston doctor` checks this machine."
    """What to do when it keeps ending."""


class Supervisor:
    """The processes of one `dalston up`."""

    def __init__(self, logs: Path | None = None, book: Logbook | None = None) -> None:
        self.logs, self.book = logs, book
        """Folder for the processes' output, a file each; or a book for it; neither: this process's stderr."""
        self.pids: dict[str, int] = {}
        self._keeping: dict[str, tuple[Program, asyncio.Task[None]]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._life, self._held = os.pipe()

    async def start(self, program: Program) -> None:
        """Start a process and keep it running."""
        await self._spawn(program)
        self._keeping[program.name] = (program, asyncio.create_task(self._keep(program)))

    async def stop(self) -> None:
        """Stop everything: what others need last; what does not stop in time is killed."""
        for last in (False, True):
            names = [name for name, (program, _) in self._keeping.items() if program.last is last]
            await asyncio.gather(*(self._end(name) for name in names))
        os.close(self._held)
        os.close(self._life)

    async def _keep(self, program: Program) -> None:
        falls = 0
        while True:
            began = time.monotonic()
            code = await self._processes[program.name].wait()
            falls = 1 if time.monotonic() - began > STEADY_S else falls + 1
            pause = BACKOFF_S[min(falls, len(BACKOFF_S)) - 1]
            log.warning("%s ended (%s); starting it again in %s s", program.name, _reason(code), pause)
            if falls % LOOPING == 0:
                log.error(
                    "%s keeps ending: %d times in a row, last with %s. What needs it waits. %s",
                    program.name, falls, _reason(code), program.advice,
                )  # fmt: skip
            await asyncio.sleep(pause)
            try:
                await self._spawn(program)
            except OSError as error:
                log.error("%s cannot be started: %s", program.name, error.strerror)

    async def _spawn(self, program: Program) -> None:
        env = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}}
        with self._output(program.name) as output:
            process = await asyncio.create_subprocess_exec(
                *program.command,
                env=env | program.env | {PARENT_PIPE: str(self._life)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(self._life, *program.fds),
                start_new_session=True,
                preexec_fn=lambda: _before_exec(program.nice),
            )
        self._processes[program.name] = process
        self.pids[program.name] = process.pid

    @contextlib.contextmanager
    def _output(self, name: str) -> Iterator[int]:
        if self.book is not None:
            with self.book.output(name) as descriptor:
                yield descriptor
            return
        if self.logs is None:
            yield 2
            return
        with (self.logs / f"{name}.log").open("ab") as file:
            yield file.fileno()

    async def _end(self, name: str) -> None:
        _, keeping = self._keeping.pop(name)
        keeping.cancel()
        await asyncio.wait([keeping])  # it may be in the middle of a start
        process = self._processes[name]
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), GRACE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _before_exec(nice: int) -> None:
    die_with_parent()
    if nice:
        os.nice(nice)


def _reason(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
