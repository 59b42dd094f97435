"""Where in a recording somebody speaks: an energy gate, then the voice detector of faster-whisper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from windows import LONGEST, RATE

SILENCE = 0.001
"""A stretch that never exceeds -60 dBFS has no words; Whisper would make some up."""
BLOCK = 120 * RATE
"""Samples looked at in one go: the first words need not wait for the whole recording."""
SHORTEST_MS = 200
"""Shorter bursts are knocks and chirps."""


def spans(samples: np.ndarray, voice: VadOptions, tick: Callable[[], None]) -> Iterator[tuple[int, int]]:
    """Start and end of each stretch of speech in order, without padding, none longer than LONGEST."""
    options = replace(voice, speech_pad_ms=0, min_speech_duration_ms=SHORTEST_MS,
                      max_speech_duration_s=LONGEST / RATE)  # fmt: skip
    at = 0
    while at < len(samples):
        tick()
        block = samples[at : at + BLOCK]
        found = [] if np.abs(block).max() < SILENCE else get_speech_timestamps(block, options)
        step = len(block)
        if found and at + step < len(samples) and found[-1]["end"] == step:
            step = found.pop()["start"]  # it goes on in the next block
        for span in found:
            yield at + span["start"], at + span["end"]
        at += step
