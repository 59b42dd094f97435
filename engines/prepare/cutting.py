"""A long recording cut in time: where nobody speaks, into parts that are transcribed each by itself."""

from __future__ import annotations

import math
import wave
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from dalston_engine import Span
from dalston_engine.types import SAMPLE_RATE

FRAME = SAMPLE_RATE // 50
"""Samples whose loudness is taken together: 20 ms."""
PAUSE = 20
"""Frames that are looked for: the quietest 0.4 s."""
REACH = 0.25
"""How far from an even cut the silence may be, in parts."""
CONTEXT_S = 1.5
"""What a part hears of its neighbours, on either side."""
BLOCK = SAMPLE_RATE * 10


def cut(whole: Path, folder: Path, part_s: float, between: Callable[[], None]) -> list[Span]:
    """Leave `audio-0.wav` and so on in `folder`, parts of `part_s` seconds at most or nearly so.

    `between` is called after each. Raises OSError for what the disk does.
    """
    with wave.open(str(whole), "rb") as source:
        samples = source.getnframes()
        edges = [0, *(quietest(source, *near) for near in _places(samples, part_s)), samples]
        context = int(CONTEXT_S * SAMPLE_RATE)
        spans = []
        for n, (start, end) in enumerate(pairwise(edges)):
            first, last = max(start - context, 0), min(end + context, samples)
            _copy(source, first, last, folder / f"audio-{n}.wav")
            spans.append(Span(first / SAMPLE_RATE, last / SAMPLE_RATE, end / SAMPLE_RATE))
            between()
    return spans


def parts_of(seconds: float, part_s: float) -> int:
    """Into how many parts a recording goes: so many that 2, 4 or 8 instances have the same to do."""
    parts = max(math.ceil(seconds / part_s), 2)
    step = 2 if parts <= 2 else 4 if parts <= 4 else 8
    return math.ceil(parts / step) * step


def quietest(source: wave.Wave_read, first: int, last: int) -> int:
    """The middle of the quietest pause between two samples; of equal ones the one in the middle."""
    source.setpos(first)
    samples = array("h", source.readframes(last - first))
    loud = [sum(map(abs, samples[n : n + FRAME])) / FRAME for n in range(0, len(samples), FRAME)]
    return first + _lowest(loud) * FRAME


def _lowest(loud: Sequence[float]) -> int:
    """The frame in the middle of the PAUSE frames with the lowest sum."""
    sums = [0.0, *accumulate(loud)]
    pauses = range(max(len(loud) - PAUSE, 0) + 1)
    middle = len(pauses) // 2

    def rank(n: int) -> tuple[int, int]:
        return round(sums[min(n + PAUSE, len(loud))] - sums[n]), abs(n - middle)

    return min(pauses, key=rank) + min(PAUSE, len(loud)) // 2


def _places(samples: int, part_s: float) -> list[tuple[int, int]]:
    """Between which samples each cut is to be."""
    parts = parts_of(samples / SAMPLE_RATE, part_s)
    even = samples / parts
    return [(int((n - REACH) * even), int((n + REACH) * even)) for n in range(1, parts)]


def _copy(source: wave.Wave_read, first: int, last: int, target: Path) -> None:
    source.setpos(first)
    with wave.open(str(target), "wb") as part:
        part.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        for start in range(first, last, BLOCK):
            part.writeframesraw(source.readframes(min(BLOCK, last - start)))
