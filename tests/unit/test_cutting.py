"""Long recordings are cut in their silences, evenly, and every part hears around its cuts."""

from __future__ import annotations

import random
import wave
from array import array
from pathlib import Path

import pytest
from cutting import CONTEXT_S, cut, parts_of
from dalston_engine.types import SAMPLE_RATE, Audio


def recorded(path: Path, seconds: float, silences: list[float], floor: int = 0) -> Path:
    """Noise with half a second of (near) silence around each of those times."""
    chance = random.Random(7)
    samples = array("h", (chance.randrange(-8000, 8000) for _ in range(int(seconds * SAMPLE_RATE))))
    for middle in silences:
        first = int((middle - 0.25) * SAMPLE_RATE)
        samples[first : first + SAMPLE_RATE // 2] = array(
            "h", (chance.randint(-floor, floor) for _ in range(SAMPLE_RATE // 2))
        )
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


@pytest.mark.parametrize("floor", [0, 30])
def test_cuts_lie_in_silences_near_even_places(tmp_path: Path, floor: int) -> None:
    whole = recorded(tmp_path / "audio.wav", 40, [3, 11, 21, 28.5, 37], floor)
    calls: list[None] = []
    spans = cut(whole, tmp_path, 10, lambda: calls.append(None))
    assert [round(span.cut, 1) for span in spans] == [11, 21, 28.5, 40]
    assert len(calls) == 4


def test_parts_are_the_recording_and_hear_their_neighbours(tmp_path: Path) -> None:
    whole = recorded(tmp_path / "audio.wav", 20, [9.5])
    spans = cut(whole, tmp_path, 15, lambda: None)
    (first, second), pcm = spans, Audio(whole).pcm()
    assert (first.start, second.end) == (0, 20)
    assert first.end == pytest.approx(first.cut + CONTEXT_S)
    assert second.start == pytest.approx(first.cut - CONTEXT_S)
    for number, span in enumerate(spans):
        part = Audio(tmp_path / f"audio-{number}.wav").pcm()
        assert part == pcm[round(span.start * SAMPLE_RATE) * 2 : round(span.end * SAMPLE_RATE) * 2]


@pytest.mark.parametrize(
    ("seconds", "parts"), [(601, 4), (360, 2), (1200, 8), (1500, 16), (3600, 24), (9, 2), (180, 2)]
)
def test_parts_are_as_many_as_instances_can_share(seconds: float, parts: int) -> None:
    assert parts_of(seconds, 180) == parts
