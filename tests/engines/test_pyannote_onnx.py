"""The torch-free diarizer with its real networks, where its environment has been built."""

from __future__ import annotations

import math
import random
import wave
from array import array
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.engines import alone

pytestmark = pytest.mark.timeout(120)
ENGINE = "pyannote-onnx"
FRAMES = 100
"""Frames a second in which diarizations are compared."""


def truth(rttm: Path) -> list[tuple[float, float, str]]:
    """Start, end and speaker of each turn."""
    parts = (line.split() for line in rttm.read_text().splitlines())
    return [(float(p[3]), float(p[3]) + float(p[4]), p[7]) for p in parts]


def right(turns: list[dict[str, Any]], expected: list[tuple[float, float, str]]) -> float:
    """The share of the time in which one person speaks that is given to that person."""
    heard: dict[str, dict[str, int]] = {}
    total = 0
    for start, end, speaker in expected:
        for frame in range(int(start * FRAMES), int(end * FRAMES)):
            at = frame / FRAMES
            if sum(a <= at < b for a, b, _ in expected) > 1:
                continue
            total += 1
            for turn in turns:
                if turn["start"] <= at < turn["end"]:
                    votes = heard.setdefault(turn["speaker"], {})
                    votes[speaker] = votes.get(speaker, 0) + 1
    return sum(max(votes.values()) for votes in heard.values()) / total


def in_order(found: dict[str, Any], seconds: float) -> None:
    """Turns are inside the recording, name speakers as they come, and do not overlap where exclusive."""
    turns, exclusive = found["turns"], found["exclusive"]
    for each in (turns, exclusive):
        assert [turn["start"] for turn in each] == sorted(turn["start"] for turn in each)
        assert all(0 <= turn["start"] < turn["end"] <= seconds + alone.BLUR_S for turn in each)
    assert all(before["end"] <= after["start"] for before, after in pairwise(exclusive))
    names = list(dict.fromkeys(turn["speaker"] for turn in turns))
    assert names == [f"speaker_{number}" for number in range(len(names))]
    assert {turn["speaker"] for turn in exclusive} <= set(names)


def test_three_people_are_told_apart(tmp_path: Path) -> None:
    recording, known = alone.recording("dev_conv3_libri.flac", tmp_path)
    found = alone.run(ENGINE, recording, embeddings=True)
    in_order(found, known["duration_s"])
    assert {turn["speaker"] for turn in found["turns"]} == {"speaker_0", "speaker_1", "speaker_2"}
    assert right(found["exclusive"], truth(alone.DATA / known["speakers"])) > 0.85
    voices = found["embeddings"]
    assert all(math.isclose(math.hypot(*voice), 1, abs_tol=1e-6) for voice in voices.values())
    for one, other in combinations(voices.values(), 2):
        assert sum(a * b for a, b in zip(one, other, strict=True)) < 0.5


@pytest.mark.parametrize(
    ("hints", "least", "most"),
    [
        ({"num_speakers": 2}, 2, 2),
        ({"num_speakers": 5}, 5, 5),
        ({"max_speakers": 1}, 1, 1),
        ({"min_speakers": 4, "max_speakers": 6}, 4, 6),
    ],
    ids=str,
)
def test_hints_are_obeyed(tmp_path: Path, hints: dict[str, Any], least: int, most: int) -> None:
    recording, known = alone.recording("dev_conv3_libri.flac", tmp_path)
    found = alone.run(ENGINE, recording, **hints)
    in_order(found, known["duration_s"])
    assert least <= len({turn["speaker"] for turn in found["turns"]}) <= most
    assert "warnings" not in found


def test_hints_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    silence = alone.wav(tmp_path / "audio.wav", bytes(3200))
    with pytest.raises(RuntimeError, match="contradict"):
        alone.run(ENGINE, silence, min_speakers=3, max_speakers=2)


@pytest.mark.parametrize("samples", [0, 1, 500, 16_000, 160_000, 160_001, 250_000])
def test_nobody_speaks_in_silence_of_any_length(tmp_path: Path, samples: int) -> None:
    silence = alone.wav(tmp_path / "audio.wav", bytes(2 * samples))
    found = alone.run(ENGINE, silence)
    assert found["turns"] == found["exclusive"] == []


def test_nobody_speaks_in_noise_or_a_tune(tmp_path: Path) -> None:
    chance = random.Random(5)
    noise = array("h", (chance.randrange(-3000, 3000) for _ in range(12 * 16_000)))
    pitches = [220 * 2 ** (chance.randrange(24) / 12) for _ in range(24)]
    tune = array(
        "h",
        (
            int(
                4000
                * math.exp(-3 * (n % 8000) / 16_000)
                * math.sin(math.tau * pitches[n // 8000] * n / 16_000)
            )
            for n in range(12 * 16_000)
        ),
    )
    for samples in (noise, tune):
        assert alone.run(ENGINE, alone.wav(tmp_path / "audio.wav", samples.tobytes()))["turns"] == []


def test_a_word_is_a_turn(tmp_path: Path) -> None:
    recording, _ = alone.recording("dev_conv3_libri.flac", tmp_path)
    with wave.open(str(recording), "rb") as whole:
        whole.setpos(2 * 16_000)
        word = whole.readframes(8_000)
    audio = alone.wav(tmp_path / "word.wav", word)
    found = alone.run(ENGINE, audio)
    in_order(found, 0.5)
    assert len(found["turns"]) == 1
    told = alone.run(ENGINE, audio, min_speakers=4)
    count = len({turn["speaker"] for turn in told["turns"]})
    assert told["warnings"] == [f"Speakers found: {count}, which is not what was asked for."]


def test_fewer_speakers_than_asked_for_are_told(tmp_path: Path) -> None:
    silence = alone.wav(tmp_path / "audio.wav", bytes(32_000))
    found = alone.run(ENGINE, silence, num_speakers=2)
    assert found["warnings"] == ["Speakers found: 0, which is not what was asked for."]
    assert "warnings" not in alone.run(ENGINE, silence, max_speakers=2)
