"""Webhooks with ElevenLabs' SDKs: made, told, and verified by the SDKs' own check."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.receiver import Got, Receiver, receiving
from tests.sdks.conftest import Sdk
from tests.sdks.test_elevenlabs import assert_chunk, convert, done


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Who is told."""
    with receiving() as running:
        yield running


def made(sdk: Sdk, url: str) -> Any:
    """A webhook, made with the SDK."""
    settings = {"auth_type": "hmac", "name": "shop", "webhook_url": url}
    return done(sdk.call("elevenlabs", "webhooks.create", args={"settings": settings}))


def removed(sdk: Sdk, id: str) -> None:
    """Forget it again."""
    told = {"args": {"webhook_id": id}} if sdk.language == "python" else {"positional": [id]}
    done(sdk.call("elevenlabs", "webhooks.delete", **told))


def checked(sdk: Sdk, got: Got, secret: str) -> Any:
    """What the SDK says of a delivery."""
    return sdk.ask(
        {"signature": got.headers["elevenlabs-signature"], "body": got.body.decode(), "secret": secret}
    )


def test_a_transcript_is_delivered_and_the_sdk_takes_it_for_genuine(
    sdk: Sdk, clip: str, receiver: Receiver
) -> None:
    hook = made(sdk, receiver.url)
    asked = done(convert(sdk, clip, webhook=True, webhook_id=hook["webhook_id"], webhook_metadata={"job": 1}))
    assert asked["message"]
    assert asked["request_id"]
    got = receiver.got.get(timeout=60)
    event = done(checked(sdk, got, hook["webhook_secret"]))
    assert event["type"] == "speech_to_text_transcription"
    assert event["data"]["webhook_metadata"] == {"job": 1}
    assert_chunk(event["data"]["transcription"])
    assert event["data"]["transcription"]["transcription_id"] == asked["transcription_id"]
    assert checked(sdk, got, "wsec_wrong").get("error")
    old = got.headers["elevenlabs-signature"].replace(str(int(time.time()))[:5], "11111", 1)
    assert checked(sdk, Got({"elevenlabs-signature": old}, got.body), hook["webhook_secret"]).get("error")
    removed(sdk, hook["webhook_id"])


@pytest.mark.parametrize("given", [{"a": {"b": 1}}, '{"a":{"b":1}}', {}, None], ids=str)
def test_metadata_come_back_however_they_are_given(
    sdk: Sdk, mono: str, receiver: Receiver, given: Any
) -> None:
    hook = made(sdk, receiver.url)
    more = {} if given is None else {"webhook_metadata": given}
    done(convert(sdk, mono, model_id="turns", webhook=True, webhook_id=hook["webhook_id"], **more))
    event = done(checked(sdk, receiver.got.get(timeout=60), hook["webhook_secret"]))
    assert event["data"]["webhook_metadata"] == (json.loads(given) if isinstance(given, str) else given)
    removed(sdk, hook["webhook_id"])


def test_all_webhooks_are_told_of_channels_too(sdk: Sdk, stereo: str, receiver: Receiver) -> None:
    hook = made(sdk, receiver.url)
    accepted = convert(sdk, stereo, model_id="turns", webhook=True, use_multi_channel=True)
    if sdk.language == "python":
        assert accepted["type"] == "SpeechToTextWebhookResponseModel"
    event = done(checked(sdk, receiver.got.get(timeout=60), hook["webhook_secret"]))
    transcripts = event["data"]["transcription"]["transcripts"]
    assert [one["channel_index"] for one in transcripts] == [0, 1]
    for one in transcripts:
        assert_chunk(one)
    removed(sdk, hook["webhook_id"])


def test_webhooks_are_listed_changed_and_deleted(sdk: Sdk, receiver: Receiver) -> None:
    hook = made(sdk, receiver.url)
    id = hook["webhook_id"]

    def listed() -> Any:
        found = done(sdk.call("elevenlabs", "webhooks.list"))["webhooks"]
        return next((one for one in found if one["webhook_id"] == id), None)

    assert (listed()["name"], listed()["is_disabled"], listed()["auth_type"]) == ("shop", False, "hmac")
    change = {"is_disabled": True, "name": "closed"}
    told = (
        {"args": {"webhook_id": id} | change}
        if sdk.language == "python"
        else {"positional": [id], "args": change}
    )
    done(sdk.call("elevenlabs", "webhooks.update", **told))
    assert (listed()["name"], listed()["is_disabled"]) == ("closed", True)
    removed(sdk, id)
    assert listed() is None


def test_nobody_to_tell_is_an_error(sdk: Sdk, clip: str) -> None:
    said = convert(sdk, clip, webhook=True)
    assert said["status"] == 400
    assert said["body"]["detail"]["code"] == "no_webhook"


def test_a_token_is_made(sdk: Sdk) -> None:
    kind = "batch_scribe"
    told = {"args": {"token_type": kind}} if sdk.language == "python" else {"positional": [kind]}
    assert done(sdk.call("elevenlabs", "tokens.single_use.create", **told))["token"]


def test_a_recording_is_fetched(sdk: Sdk) -> None:
    said = convert(sdk, source_url="http://10.0.0.1/talk.wav")
    assert (said["status"], said["body"]["detail"]["code"]) == (400, "source_refused")


def test_formats_come_with_the_transcript(sdk: Sdk, clip: str) -> None:
    names = ("srt", "segmented_json", "txt", "html", "docx", "pdf")
    formats: list[dict[str, Any]] = [{"format": name, "include_speakers": True} for name in names]
    formats[0]["max_characters_per_line"] = 30
    told = done(convert(sdk, clip, additional_formats=formats))["additional_formats"]
    assert [one["requested_format"] for one in told] == [one["format"] for one in formats]
    assert [one["is_base64_encoded"] for one in told] == [False] * 4 + [True] * 2
    assert all(len(line) <= 30 for line in told[0]["content"].splitlines())
    assert json.loads(told[1]["content"])["segments"]
