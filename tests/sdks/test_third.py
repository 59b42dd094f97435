"""Clients that others wrote for the vendors: litellm, LiveKit's plugins, Vercel's AI SDK, Open WebUI."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Server
from tests.sdks.conftest import Sdk, driver
from tests.sdks.test_elevenlabs import JFK, assert_chunk, done, recall

MODELS = {"elevenlabs": "scribe_v1", "openai": "gpt-4o-transcribe"}


@pytest.fixture(scope="module")
def litellm(server: Server) -> Iterator[Sdk]:
    """litellm in its environment."""
    with driver("third/litellm", server.url) as found:
        yield found


@pytest.fixture(scope="module")
def livekit(server: Server) -> Iterator[Sdk]:
    """LiveKit's plugins in theirs."""
    with driver("third/livekit", server.url) as found:
        yield found


@pytest.fixture(scope="module")
def javascript(server: Server) -> Iterator[Sdk]:
    """JavaScript's clients."""
    with driver("javascript", server.url) as found:
        yield found


def asked(client: Sdk, vendor: str, file: str, model: str = "", **args: Any) -> Any:
    """A transcription by a client."""
    return client.call(vendor, "", file=file, model=model or MODELS[vendor], args=args)


@pytest.mark.parametrize("vendor", MODELS)
def test_litellm_transcribes(litellm: Sdk, clip: str, vendor: str) -> None:
    told = done(asked(litellm, vendor, clip, language="en", temperature=0))
    assert recall(told["text"], JFK) > 0.9
    if vendor == "elevenlabs":
        assert told["language"] == "eng"
        assert recall(" ".join(word["word"] for word in told["words"]), JFK) > 0.9


def test_litellm_sends_what_python_prints(litellm: Sdk, clip: str) -> None:
    told = done(
        asked(litellm, "elevenlabs", clip, diarize=False, tag_audio_events=True, keyterms=["Americans"])
    )
    assert recall(told["text"], JFK) > 0.9


@pytest.mark.parametrize("vendor", MODELS)
def test_litellm_tells_errors(litellm: Sdk, clip: str, vendor: str) -> None:
    said = asked(litellm, vendor, clip, model="nonesuch")
    assert said["status"] == 404, said
    assert "tiny.en" in said["text"]


def test_litellm_asks_for_whisper_in_full(litellm: Sdk, clip: str) -> None:
    args: dict[str, Any] = {"response_format": "verbose_json", "timestamp_granularities": ["word"]}
    told = done(asked(litellm, "openai", clip, **args))
    assert told["duration"] == pytest.approx(11, abs=0.1)
    assert recall(" ".join(word["word"] for word in told["words"]), JFK) > 0.9


def test_livekit_hears_by_elevenlabs(livekit: Sdk, clip: str) -> None:
    told = done(asked(livekit, "elevenlabs", clip, keyterms=["Americans", "fellow"]))
    assert recall(told["text"], JFK) > 0.9
    assert told["language"] == "en"
    assert 0 <= told["start_time"] < told["end_time"] <= 11.1
    assert 0 < told["confidence"] < 1


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1"])
def test_livekit_hears_by_openai(livekit: Sdk, clip: str, model: str) -> None:
    told = done(asked(livekit, "openai", clip, model=model))
    assert recall(told["text"], JFK) > 0.9
    assert told["language"] == "en"


@pytest.mark.parametrize("vendor", MODELS)
def test_livekit_tells_errors(livekit: Sdk, clip: str, vendor: str) -> None:
    said = asked(livekit, vendor, clip, model="nonesuch")
    assert (said["error"], said["status"]) == ("APIStatusError", 404)
    assert "tiny.en" in said["text"]


def test_the_ai_sdk_transcribes(javascript: Sdk, clip: str) -> None:
    """It sends `diarize` twice, first true; the last one counts."""
    told = done(asked(javascript, "ai-sdk", clip, model="scribe_v1", diarize=False, languageCode="en"))
    assert recall(told["text"], JFK) > 0.9
    assert told["language"] == "eng"
    assert 0 < told["durationInSeconds"] <= 11.1
    assert_chunk(told["response"])


def test_the_ai_sdk_tells_speakers_apart(javascript: Sdk, clip: str) -> None:
    told = done(
        asked(javascript, "ai-sdk", clip, model="turns", diarize=True, timestampsGranularity="character")
    )
    assert {word["speaker_id"] for word in told["response"]["words"]} == {"speaker_0", "speaker_1"}
    assert_chunk(told["response"])
    assert all(word["characters"] for word in told["response"]["words"] if word["type"] == "word")
    told = done(asked(javascript, "ai-sdk", clip, model="scribe_v1"))  # without options it asks for speakers
    assert {word["speaker_id"] for word in told["response"]["words"]} == {"speaker_0"}


@pytest.mark.parametrize("language", [{}, {"language": "en"}], ids=str)
def test_open_webui_transcribes(server: Server, clip: str, language: dict[str, str]) -> None:
    headers = {"Authorization": "Bearer any", "x-dalston-api": ""}
    fields = {"model": "gpt-4o-transcribe"} | language
    content = Path(clip).read_bytes()
    form = server.client.post(
        "/v1/audio/transcriptions", headers=headers, data=fields, files={"file": ("talk.flac", content)}
    )
    assert form.status_code == 200, form.text
    assert recall(form.json()["text"], JFK) > 0.9
    sound = {"data": base64.b64encode(content).decode(), "format": "flac"}
    inside = server.client.post(
        "/v1/audio/transcriptions", headers=headers, json=fields | {"input_audio": sound}
    )
    assert inside.status_code == 200, inside.text
    assert recall(inside.json()["text"], JFK) > 0.9
