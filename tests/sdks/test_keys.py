"""A server that wants keys: what the SDKs make of its refusals, and tokens in place of keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dalston.store.access_keys import AccessKeys, Limits, Wanted
from tests.sdks.conftest import LANGUAGES, TURNS, Sdk, driver, speaking
from tests.sdks.test_elevenlabs import done

MODEL = {"elevenlabs": {"model_id": "turns"}, "openai": {"model": "turns"}}
CALLS = {"elevenlabs": "speech_to_text.convert", "openai": "audio.transcriptions.create"}


@pytest.fixture(scope="module", params=LANGUAGES)
def keyed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sdk, str, str]]:
    """A driver of such a server, and the keys of two people.

    Each language has its own server: one shuts out whoever fails ten times in a minute.
    """
    data = tmp_path_factory.mktemp("keyed")
    keys = [AccessKeys(data).make(Wanted(name))[1] for name in ("ann", "bob")]
    POOR.update((name, AccessKeys(data).make(Wanted(name, limits=LITTLE))[1]) for name in CALLS)
    settings = {"DALSTON_KEYS": "required"}
    with speaking(data, f"{TURNS},fake", **settings) as server, driver(request.param, server.url) as sdk:
        yield sdk, keys[0], keys[1]


Keyed = tuple[Sdk, str, str]
LITTLE = Limits(audio_minutes_per_hour=0.001)
POOR: dict[str, str] = {}
"""For each vendor a key that may hardly do anything, on the server that runs."""


@pytest.mark.parametrize("vendor", CALLS)
def test_a_key_opens(keyed: Keyed, mono: str, vendor: str) -> None:
    sdk, ann, _ = keyed
    assert done(sdk.call(vendor, CALLS[vendor], ann, file=mono, args=MODEL[vendor]))["text"]


@pytest.mark.parametrize("vendor", CALLS)
def test_another_key_does_not(keyed: Keyed, mono: str, vendor: str) -> None:
    sdk, ann, _ = keyed
    said = sdk.call(vendor, CALLS[vendor], ann[:-2] + "zz", file=mono, args=MODEL[vendor])
    assert said["status"] == 401
    inner = said["body"]["detail"] if vendor == "elevenlabs" else said["body"]
    assert (inner["code"], bool(inner["message"])) == ("invalid_api_key", True)
    if vendor == "openai":
        assert (said["error"], inner["type"]) == ("AuthenticationError", "invalid_request_error")
    else:
        assert inner["status"] == "invalid_api_key"


@pytest.mark.parametrize("vendor", CALLS)
def test_a_key_that_is_used_up_says_so(keyed: Keyed, mono: str, vendor: str) -> None:
    sdk = keyed[0]
    first, second = (
        sdk.call(vendor, CALLS[vendor], POOR[vendor], file=mono, args=MODEL[vendor]) for _ in "12"
    )
    assert done(first)["text"]
    if vendor == "openai":
        assert (second["error"], second["status"]) == ("RateLimitError", 429)
        assert second["body"]["code"] == "insufficient_quota"
    else:
        assert (second["status"], second["body"]["detail"]["code"]) == (401, "quota_exceeded")


def test_a_transcript_is_its_owners(keyed: Keyed, mono: str) -> None:
    sdk, ann, bob = keyed
    call = "speech_to_text.transcripts.get"
    told = done(sdk.call("elevenlabs", CALLS["elevenlabs"], ann, file=mono, args=MODEL["elevenlabs"]))
    id = told["transcription_id"]
    assert done(sdk.named("elevenlabs", call, ann, transcription_id=id))["text"] == told["text"]
    said = sdk.named("elevenlabs", call, bob, transcription_id=id)
    assert (said["error"], said["status"]) == ("NotFoundError", 404)
    said = sdk.named("elevenlabs", call, "wrong", transcription_id=id)
    assert (said["error"], said["status"]) == ("UnauthorizedError", 401)


def test_a_token_opens_once_and_without_a_key(keyed: Keyed, mono: str) -> None:
    sdk, ann, _ = keyed
    token = done(sdk.named("elevenlabs", "tokens.single_use.create", ann, token_type="batch_scribe"))["token"]

    none = None if sdk.language == "python" else ""  # it insists on one, if empty

    def convert() -> Any:
        args = MODEL["elevenlabs"] | {"token": token}
        return sdk.call("elevenlabs", CALLS["elevenlabs"], none, file=mono, args=args)

    assert done(convert())["text"]
    said = convert()
    assert (said["status"], said["body"]["detail"]["code"]) == (401, "invalid_api_key")
    assert token not in json.dumps(said["body"])


def test_a_token_for_what_there_is_not_is_refused(keyed: Keyed) -> None:
    sdk, ann, _ = keyed
    said = sdk.named("elevenlabs", "tokens.single_use.create", ann, token_type="tts_websocket")
    assert (said["status"], said["body"]["detail"]["code"]) == (400, "unsupported_token")


def test_models_want_a_key_too(keyed: Keyed) -> None:
    sdk, ann, _ = keyed
    assert done(sdk.call("openai", "models.list", ann))
    assert sdk.call("openai", "models.list", "wrong")["error"] == "AuthenticationError"
    assert sdk.call("elevenlabs", "models.list", "wrong")["status"] == 401


def scribe(sdk: Sdk, key: str | None, until: str, **more: Any) -> Any:
    """What comes of a live session of ElevenLabs' that hears nothing."""
    args = {"model_id": "fake", "audio_format": "pcm_16000", "sample_rate": 16_000} | more
    if sdk.language == "javascript":
        args = {"modelId": "fake", "audioFormat": "pcm_16000", "sampleRate": 16_000} | more
    steps = [["wait", until], ["close"]]
    return sdk.call("elevenlabs", "live", key, file="/dev/null", rate=16_000, args=args, steps=steps)


