"""The one place of a process where live utterances are decoded: several at a time, finals first."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import takewhile
from threading import Condition, Event, Thread
from typing import Any

from dalston_engine.live.speech import Speech
from dalston_engine.types import Transcript

Listen = Callable[[str, list[Speech]], list[Transcript]]
Answer = Transcript | Exception
TOGETHER = {True: 8, False: 4}
"""How many final utterances are decoded at a time, and how many others: a final may wait for those."""
TOGETHER_S = 48.0
"""Seconds of audio in one pass, each utterance as long as the longest."""
WINDOW_S = 10.0
"""How far back measures look."""


class Rank(IntEnum):
    """What is decoded first."""

    FINAL = 0
    PAUSE = 1
    """What is final if the speaker is done."""
    PARTIAL = 2


@dataclass(eq=False)
class Request:
    """An utterance to be decoded for a session."""

    owner: object
    model: str
    speech: Speech
    rank: Rank
    done: Callable[[Answer], None]
    """Called in the loop's thread."""
    begun: bool = False
    asked: float = field(default_factory=time.monotonic)


class Meter:
    """What passes have cost of late."""

    def __init__(self) -> None:
        self.passes = deque[tuple[float, float, float]](maxlen=500)
        """When each ended, how long it took, how many times longer than one without load."""
        self.waits = deque[tuple[float, float]](maxlen=500)
        """When each final was told, and how long after the end of its utterance was known."""
        self.counts = {"passes": 0, "finals": 0, "partials": 0, "failures": 0}

    def busy(self, window: float = 2.0) -> float:
        """The share of the last seconds spent in passes, 0 to 1."""
        now = time.monotonic()
        late = takewhile(lambda one: now - one[0] < window, reversed(list(self.passes)))
        return min(sum(min(seconds, window - (now - end)) for end, seconds, _ in late) / window, 1.0)

    def slowness(self) -> float:
        """How many times longer passes take than when they were measured: the median of late."""
        now = time.monotonic()
        late = sorted(slow for end, _, slow in list(self.passes) if slow and now - end < WINDOW_S)
        return late[len(late) // 2] if len(late) >= 5 else 1.0

    def waited(self, share: float) -> float | None:
        """How long finals took at most, in this share of them; None: there were none of late."""
        now = time.monotonic()
        late = sorted(seconds for at, seconds in list(self.waits) if now - at < WINDOW_S)
        return late[int(share * (len(late) - 1))] if late else None


class Loop(Thread):
    """Decodes what sessions ask for."""

    def __init__(self, listen: Listen) -> None:
        super().__init__(name="live loop", daemon=True)
        self._listen = listen
        self._queue: list[Request] = []
        self._apart = deque[tuple[Callable[[], Any], Future[Any]]]()
        self._changed = Condition()
        self.idle = Event()
        self.idle.set()
        self.meter = Meter()
        self.since: float | None = None
        """When the pass at hand began."""
        self.expected: Callable[[str, list[Speech]], float] = lambda model, batch: 0.0
        """How long a pass should take; 0: not known."""

    def submit(self, request: Request) -> None:
        """Have it decoded; a partial takes the place of one that has not begun."""
        with self._changed:
            if request.rank == Rank.PARTIAL:
                self._queue = [one for one in self._queue if not self._same(one, request.owner)]
            self._queue.append(request)
            self.idle.clear()
            self._changed.notify()

    def withdraw(self, request: Request) -> bool:
        """Forget it; False: it has begun, and will be answered."""
        with self._changed:
            if request in self._queue:
                self._queue.remove(request)
                return True
            return False

    def forget(self, owner: object) -> None:
        """Forget all that a session has asked for and that has not begun."""
        with self._changed:
            self._queue = [one for one in self._queue if one.owner is not owner]

    def apart(self, call: Callable[[], Any]) -> Future[Any]:
        """Have something else done between two passes, in this thread."""
        told = Future[Any]()
        with self._changed:
            self._apart.append((call, told))
            self._changed.notify()
        return told

    def run(self) -> None:
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait for work, and do one pass."""
        with self._changed:
            while not self._queue and not self._apart:
                self.idle.set()
                self._changed.wait()
            batch = [] if self._apart else self._next()
        if not batch:
            call, told = self._apart.popleft()
            try:
                told.set_result(call())
            except Exception as error:  # whoever asked for it is told
                told.set_exception(error)
            return
        self._answer(batch, self.heard(batch[0].model, [one.speech for one in batch]))

    def heard(self, model: str, batch: list[Speech]) -> list[Answer]:
        """One pass; if it fails each utterance gets one of its own."""
        self.since = began = time.monotonic()
        try:
            answers: list[Answer] = list(self._listen(model, batch))
        except Exception as error:  # an engine's fault concerns one session, not all
            self.meter.counts["failures"] += 1
            if len(batch) == 1:
                return [error]
            return [self.heard(model, [one])[0] for one in batch]
        finally:
            self.since = None
        seconds, expected = time.monotonic() - began, self.expected(model, batch)
        self.meter.passes.append((began + seconds, seconds, seconds / expected if expected else 0.0))
        self.meter.counts["passes"] += 1
        return answers

    def _answer(self, batch: list[Request], answers: list[Answer]) -> None:
        for request, answer in zip(batch, answers, strict=True):
            request.done(answer)

    def _next(self) -> list[Request]:
        first = min(self._queue, key=lambda one: (one.rank, one.asked))
        batch, longest = [first], first.speech.seconds
        for one in sorted(self._queue, key=lambda one: (one.rank, one.asked)):
            alike = one.model == first.model and one.speech.final == first.speech.final
            longer = max(longest, one.speech.seconds)
            if one is first or not alike or longer * (len(batch) + 1) > TOGETHER_S:
                continue
            if len(batch) == TOGETHER[first.speech.final]:
                break
            batch.append(one)
            longest = longer
        for one in batch:
            self._queue.remove(one)
            one.begun = True
        return batch

    def _same(self, one: Request, owner: object) -> bool:
        return one.owner is owner and one.rank == Rank.PARTIAL
