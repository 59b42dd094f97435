"""Speech that the engine `fake` hears live: words that are numbers, each spoken as a gliding voice.

The voice detector takes the glide as speech; two tones in it say which number it is, so what a session was
told shows which of its audio was heard: none lost, none twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

RATE = 16_000
WORD_S, GAP_S = 0.38, 0.12
SLOT_S = WORD_S + GAP_S
"""From one word to the next."""
TENS_HZ, UNITS_HZ, STEP_HZ = 1_700, 2_700, 100
"""The tone of 0, of either digit, and how far apart they are; `engines/fake/hearing.py` listens for them."""
FORMANTS = np.array([[270, 2290, 3010], [530, 1840, 2480], [570, 840, 2410]])
"""Of "ee", "eh" and "oh", which the voice glides through."""
BANDS, WEIGHTS = (80, 100, 140), (1.0, 0.6, 0.3)
LOUD, MARK = 0.3, 0.08


@cache
def word(number: int) -> bytes:
    """One number, 0 to 99, with the gap after it: 0.5 s."""
    count = int(WORD_S * RATE)
    at, seconds = np.linspace(0, 1, count), np.arange(count) / RATE
    pitch = np.linspace(230, 150, count)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = [np.interp(at, (0, 0.5, 1), column) for column in FORMANTS.T]
    sound = np.zeros(count)
    for harmonic in range(1, 26):
        tone, each = harmonic * pitch, zip(formants, BANDS, WEIGHTS, strict=True)
        gain = sum(weight / (1 + ((tone - centre) / band) ** 2) for centre, band, weight in each)
        sound += np.where(tone < 3_900, gain, 0) / harmonic**0.3 * np.sin(harmonic * phase)
    sound /= np.abs(sound).max()
    for low, digit in ((TENS_HZ, number // 10), (UNITS_HZ, number % 10)):
        sound += MARK * np.sin(2 * np.pi * (low + STEP_HZ * digit) * seconds)
    ramp = np.minimum(1, np.minimum(np.arange(count), np.arange(count)[::-1]) / (0.02 * RATE))
    samples = np.concatenate([LOUD * sound * ramp, np.zeros(int(GAP_S * RATE))])
    return bytes((samples * 32_767).astype("<i2").tobytes())


def spoken(numbers: Iterable[int]) -> bytes:
    """Numbers said in one breath, as 16 kHz mono s16le; up to 24 of them stay one utterance."""
    return b"".join(map(word, numbers))


def silence(seconds: float) -> bytes:
    """Nobody speaks."""
    return bytes(2 * int(seconds * RATE))


def said(*utterances: Iterable[int], pause: float = 1.0) -> bytes:
    """Utterances with a pause before, between and after them."""
    return silence(pause) + b"".join(spoken(one) + silence(pause) for one in utterances)


def text(numbers: Iterable[int]) -> str:
    """What `fake` writes for them."""
    return " ".join(map(str, numbers))
