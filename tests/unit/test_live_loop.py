"""The loop: what is decoded first, together, again, or not at all. And what its measures say."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dalston_engine.live import capacity
from dalston_engine.live.capacity import TARGET, Cost
from dalston_engine.live.loop import TOGETHER, Loop, Meter, Rank, Request
from dalston_engine.live.speech import Speech
from dalston_engine.types import Segment, Transcript

SECOND = np.zeros(16_000, np.float32)


def said(text: str) -> Transcript:
    return Transcript([Segment(0, 1, text)])


class Scripted:
    """An engine that notes its passes, and a loop with it that takes its turns when told."""

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.answers: dict[str, Any] = {}
        self.loop = Loop(self.listen)

    def listen(self, model: str, batch: list[Speech]) -> list[Transcript]:
        self.passes.append([str(one.prompt) for one in batch])
        if any(one.prompt == "bad" for one in batch):
            raise RuntimeError("no")
        return [said(str(one.prompt)) for one in batch]

    def ask(self, name: str, rank: Rank = Rank.FINAL, owner: object = None, model: str = "m",
            seconds: int = 1) -> Request:  # fmt: skip
        speech = Speech(np.tile(SECOND, seconds), rank != Rank.PARTIAL, prompt=name)
        done: Callable[[Any], None] = lambda answer: self.answers.__setitem__(name, answer)  # noqa: E731
        request = Request(owner or name, model, speech, rank, done)
        self.loop.submit(request)
        return request


@pytest.fixture
def engine() -> Scripted:
    return Scripted()


def test_finals_come_before_pauses_and_those_before_partials(engine: Scripted) -> None:
    engine.ask("partial", Rank.PARTIAL)
    engine.ask("pause", Rank.PAUSE)
    engine.ask("final")
    engine.loop.turn()
    engine.loop.turn()
    assert engine.passes == [["final", "pause"], ["partial"]]


def test_a_newer_partial_takes_the_place_of_one_that_has_not_begun(engine: Scripted) -> None:
    engine.ask("old", Rank.PARTIAL, owner=1)
    engine.ask("other", Rank.PARTIAL, owner=2)
    engine.ask("new", Rank.PARTIAL, owner=1)
    engine.loop.turn()
    assert engine.passes == [["other", "new"]]


def test_so_many_are_decoded_together_in_the_order_they_came(engine: Scripted) -> None:
    names = [f"{n:02}" for n in range(20)]
    for name in names:
        engine.ask(name)
    for _ in range(3):
        engine.loop.turn()
    assert list(itertools.chain(*engine.passes)) == names
    assert max(map(len, engine.passes)) == TOGETHER[True]


def test_models_are_not_mixed_nor_is_a_pass_too_long(engine: Scripted) -> None:
    engine.ask("a", seconds=14)
    engine.ask("b", model="another")
    for name in "cdef":
        engine.ask(name, seconds=14)
    for _ in range(3):
        engine.loop.turn()
    assert engine.passes == [["a", "c", "d"], ["b"], ["e", "f"]]


def test_an_utterance_that_fails_does_so_alone(engine: Scripted) -> None:
    for name in ("good", "bad", "fine"):
        engine.ask(name)
    engine.loop.turn()
    assert engine.passes == [["good", "bad", "fine"], ["good"], ["bad"], ["fine"]]
    assert (engine.answers["good"], engine.answers["fine"]) == (said("good"), said("fine"))
    assert isinstance(engine.answers["bad"], RuntimeError)


def test_what_is_withdrawn_is_not_decoded(engine: Scripted) -> None:
    one, two = engine.ask("one"), engine.ask("two", owner=2)
    engine.ask("three", owner=2)
    assert engine.loop.withdraw(one)
    assert not engine.loop.withdraw(one)
    engine.loop.forget(2)
    assert not engine.loop.withdraw(two)
    engine.ask("four")
    engine.loop.turn()
    assert engine.passes == [["four"]]


def test_the_loop_is_idle_when_there_is_nothing_to_do_and_not_before(engine: Scripted) -> None:
    release, begun = threading.Event(), threading.Event()
    engine.loop.start()
    assert engine.loop.idle.wait(5)
    told = engine.loop.apart(lambda: begun.set() or release.wait(5))  # type: ignore[func-returns-value]
    assert begun.wait(5)
    engine.ask("one")
    assert not engine.loop.idle.is_set()
    release.set()
    assert told.result(5)
    assert engine.loop.idle.wait(5)
    assert engine.passes == [["one"]]


def test_what_is_done_apart_tells_its_error(engine: Scripted) -> None:
    engine.loop.start()
    assert isinstance(engine.loop.apart(lambda: 1 / 0).exception(5), ZeroDivisionError)


def metered(*passes: tuple[float, float]) -> Meter:
    """A meter of passes: how long each took, how many times longer than it should."""
    meter = Meter()
    meter.passes.extend((time.monotonic(), seconds, slow) for seconds, slow in passes)
    return meter


def test_a_meter_tells_of_late_how_busy_slow_and_late_the_loop_is() -> None:
    meter = metered(*[(0.1, 1.0)] * 5, (0.5, 3.0))
    assert meter.busy() == pytest.approx(0.5, abs=0.01)
    assert meter.slowness() == 1
    assert meter.waited(0.95) is None
    meter.waits.extend((time.monotonic(), n / 100) for n in range(100))
    assert meter.waited(0.5) == pytest.approx(0.49)
    meter.passes.append((time.monotonic() - 60, 60, 9.0))
    meter.waits.append((time.monotonic() - 60, 9.0))
    assert meter.busy() < 0.6
    assert meter.waited(1.0) == pytest.approx(0.99)


COST = Cost(once=0.03, partial=0.04, final=0.06)


def test_capacity_is_what_the_passes_leave_time_for() -> None:
    assert COST.share == pytest.approx(0.045)
    assert capacity.capacity({"m": COST}, [], "m", Meter()) == int(TARGET / COST.share) == 15
    assert capacity.capacity({"m": COST}, ["m"] * 10, "m", Meter()) == 15
    dear = Cost(0, 0.2, 0.3)
    assert capacity.capacity({"m": COST, "dear": dear}, ["dear"] * 2, "m", Meter()) == 2 + 5


def test_capacity_shrinks_with_slow_passes_and_closes_with_late_finals() -> None:
    costs = {"m": COST}
    assert capacity.capacity(costs, ["m"], "m", metered(*[(0.01, 3.0)] * 9)) == 5
    assert capacity.capacity(costs, ["m"] * 7, "m", metered(*[(0.01, 3.0)] * 9)) == 7
    late = Meter()
    late.waits.extend((time.monotonic(), 0.5) for _ in range(5))
    assert capacity.capacity(costs, ["m"] * 3, "m", late) == 3
    assert capacity.capacity(costs, [], "m", late) == 15
    assert capacity.capacity(costs, ["m"] * 3, "m", metered((5.0, 1.0))) == 3


def test_a_worker_takes_one_session_while_nothing_was_measured_and_none_more() -> None:
    assert capacity.capacity({}, [], "m", Meter()) == 1
    assert capacity.capacity({}, ["m"], "m", Meter()) == 1
    assert capacity.capacity({"m": Cost(0, 5, 9)}, [], "m", Meter()) == 1


def test_what_passes_cost_is_measured_with_sound() -> None:
    batches: list[tuple[int, bool]] = []

    def listen(batch: list[Speech]) -> list[Transcript]:
        assert all(np.abs(one.samples).max() > 0.01 for one in batch)
        batches.append((len(batch), batch[0].final))
        return [said("") for _ in batch]

    cost = capacity.measured(listen, "en")
    assert batches == [(1, False), (8, False), (8, True)]
    assert cost.final >= cost.partial >= 0
    batches.clear()
    assert capacity.estimated(listen, "en").once == 0
    assert batches == [(1, False)] * 2
    assert COST.expected([Speech(np.tile(SECOND, 6), False)] * 3) == pytest.approx(0.03 + 3 * 0.04)