def realtime(sdk: Sdk, key: str, until: str) -> Any:
    """What comes of a live session of OpenAI's that hears nothing."""
    steps = [["wait", until], *([["close"]] if sdk.language == "javascript" else [])]
    return sdk.call("openai", "live", key, file="/dev/null", rate=24_000, steps=steps)


def types(said: Any) -> set[str]:
    """Which events came."""
    return {event["type"] for event in done(said)}


def test_live_sessions_want_a_key(keyed: Keyed) -> None:
    sdk, ann, _ = keyed
    assert "session_started" in types(scribe(sdk, ann, "session_started"))
    assert "session.created" in types(realtime(sdk, ann, "session.created"))
    if sdk.language == "python":
        for said in (scribe(sdk, "wrong", "close"), realtime(sdk, "wrong", "close")):
            assert "HTTP 401" in said["text"]
    else:
        assert "401" in str(done(scribe(sdk, "wrong", "error")))
        assert "401" in str(done(realtime(sdk, "wrong", "raised")))


def test_a_token_opens_one_live_session(keyed: Keyed) -> None:
    sdk, ann, _ = keyed
    make = "tokens.single_use.create"
    token = done(sdk.named("elevenlabs", make, ann, token_type="realtime_scribe"))["token"]
    assert "session_started" in types(scribe(sdk, "none", "session_started", token=token))
    assert "auth_error" in types(scribe(sdk, "none", "close", token=token))


def test_an_ephemeral_key_opens_live_sessions_and_nothing_else(keyed: Keyed, mono: str) -> None:
    sdk, ann, _ = keyed
    make, args = "realtime.client_secrets.create", {"session": {"type": "transcription"}}
    key = done(sdk.call("openai", make, ann, args=args))["value"]
    for _ in "12":
        assert "session.created" in types(realtime(sdk, key, "session.created"))
    assert sdk.call("openai", make, key, args=args)["status"] == 403
    said = sdk.call("openai", CALLS["openai"], key, file=mono, args=MODEL["openai"])
    assert (said["status"], said["body"]["code"]) == (403, "missing_scope")
