"""From transcripts to the vendors' answers: what always holds."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from dalston_engine.errors import DalstonError
from dalston_engine.types import ChannelInfo, Segment, Transcript, Word
from hypothesis import given
from hypothesis import strategies as st

from dalston.dialects.base import Finished
from dalston.dialects.elevenlabs import ELEVENLABS
from dalston.dialects.elevenlabs.answer import body
from dalston.dialects.openai import OPENAI
from dalston.errors import NotFound, Refusal

times = st.floats(0, 100, allow_nan=False)
texts = st.tuples(st.sampled_from(["", " "]), st.text("abcdé世.,", min_size=1, max_size=6)).map("".join)


@st.composite
def transcripts(draw: st.DrawFn, channels: int = 0) -> Transcript:
    """Words as engines may say them: in order of their starts, overlapping or not."""
    starts = sorted(draw(st.lists(times, max_size=12)))
    words = [
        Word(draw(texts), start, start + draw(st.floats(0, 3)), draw(st.floats(0, 1)), None,
             draw(st.integers(0, channels - 1)) if channels else None)
        for start in starts
    ]  # fmt: skip
    told = [ChannelInfo(n, "en", 0.9) for n in range(channels)] or None
    return Transcript([], words, language="en", language_probability=0.9, duration=120.0, channels=told)


def assert_chunk(told: dict[str, Any]) -> None:
    """What clients rely on."""
    assert "".join(word["text"] for word in told["words"]) == told["text"]
    assert all(word["type"] in ("word", "spacing") for word in told["words"])
    assert all(math.isfinite(word["logprob"]) and word["logprob"] <= 0 for word in told["words"])
    assert all(word["start"] <= word["end"] for word in told["words"])
    assert all(one["start"] <= other["start"] for one, other in pairwise(told["words"]))


@given(transcripts())
def test_words_joined_are_the_text_and_times_go_on(transcript: Transcript) -> None:
    told = body(Finished("j", transcript, {}))
    assert_chunk(told)
    assert all(one["end"] <= other["start"] for one, other in pairwise(told["words"]))
    assert (told["language_code"], told["language_probability"]) == ("eng", 0.9)


@given(transcripts(channels=2))
def test_channels_are_told_apart_or_together(transcript: Transcript) -> None:
    separate = body(Finished("j", transcript, {}))["transcripts"]
    combined = body(Finished("j", transcript, {"combined": True}))
    for number, one in enumerate(separate):
        assert_chunk(one)
        assert one["channel_index"] == number
        assert {word["speaker_id"] for word in one["words"]} <= {f"speaker_{number}"}
    assert_chunk(combined)
    said = sorted(word["text"] for one in separate for word in one["words"] if word["type"] == "word")
    assert said == sorted(word["text"] for word in combined["words"] if word["type"] == "word")


def test_speakers_are_numbered_by_first_appearance() -> None:
    words = [Word(" a", 0, 1, 0.5, "B"), Word(" b", 1, 2, 0.5, "A"), Word(" c", 2, 3, 0.5, "B")]
    told = body(Finished("j", Transcript([], words), {}))
    assert [w["speaker_id"] for w in told["words"]] == [f"speaker_{n}" for n in (0, 0, 1, 1, 0)]


def test_words_without_times_have_their_segments_logprob() -> None:
    transcript = Transcript([Segment(0, 2, " Two words.", avg_logprob=-0.3)], language="de")
    told = body(Finished("j", transcript, {"timestamps": "none"}))
    assert told["text"] == "Two words."
    assert [word["start"] for word in told["words"]] == [None, None, None]
    assert [word["logprob"] for word in told["words"]] == [-0.3, 0.0, -0.3]
    assert told["language_probability"] == 1.0


def test_silence_has_no_language() -> None:
    told = body(Finished("j", Transcript([], [], duration=3.0), {}))
    assert (told["text"], told["words"], told["language_code"], told["language_probability"]) == (
        "",
        [],
        "und",
        0.0,
    )


SPOKEN = Transcript(
    [Segment(0, 1, " One.", "b", -0.1, 1.0, 0.0, 0.0, [1, 2], 0), Segment(1, 2, " Two.", "a")],
    [Word(" One.", 0, 1, 0.5), Word(" Two.", 1, 2, 1.0)],
    text="One. Two.", language="el", duration=2.0,
)  # fmt: skip


def openai(**asked: Any) -> Any:
    """An answer, decoded when it is JSON."""
    answer = OPENAI.answer(Finished("j", SPOKEN, asked))
    return (
        msgspec.json.decode(answer.content) if answer.type == "application/json" else answer.content.decode()
    )


def test_openais_formats() -> None:
    assert openai() == {"text": "One. Two.", "usage": {"type": "duration", "seconds": 2.0}}
    assert openai(format="text") == "One. Two.\n"
    assert openai(format="vtt").startswith("WEBVTT\n")
    assert "-->" in openai(format="srt")
    verbose = openai(format="verbose_json", words=True)
    assert (verbose["language"], verbose["task"]) == ("greek", "transcribe")
    assert verbose["words"] == [
        {"word": "One.", "start": 0, "end": 1},
        {"word": "Two.", "start": 1, "end": 2},
    ]
    assert verbose["segments"][0]["tokens"] == [1, 2]
    assert "tokens" not in verbose["segments"][1]
    assert "segments" not in openai(format="verbose_json", words=True, segments=False)
    speakers = [one["speaker"] for one in openai(format="diarized_json")["segments"]]
    assert speakers == ["A", "B"]


def test_openais_logprobs_are_the_models() -> None:
    told = openai(logprobs=True)["logprobs"]
    assert [(one["token"], one["logprob"]) for one in told] == [(" One.", math.log(0.5)), (" Two.", 0.0)]
    assert bytes(told[0]["bytes"]) == b" One."


def test_openais_last_events() -> None:
    assert OPENAI.stream is not None
    asked = {"format": "diarized_json"}
    events = [msgspec.json.decode(e[6:]) for e in OPENAI.stream.last(Finished("j", SPOKEN, asked))]
    assert [event["type"] for event in events] == ["transcript.text.segment"] * 2 + ["transcript.text.done"]
    assert events[-1]["text"] == "One. Two."


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotFound("x"), 404), (Refusal("x"), 400), (DalstonError("x", code="engine_error", status=500), 422),
     (DalstonError("x"), 500)],
    ids=str,
)  # fmt: skip
def test_elevenlabs_envelope_has_old_and_new_keys(error: DalstonError, status: int) -> None:
    answer = ELEVENLABS.error(error, "r1")
    told = msgspec.json.decode(answer.content)["detail"]
    assert answer.status == status
    assert told["code"] == told["status"] == error.code
    assert (told["message"], told["request_id"]) == (error.message, "r1")
