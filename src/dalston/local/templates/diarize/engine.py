"""Tells who speaks when: put your model where `voice` is."""

from __future__ import annotations

import array
from itertools import pairwise
from typing import Annotated

from dalston_engine import Audio, Diarization, Engine, Turn, serve
from msgspec import Meta

RATE = 16_000
STEP_S = 0.5
QUIET = 100
"""The loudest sample, of 32,767, of a stretch in which nobody speaks."""


class MyEngine(Engine):
    """Tells stretches apart by what `voice` says of them."""

    def load(self) -> None:
        """Runs once, before the first recording: open your model here."""

    def diarize(
        self, audio: Audio, max_speakers: Annotated[int, Meta(ge=1, le=32)] | None = None
    ) -> Diarization:
        samples, size = array.array("h", audio.pcm()), int(STEP_S * RATE)
        turns: list[Turn] = []
        names: dict[int, str] = {}
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            if max(map(abs, part)) > QUIET:
                who = voice(part) % (max_speakers or 32)
                name = names.setdefault(who, f"speaker_{len(names)}")
                begin, end = start / RATE, (start + len(part)) / RATE
                if turns and turns[-1].speaker == name and turns[-1].end == begin:
                    turns[-1].end = end
                else:
                    turns.append(Turn(begin, end, name))
            self.progress((start + len(part)) / len(samples))
        return Diarization(turns=turns, exclusive=turns)


def voice(samples: array.array[int]) -> int:
    """Which voice a stretch sounds like: how often it crosses zero, roughly."""
    crossings = sum((a < 0) != (b < 0) for a, b in pairwise(samples))
    return crossings * 4 // max(len(samples), 1)


if __name__ == "__main__":
    serve(MyEngine)
