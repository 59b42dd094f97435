"""What only the scripted engine does: speakers, times of characters, results that come one by one."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.sdks.conftest import Sdk
from tests.sdks.engine.engine import PAUSE_S, TURNS
from tests.sdks.test_elevenlabs import assert_chunk, convert, done
from tests.sdks.test_openai import create

TEXT = " ".join(TURNS)


def test_characters_have_times(sdk: Sdk, mono: str) -> None:
    told = done(convert(sdk, mono, model_id="turns", timestamps_granularity="character"))
    assert_chunk(told)
    words = [word for word in told["words"] if word["type"] == "word"]
    assert " ".join(word["text"] for word in words) == told["text"] == TEXT
    for word in words:
        each = word["characters"]
        assert "".join(one["text"] for one in each) == word["text"]
        assert all(one["end"] <= other["start"] + 1e-6 for one, other in pairwise(each))
        assert word["start"] <= each[0]["start"] <= each[-1]["end"] <= word["end"] + 1e-6


@pytest.mark.parametrize("most", [1, 2])
def test_speakers_are_told_apart(sdk: Sdk, mono: str, most: int) -> None:
    told = done(convert(sdk, mono, model_id="turns", diarize=True, num_speakers=most))
    assert_chunk(told)
    assert {word["speaker_id"] for word in told["words"]} == {f"speaker_{n}" for n in range(most)}
    plain = done(convert(sdk, mono, model_id="turns"))
    assert all(word.get("speaker_id") is None for word in plain["words"])


def test_turns_have_speakers(sdk: Sdk, mono: str) -> None:
    said = create(sdk, mono, model="turns", response_format="diarized_json", chunking_strategy="auto")
    told = done(said)
    assert (told["task"], told["text"]) == ("transcribe", TEXT)
    assert [(one["type"], one["id"], one["speaker"]) for one in told["segments"]] == [
        ("transcript.text.segment", "seg_0", "A"),
        ("transcript.text.segment", "seg_1", "B"),
    ]
    assert 0 <= told["segments"][0]["start"] < told["segments"][1]["end"] <= told["duration"] + 1e-6
    if sdk.language == "python":
        assert said["type"] == "TranscriptionDiarized"


def test_deltas_come_while_the_engine_is_at_work(sdk: Sdk, mono: str) -> None:
    said = create(sdk, mono, model="turns", stream=True)
    assert [event.get("delta") for event in done(said)] == [TURNS[0], f" {TURNS[1]}", None]
    assert said["at"][1] - said["at"][0] > PAUSE_S / 2
    assert done(said)[-1] == {"type": "transcript.text.done", "text": TEXT}


def test_turns_are_streamed(sdk: Sdk, mono: str) -> None:
    events = done(create(sdk, mono, model="turns", response_format="diarized_json", stream=True))
    kinds = [event["type"].removeprefix("transcript.text.") for event in events]
    assert kinds == ["delta", "delta", "segment", "segment", "done"]
    assert [event["speaker"] for event in events[2:4]] == ["A", "B"]
    assert events[-1]["text"] == TEXT
