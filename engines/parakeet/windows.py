"""Where to cut a long recording: in its quietest places."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from dalston_engine.types import SAMPLE_RATE

LONGEST = 24 * SAMPLE_RATE
SHORTEST = 12 * SAMPLE_RATE
"""Samples in a window; a model's memory grows with the square of its length."""
STEP = SAMPLE_RATE // 50
"""Samples over which loudness is measured, and to which a cut is exact: 20 ms."""
QUIET = 15
"""Steps around a cut that have to be quiet together."""
SILENCE = 0.001
"""A window that never exceeds -60 dBFS has no words."""
LEAST = SAMPLE_RATE * 8 // 100
"""Samples for which a model says anything; fewer it cannot read."""


def windows(samples: np.ndarray) -> Iterator[tuple[int, int]]:
    """Begin and end of each window, in samples; those without a sound, or too short for one, are left out."""
    begin = 0
    while begin < len(samples):
        end = len(samples)
        if end - begin > LONGEST:
            end = begin + SHORTEST + _quietest(samples[begin + SHORTEST : begin + LONGEST])
        if end - begin >= LEAST and np.abs(samples[begin:end]).max() >= SILENCE:
            yield begin, end
        begin = end


def _quietest(samples: np.ndarray) -> int:
    """The middle of the quietest stretch."""
    power = np.square(samples[: len(samples) // STEP * STEP]).reshape(-1, STEP).mean(1)
    around = np.convolve(power, np.ones(QUIET), "valid")
    return int(np.argmin(around) + QUIET // 2) * STEP
