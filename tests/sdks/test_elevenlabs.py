"""ElevenLabs' SDKs, Python and JavaScript."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import DATA
from tests.sdks.conftest import Sdk

JFK = (
    "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
)


def convert(sdk: Sdk, file: str | None = None, how: str = "handle", **args: Any) -> Any:
    """`speech_to_text.convert`."""
    more: dict[str, Any] = {"file": file, "how": how} if file else {}
    return sdk.call("elevenlabs", "speech_to_text.convert", args={"model_id": "scribe_v1"} | args, **more)


def done(said: Any) -> Any:
    """The answer of a call that succeeded."""
    assert "ok" in said, said
    return said["ok"]


def recall(text: str, truth: str) -> float:
    """How many of the true words were said."""
    said = set(re.findall(r"[a-z']+", text.lower()))
    words = truth.split()
    return sum(word in said for word in words) / len(words)


def assert_chunk(told: Any, timed: bool = True) -> None:
    """What holds for every transcript."""
    assert "".join(word["text"] for word in told["words"]) == told["text"]
    assert {word["type"] for word in told["words"]} <= {"word", "spacing"}
    assert all(math.isfinite(word["logprob"]) and word["logprob"] <= 0 for word in told["words"])
    assert 0 <= told["language_probability"] <= 1
    if timed:
        assert all(0 <= word["start"] <= word["end"] for word in told["words"])
        assert all(one["start"] <= other["start"] for one, other in pairwise(told["words"]))
        most = told.get("audio_duration_secs", math.inf) + 0.01
        assert all(word["end"] <= most for word in told["words"])


@pytest.mark.parametrize("how", ["handle", "bytes", "named"])
def test_a_recording_is_transcribed_however_it_is_given(sdk: Sdk, clip: str, how: str) -> None:
    said = convert(sdk, clip, how)
    told = done(said)
    assert_chunk(told)
    assert recall(told["text"], JFK) > 0.9
    assert told["language_code"] == "eng"
    assert told["audio_duration_secs"] == pytest.approx(11, abs=0.1)
    assert told["transcription_id"]
    if sdk.language == "python":
        assert said["type"] == "SpeechToTextChunkResponseModel"


def test_words_may_have_no_times(sdk: Sdk, clip: str) -> None:
    told = done(convert(sdk, clip, timestamps_granularity="none"))
    assert_chunk(told, timed=False)
    assert all(word.get("start") is None for word in told["words"])


def test_options_that_a_model_has_are_taken(sdk: Sdk, clip: str) -> None:
    told = done(
        convert(sdk, clip, language_code="eng", temperature=0.2, seed=7, keyterms=["Americans", "fellow"],
                tag_audio_events=False, diarize=False, no_verbatim=False, model_id="scribe_v3")
    )  # fmt: skip
    assert_chunk(told)
    assert told["language_probability"] == 1.0
    assert "warnings" not in told


def test_what_no_engine_does_is_told_or_refused(sdk: Sdk, clip: str) -> None:
    assert "events" in done(convert(sdk, clip, tag_audio_events=True))["warnings"][0]
    refused: dict[str, Any] = {"no_verbatim": True, "entity_detection": ["pii", "name"],
               "timestamps_granularity": "character", "detect_speaker_roles": True}  # fmt: skip
    for name, value in refused.items():
        asked: dict[str, Any] = {name: value}
        said = convert(sdk, clip, **asked)
        assert 400 <= said["status"] < 500, (name, said)
        assert said["body"]["detail"]["message"]


@pytest.mark.timeout(180)
def test_voices_are_told_apart(sdk: Sdk, clip: str, conversation: str) -> None:
    told = done(convert(sdk, conversation, model_id="scribe_v1", diarize=True, language_code="en"))
    assert_chunk(told)
    assert len({word["speaker_id"] for word in told["words"]}) == 3
    assert told["words"][0]["speaker_id"] == "speaker_0"
    one = done(convert(sdk, clip, model_id="scribe_v1", diarize=True, num_speakers=1))
    assert {word["speaker_id"] for word in one["words"]} == {"speaker_0"}


def test_channels_are_apart_or_together(sdk: Sdk, stereo: str) -> None:
    said = convert(sdk, stereo, use_multi_channel=True)
    apart = done(said)
    if sdk.language == "python":
        assert said["type"] == "MultichannelSpeechToTextResponseModel"
    assert [one["channel_index"] for one in apart["transcripts"]] == [0, 1]
    for number, one in enumerate(apart["transcripts"]):
        assert_chunk(one)
        assert {word["speaker_id"] for word in one["words"]} == {f"speaker_{number}"}
    together = done(convert(sdk, stereo, use_multi_channel=True, multichannel_output_style="combined"))
    assert_chunk(together)
    assert {word["channel_index"] for word in together["words"]} == {0, 1}


def test_a_call_is_heard_on_both_channels(sdk: Sdk, clip: str) -> None:
    lines = (DATA / "MANIFEST.jsonl").read_text().splitlines()
    known = next(one for one in map(json.loads, lines) if one["audio"] == "dev_stereo_call.flac")
    call, python = str(DATA / "dev_stereo_call.flac"), sdk.language == "python"
    style = "separate" if python else "combined"
    told = done(convert(sdk, call, use_multi_channel=True, multichannel_output_style=style))
    words = [word for one in told["transcripts"] for word in one["words"]] if python else told["words"]
    for channel, truth in enumerate(known["labels"]["channel_text"]):
        heard = "".join(word["text"] for word in words if word["channel_index"] == channel)
        assert recall(heard, " ".join(re.findall(r"[a-z']+", truth.lower()))) > 0.8


def test_a_mono_recording_has_no_channels(sdk: Sdk, mono: str) -> None:
    assert_chunk(done(convert(sdk, mono, use_multi_channel=True)))


def test_headerless_samples_are_read(sdk: Sdk, stereo: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(32_000))
    told = done(convert(sdk, str(raw), file_format="pcm_s16le_16"))
    assert (told["text"], told["audio_duration_secs"], told["language_code"]) == ("", 1.0, "und")


def test_a_transcript_is_read_again_and_deleted(sdk: Sdk, clip: str) -> None:
    told = done(convert(sdk, clip))
    id = told["transcription_id"]

    def ask(call: str) -> Any:
        names = {"args": {"transcription_id": id}} if sdk.language == "python" else {"positional": [id]}
        return sdk.call("elevenlabs", f"speech_to_text.transcripts.{call}", **names)

    assert done(ask("get")) == told
    done(ask("delete"))
    for call in ("get", "delete"):
        said = ask(call)
        assert said["status"] == 404
        assert said["body"]["detail"]["message"]
    assert ask("get")["error"] == "NotFoundError"


def test_nothing_is_kept_when_that_is_asked(sdk: Sdk, clip: str) -> None:
    id = done(convert(sdk, clip, enable_logging=False))["transcription_id"]
    names = {"args": {"transcription_id": id}} if sdk.language == "python" else {"positional": [id]}
    assert sdk.call("elevenlabs", "speech_to_text.transcripts.get", **names)["status"] == 404


def test_models_are_listed(sdk: Sdk) -> None:
    ids = {model["model_id"] for model in done(sdk.call("elevenlabs", "models.list"))}
    assert {"scribe_v1", "scribe_v2", "base", "tiny.en", "faster-whisper"} <= ids


@pytest.mark.parametrize(
    ("args", "status", "told"),
    [
        ({"model_id": "scribe_v9"}, 404, "tiny.en"),
        ({"num_speakers": 0}, 422, "num_speakers"),
        ({"temperature": 3}, 422, "temperature"),
        ({"keyterms": ["x" * 51]}, 422, "keyterms"),
        ({"language_code": "klingon"}, 422, "language_code"),
        ({"use_multi_channel": True, "num_speakers": 2}, 400, "num_speakers"),
    ],
    ids=str,
)
def test_an_error_has_the_right_class_and_says_what(
    sdk: Sdk, clip: str, args: dict[str, Any], status: int, told: str
) -> None:
    said = convert(sdk, clip, **args)
    assert said["status"] == status, said
    assert told in json.dumps(said["body"])
    if status == 422:
        assert said["error"] == "UnprocessableEntityError"
        assert said["body"]["detail"][0]["loc"][-1] == told


def test_a_call_without_a_recording_says_so(sdk: Sdk) -> None:
    said = convert(sdk)
    assert said["status"] == 400
    assert said["body"]["detail"]["param"] == "file"


def test_what_is_no_recording_is_refused(sdk: Sdk, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"no recording" * 100)
    said = convert(sdk, str(file))
    assert (said["error"], said["status"]) == ("UnprocessableEntityError", 422)
    assert said["body"]["detail"]["code"] == "invalid_audio"
