"""Writes down a recording second by second: put your model where `describe` is."""

from __future__ import annotations

import array
from typing import Annotated

from dalston_engine import Audio, Engine, Segment, Transcript, serve
from msgspec import Meta

RATE = 16_000


class MyEngine(Engine):
    """Says of each stretch of the recording what `describe` says of it."""

    def load(self) -> None:
        """Runs once, before the first recording: open your model here."""

    def transcribe(self, audio: Audio, step: Annotated[float, Meta(ge=0.1, le=60)] = 1.0) -> Transcript:
        samples = array.array("h", audio.pcm())
        size = int(step * RATE)
        segments = []
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            segments.append(Segment(start / RATE, (start + len(part)) / RATE, describe(part)))
            self.progress((start + len(part)) / len(samples))
        return Transcript(segments=segments)


def describe(samples: array.array[int]) -> str:
    """The text of a stretch; it begins with a space, so that stretches can be joined."""
    return f" peak {max(map(abs, samples))}"


if __name__ == "__main__":
    serve(MyEngine)
