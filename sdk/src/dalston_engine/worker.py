"""The worker loop: claim a task, perform it, settle its outcome.

What holds at any moment:
- a task is leased to one instance, and the token of that lease alone can renew or settle it;
- the lease is renewed from a thread, so a model that keeps the main thread busy does not lose it;
- `perform` maps every exception to an outcome, in one place; `settle` applies it, in one place;
- a task ends early only in `progress`: cancelled, drained (asked to stop) or lost.
"""

import contextlib
import errno
import itertools
import logging
import os
import signal
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from dalston_engine.errors import Cancelled, DalstonError, DiskFull, Drained, ErrorRecord, LeaseLost, Retry
from dalston_engine.host import Host
from dalston_engine.queue import AWAY, Queue, patiently
from dalston_engine.types import Media, Segment, Task
from dalston_engine.workspace import Workspace

if TYPE_CHECKING:
    from dalston_engine.live.side import Side

log = logging.getLogger("dalston.engine")

RENEW_S = 0.9
HEARTBEAT_EVERY = 5
YIELD_S = 0.5
"""How long a task waits for live speech at each progress call, at most."""
GLYPHS = {"started": "→", "completed": "←", "failed": "!", "retry": "↻", "postponed": "↻"}


class Outcome(NamedTuple):
    """How an attempt ended: completed, failed, retry, postponed, released or cancelled."""

    word: str
    seconds: float | None = None
    error: ErrorRecord | None = None
    audio: float | None = None
    whole: bool = False
    """Whether it found no parts, of those that can."""


class Hold:
    """A lease as the keeper and the worker share it; the next one is another object."""

    def __init__(self, task: Task | None) -> None:
        self.task, self.word, self.since = task, "NEW", time.monotonic()
        self.progress: float | None = None
        self.told, self.untold = 0, list[Segment]()


class Keeper(Thread):
    """Renews the lease of the task at hand and sends heartbeats; the process does not outlive it."""

    def __init__(self, queue: Queue, host: Host) -> None:
        super().__init__(name="keeper", daemon=True)
        self.queue, self.card, self.deadline = queue, host.card(), host.manifest.deadline
        self.stopping, self.draining, self.condition, self.totals = Event(), False, "", Counter[str]()
        self.hold(None)

    def run(self) -> None:
        try:
            turns = itertools.cycle(range(HEARTBEAT_EVERY))
            while not self.stopping.wait(RENEW_S):
                try:
                    self._keep(self._hold, next(turns) == 0)
                except AWAY:
                    log.warning("redis cannot be reached; still trying")
        finally:
            if not self.stopping.is_set():
                traceback.print_exc()
                os._exit(70)

    def beat(self) -> None:
        """Send one heartbeat."""
        state = self.condition or ("running" if self._hold.task else "idle")
        self.queue.heartbeat(self.card, state, self.totals)

    def hold(self, task: Task | None) -> None:
        """Keep this task's lease from now on, or none."""
        self._hold = Hold(task)

    def report(self, fraction: float) -> None:
        """Note the task's progress; raises Interrupted when it must stop."""
        self._hold.progress = fraction
        if self.draining or self._hold.word in ("CANCELLED", "LOST"):
            raise {"CANCELLED": Cancelled, "LOST": LeaseLost}.get(self._hold.word, Drained)

    def _keep(self, hold: Hold, beat: bool) -> None:
        late = time.monotonic() - hold.since > self.deadline
        if late and (hold.task or self.condition == "loading"):
            self._give_up(hold.task)
        if hold.task:
            if hold.word == "NEW":  # told of what takes a while; a line for its end is enough for the rest
                _log(hold.task, "started", time.monotonic() - hold.since)
            hold.word = self.queue.renew(hold.task, hold.progress)
        if beat:
            self.beat()

    def _give_up(self, task: Task | None) -> None:
        """End the process: nothing else stops a method, or a load, that does not return."""
        if task:
            error = ErrorRecord("deadline", f"{task.engine} did not finish within {self.deadline} s.", 504)
            self.queue.settle(task, "retry", error=error)
            _log(task, "retry", self.deadline, error)
        os._exit(70)


