"""What the fake engine hears in utterances of live sessions: numbers, as `tests/tones.py` speaks them.

Each burst of sound is one word: two tones in it are its digits. So a text shows which audio was heard.
"""

from __future__ import annotations

import numpy as np
from dalston_engine import Word

RATE, FRAME = 16_000, 160
SOUND, BRIDGED, SHORTEST = 0.01, 4, 10
"""How loud a frame of 10 ms is that belongs to a word; quiet frames inside one, and frames that make one."""
TENS_HZ, UNITS_HZ, STEP_HZ, NEAR_HZ = 1_700, 2_700, 100, 15
DISTINCT = 1.5
"""A tone is so many times louder than the next one, or it is none."""


def words(samples: np.ndarray) -> list[Word]:
    """The numbers spoken, with their times."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    loud = np.flatnonzero(np.sqrt((frames**2).mean(axis=1)) > SOUND) if len(frames) else np.array([], int)
    found = []
    for burst in np.split(loud, np.flatnonzero(np.diff(loud) > BRIDGED) + 1) if len(loud) else []:
        first, last = int(burst[0]), int(burst[-1]) + 1
        if last - first >= SHORTEST:
            sound = samples[first * FRAME : last * FRAME]
            found.append(Word(f" {number(sound)}", first / 100, last / 100, 1.0))
    return found


def number(sound: np.ndarray) -> str:
    """Which number it is; `?` where no tones say it."""
    loudness = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 2 * RATE))
    digits = ""
    for low in (TENS_HZ, UNITS_HZ):
        tones = [loudness[2 * (hz - NEAR_HZ) : 2 * (hz + NEAR_HZ)].max()
                 for hz in range(low, low + 10 * STEP_HZ, STEP_HZ)]  # fmt: skip
        *_, second, best = sorted(tones)
        if best < DISTINCT * second:
            return "?"
        digits += str(tones.index(best))
    return str(int(digits))
