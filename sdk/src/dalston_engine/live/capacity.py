"""How many sessions a worker takes, from what its passes were measured to cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import numpy as np
from msgspec import Struct

from dalston_engine.live.audio import RATE
from dalston_engine.live.loop import Meter
from dalston_engine.live.speech import Speech
from dalston_engine.types import Transcript

TARGET = 0.7
"""The share of the loop's time that sessions may take; the rest is for what comes all at once."""
PARTIALS_PER_S, FINALS_PER_S = 0.6, 0.35
"""Passes of a conversation: one speaks 60 % of the time, is written each second, and pauses now and then."""
LATE_S, FULL = 0.4, 0.9
"""Finals later than this, or a loop busier: nobody else is taken."""
TRIAL_S, TRIALS = 6, 8
SLOW_S, HOPELESS_S = 0.7, 3.0
"""A single pass that takes longer is measure enough; and there is no need to measure it again."""


class Cost(Struct):
    """Seconds of passes over utterances of TRIAL_S with one model."""

    once: float
    """What a pass costs whatever it holds."""
    partial: float
    final: float

    @property
    def share(self) -> float:
        """Of the loop's time, for one conversation."""
        return PARTIALS_PER_S * self.partial + FINALS_PER_S * self.final

    def expected(self, batch: list[Speech]) -> float:
        """Seconds for a pass."""
        each, longest = self.final if batch[0].final else self.partial, max(one.seconds for one in batch)
        return (self.once + each * len(batch)) * (0.4 + 0.6 * longest / TRIAL_S)


def estimated(listen: Callable[[list[Speech]], list[Transcript]], language: str) -> Cost:
    """What passes will cost at most, from a single one after one that was short."""
    warm, *_ = _trial(1, False, language)
    warm.samples = warm.samples[:RATE]
    listen([warm])
    alone = _seconds(listen, _trial(1, False, language))
    return Cost(0.0, alone, 1.5 * alone)


def measured(listen: Callable[[list[Speech]], list[Transcript]], language: str) -> Cost:
    """What passes cost with a model that has been at work."""
    alone = _seconds(listen, _trial(1, False, language))
    if alone > SLOW_S:
        return Cost(0.0, alone, alone)
    partial, final = (_seconds(listen, _trial(TRIALS, kind, language)) / TRIALS for kind in (False, True))
    return Cost(max(alone - partial, 0.0), partial, max(final, partial))


def capacity(costs: dict[str, Cost], sessions: Collection[str], default: str, meter: Meter) -> int:
    """How many sessions there may be in all; `sessions`: the models of those there are."""
    there = len(sessions)
    late, slowness = meter.waited(0.95), max(meter.slowness(), 0.5)
    if there and ((late or 0.0) > LATE_S or meter.busy(5.0) > FULL):
        return there
    if default not in costs:
        return max(there, 1)
    taken = sum(costs[model].share if model in costs else TARGET for model in sessions) * slowness
    return max(there + int(max(TARGET - taken, 0.0) / (costs[default].share * slowness)), 1)


def _trial(count: int, final: bool, language: str) -> list[Speech]:
    sway = 0.05 * (1 + np.sin(np.arange(TRIAL_S * RATE) * (2 * np.pi * 4 / RATE)))
    noise = (np.random.default_rng(1).standard_normal(TRIAL_S * RATE) * sway).astype(np.float32)
    return [Speech(noise, final, language) for _ in range(count)]


def _seconds(listen: Callable[[list[Speech]], list[Transcript]], batch: list[Speech]) -> float:
    began = time.perf_counter()
    listen(batch)
    return time.perf_counter() - began