class Worker:
    """One instance of an engine at work."""

    def __init__(self, host: Host, url: str, instance: str, jobs: Path) -> None:
        self.host, self.jobs, self._idle = host, jobs, False
        self.queue = Queue(url, host.manifest.id, instance)
        self.keeper = Keeper(Queue(url, host.manifest.id, instance), host)
        self.side: Side | None = None
        """What hears live sessions, if anything does."""

    def run(self, preload: str | None = None) -> None:
        """Work until SIGTERM or SIGINT; the task at hand goes back at its next progress call."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self.keeper.condition = "loading" if preload is not None else ""
        with contextlib.suppress(KeyboardInterrupt, *AWAY):
            patiently(self.keeper.beat, lambda: self.keeper.draining)
            self.keeper.start()
            self._preload(preload)
            if self.side and not self.keeper.condition:
                self.side.start()
            while self.queue.next or not self.keeper.draining:
                patiently(self._turn, lambda: self.keeper.draining)
        self.keeper.stopping.set()
        if self.side and self.side.ident:
            self.side.close()
        with contextlib.suppress(*AWAY):
            self.keeper.queue.leave()  # the other connection may have been left in the middle of a reply

    @property
    def busy(self) -> bool:
        """Whether a task is at hand."""
        return self.keeper._hold.task is not None

    def perform(self, task: Task) -> Outcome:
        """Do the task; every way it can end becomes an outcome."""
        try:
            with Workspace(self.jobs, task) as workspace:
                params, given = msgspec.json.decode(task.params), workspace.arguments()
                tell = partial(self._tell, task) if params.pop("stream", False) else lambda _: None
                result, seconds = self.host.perform(params, given, self._report, tell)
                workspace.publish(result)
            audio = getattr(given[0], "duration", getattr(result, "duration", None))
            whole = isinstance(result, Media) and result.parts is None
            return Outcome("completed", seconds, audio=audio, whole=whole)
        except DalstonError as error:
            return Outcome(error.outcome or ("retry" if error.retryable else "failed"), error=error.record)
        except Exception as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                return Outcome("postponed", error=DiskFull().record)
            # The exception's own text may quote the recording, so only its type and place are told.
            kind, place = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            log.error("task %s: %s in the engine at\n%s", task.id, kind, place)
            return Outcome("retry", error=Retry(f"{task.engine} failed on this recording: {kind}.").record)

    def _report(self, fraction: float) -> None:
        if self.side:
            self.side.wait(YIELD_S)
        self.keeper.report(fraction)

    def _tell(self, task: Task, segment: Segment) -> None:
        """Send a segment to those who follow; what Redis does not take now goes with the next."""
        hold = self.keeper._hold
        hold.untold.append(segment)
        with contextlib.suppress(*AWAY):
            self.queue.tell(task, hold.told, hold.untold)
            hold.told, hold.untold = hold.told + len(hold.untold), []

    def _turn(self) -> None:
        self._idle = False
        task = self.queue.claim() if self.host.stage.takes != ("batch",) else None
        if task is None:
            self._idle = True
            return self.queue.wait()
        started = time.monotonic()
        self.keeper.hold(task)
        outcome = self.perform(task)
        self.keeper.hold(None)
        word = self.queue.settle(task, *outcome, more=not self.keeper.draining)
        if word != "OK":
            Workspace(self.jobs, task).discard()
        what = outcome.word if word == "OK" else "lost"
        self.keeper.totals.update({what: 1, "seconds": outcome.seconds or 0, "audio": outcome.audio or 0})
        _log(task, what, time.monotonic() - started, outcome.error)

    def _preload(self, model: str | None) -> None:
        if model is not None:
            try:
                self.host.loaded(model or None)
                self.keeper.condition = ""
            except DalstonError as error:
                log.error("%s", error.message)
                self.keeper.condition = "broken"
            patiently(self.keeper.beat)
        log.info("%s is ready", self.host.manifest.id)

    def _stop(self, *_: object) -> None:
        self.keeper.draining = True
        if self.side and self.side.ident:
            self.side.drain()
        if self._idle:
            raise KeyboardInterrupt  # leaves the blocking read


def _log(task: Task, what: str, seconds: float, error: ErrorRecord | None = None) -> None:
    name, code = task.id.removeprefix(f"{task.job}."), error.code if error else ""
    line = f"{task.engine:14}  {name}  job {task.job}  try {task.attempt}  {code}  {task.trace or ''}"
    log.info("%7.2fs %s %s", seconds, GLYPHS.get(what, "⊘"), line.rstrip())
