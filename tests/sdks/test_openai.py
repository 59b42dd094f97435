"""OpenAI's SDKs, Python and JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Server
from tests.sdks.conftest import Sdk
from tests.sdks.test_elevenlabs import JFK, done, recall


def create(sdk: Sdk, file: str, how: str = "handle", **args: Any) -> Any:
    """`audio.transcriptions.create`."""
    return sdk.call(
        "openai",
        "audio.transcriptions.create",
        file=file,
        how=how,
        args={"model": "gpt-4o-transcribe"} | args,
    )


@pytest.mark.parametrize("how", ["handle", "bytes", "named", "path"])
def test_a_recording_is_transcribed_however_it_is_given(sdk: Sdk, clip: str, how: str) -> None:
    if how == "bytes" and sdk.language == "javascript":
        pytest.skip("the SDK takes no bare Blob")
    told = done(create(sdk, clip, how, language="en", prompt="A speech.", temperature=0))
    assert recall(told["text"], JFK) > 0.9
    assert told["usage"]["type"] == "duration"
    assert told["usage"]["seconds"] == pytest.approx(11, abs=0.1)


def test_texts_are_bare(sdk: Sdk, clip: str) -> None:
    assert recall(done(create(sdk, clip, response_format="text")), JFK) > 0.9
    assert done(create(sdk, clip, response_format="srt")).startswith("1\n00:00:00,")
    assert done(create(sdk, clip, response_format="vtt")).startswith("WEBVTT")


def test_verbose_answers_have_what_whisper_tells(sdk: Sdk, clip: str) -> None:
    told = done(
        create(sdk, clip, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    )
    assert (told["language"], told["duration"]) == ("english", pytest.approx(11, abs=0.1))
    for segment in told["segments"]:
        assert {"id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob",
                "compression_ratio", "no_speech_prob"} <= set(segment)  # fmt: skip
    assert recall(" ".join(word["word"] for word in told["words"]), JFK) > 0.9
    only = done(create(sdk, clip, response_format="verbose_json", timestamp_granularities=["word"]))
    assert only.get("segments") is None
    assert done(create(sdk, clip, response_format="verbose_json")).get("words") is None


def test_logprobs_are_told(sdk: Sdk, clip: str) -> None:
    told = done(create(sdk, clip, include=["logprobs"]))
    assert all(one["logprob"] <= 0 for one in told["logprobs"])
    assert "".join(one["token"] for one in told["logprobs"]).strip() == told["text"]


def test_hints_are_taken(sdk: Sdk, clip: str) -> None:
    told = done(
        create(sdk, clip, model="gpt-4o-transcribe", languages=["en"], keywords=["fellow", "Americans"])
    )
    assert recall(told["text"], JFK) > 0.9


def test_answers_are_of_the_classes_that_the_sdk_has(sdk: Sdk, mono: str) -> None:
    if sdk.language == "javascript":
        pytest.skip("JavaScript has no classes of answers")
    said = create(sdk, mono, model="turns", response_format="verbose_json")
    assert (said["type"], said["ok"]["task"]) == ("TranscriptionVerbose", "transcribe")
    assert create(sdk, mono, model="turns")["type"] == "Transcription"
    assert create(sdk, mono, model="turns", response_format="text")["type"] == "str"


@pytest.mark.parametrize(
    "strategy", ["auto", {"type": "server_vad", "threshold": 0.4, "silence_duration_ms": 500}]
)
def test_a_chunking_strategy_is_taken(sdk: Sdk, clip: str, strategy: Any) -> None:
    assert recall(done(create(sdk, clip, chunking_strategy=strategy))["text"], JFK) > 0.8


def test_a_stream_has_deltas_and_an_end(sdk: Sdk, clip: str) -> None:
    events = done(create(sdk, clip, stream=True))
    assert {event["type"] for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1]["type"] == "transcript.text.done"
    assert "".join(event["delta"] for event in events[:-1]) == events[-1]["text"]


def test_a_stream_ends_with_logprobs(sdk: Sdk, clip: str) -> None:
    last = done(create(sdk, clip, stream=True, include=["logprobs"]))[-1]
    assert "".join(one["token"] for one in last["logprobs"]).strip() == last["text"]
    assert all(
        one["logprob"] <= 0 and bytes(one["bytes"]).decode() == one["token"] for one in last["logprobs"]
    )


def test_whisper_does_not_stream(server: Server, clip: str) -> None:
    """By hand: as at the vendor the answer is plain JSON, in which an SDK that streams finds no event."""
    form = {"model": "whisper-1", "stream": "true"}
    files = {"file": ("a.flac", Path(clip).read_bytes())}
    answer = server.client.post(
        "/v1/audio/transcriptions", data=form, files=files, headers={"x-dalston-api": ""}
    )
    assert answer.headers["content-type"] == "application/json"
    assert recall(answer.json()["text"], JFK) > 0.9


@pytest.mark.parametrize("format", ["json", "text", "srt", "vtt", "verbose_json"])
def test_a_translation_has_its_formats(sdk: Sdk, mono: str, format: str) -> None:
    said = sdk.call("openai", "audio.translations.create", file=mono,
                    args={"model": "base", "response_format": format})  # fmt: skip
    told = done(said)
    text = told if isinstance(told, str) else told["text"]
    assert recall(text, "being comparatively modern") == 1
    if format == "verbose_json":
        assert told["language"] == "english"


def test_models_are_listed_and_read(sdk: Sdk) -> None:
    listed = done(sdk.call("openai", "models.list"))
    data = listed["data"]
    assert {"whisper-1", "base", "faster-whisper"} <= {model["id"] for model in data}
    assert all(model["object"] == "model" for model in data)
    named = {"args": {"model": "base"}} if sdk.language == "python" else {"positional": ["base"]}
    assert done(sdk.call("openai", "models.retrieve", **named))["id"] == "base"
    missing = {"args": {"model": "x"}} if sdk.language == "python" else {"positional": ["x"]}
    said = sdk.call("openai", "models.retrieve", **missing)
    assert (said["error"], said["status"], said["body"]["code"]) == ("NotFoundError", 404, "model_not_found")


@pytest.mark.parametrize(
    ("args", "error", "param", "code"),
    [
        ({"model": "gpt-9"}, "NotFoundError", "model", "model_not_found"),
        ({"response_format": "xml"}, "BadRequestError", "response_format", "invalid_value"),
        ({"temperature": 1.5}, "BadRequestError", "temperature", "invalid_value"),
        ({"include": ["logprobs"], "response_format": "text"}, "BadRequestError", "include", "invalid_value"),
        ({"known_speaker_names": ["Ann"]}, "BadRequestError", "known_speaker_names", "unsupported_parameter"),
        (
            {"known_speaker_references": ["data:audio/wav;base64,AA=="]},
            "BadRequestError",
            "known_speaker_references",
            "unsupported_parameter",
        ),
        ({"languages": ["en", "de"]}, "BadRequestError", "languages", "unsupported_value"),
        (
            {"timestamp_granularities": ["word"]},
            "BadRequestError",
            "timestamp_granularities",
            "invalid_value",
        ),
        (
            {"chunking_strategy": {"type": "server_vad", "threshold": 2}},
            "BadRequestError",
            "chunking_strategy",
            "invalid_value",
        ),
        ({"language": "klingon"}, "BadRequestError", "language", "invalid_value"),
    ],
    ids=str,
)
def test_an_error_has_the_right_class_and_names_the_parameter(
    sdk: Sdk, clip: str, args: dict[str, Any], error: str, param: str | None, code: str
) -> None:
    said = create(sdk, clip, **args)
    assert said["error"] == error, said
    assert said["body"]["message"]
    assert (said["body"]["param"], said["body"]["code"]) == (param, code)


@pytest.mark.timeout(180)
def test_voices_are_told_apart(sdk: Sdk, conversation: str) -> None:
    said = create(sdk, conversation, model="gpt-4o-transcribe", response_format="diarized_json",
                  chunking_strategy="auto")  # fmt: skip
    told = done(said)
    assert list(dict.fromkeys(segment["speaker"] for segment in told["segments"])) == ["A", "B", "C"]
    assert " ".join(segment["text"].strip() for segment in told["segments"]).split() == told["text"].split()


def test_what_is_no_recording_is_refused(sdk: Sdk, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"no recording" * 100)
    said = create(sdk, str(file))
    assert (said["error"], said["status"], said["body"]["code"]) == (
        "UnprocessableEntityError",
        422,
        "invalid_audio",
    )
    streamed = create(sdk, str(file), stream=True)
    assert streamed["status"] == 422
