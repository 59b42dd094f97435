"""Webhooks with ElevenLabs' SDKs: made, told, and verified by the SDKs' own check."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Server
from tests.receiver import Got, Receiver, receiving
from tests.sdks.conftest import Sdk
from tests.sdks.test_elevenlabs import assert_chunk, convert, done
from tests.waiting import until


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Who is told."""
    with receiving() as running:
        yield running


def made(sdk: Sdk, url: str, **more: Any) -> Any:
    """A webhook, made with the SDK."""
    settings = {"auth_type": "hmac", "name": "shop", "webhook_url": url} | more
    return done(sdk.call("elevenlabs", "webhooks.create", args={"settings": settings}))


def removed(sdk: Sdk, id: str) -> None:
    """Forget it again."""
    told = {"args": {"webhook_id": id}} if sdk.language == "python" else {"positional": [id]}
    done(sdk.call("elevenlabs", "webhooks.delete", **told))


def delivered(server: Server, asked: Any) -> None:
    """Wait until the server knows that a delivery has come."""
    query = {"job": asked["transcription_id"]}

    def states() -> set[str]:
        found = server.client.get("/v1/webhooks/deliveries", params=query).json()["deliveries"]
        return {one["state"] for one in found}

    until(lambda: states() == {"delivered"})


def checked(sdk: Sdk, got: Got, secret: str) -> Any:
    """What the SDK says of a delivery."""
    return sdk.ask(
        {"signature": got.headers["elevenlabs-signature"], "body": got.body.decode(), "secret": secret}
    )


def signed(sdk: Sdk, got: Got, secret: str, at: float) -> Any:
    """What the SDK says of a delivery that somebody signed at that time."""
    told = f"{int(at)}.".encode() + got.body
    digest = hmac.new(secret.encode(), told, "sha256").hexdigest()
    return checked(sdk, Got({"elevenlabs-signature": f"t={int(at)},v0={digest}"}, got.body), secret)


def test_a_transcript_is_delivered_and_the_sdk_takes_it_for_genuine(
    sdk: Sdk, server: Server, clip: str, receiver: Receiver
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
    assert not signed(sdk, got, hook["webhook_secret"], time.time()).get("error")
    assert signed(sdk, got, hook["webhook_secret"], time.time() - 31 * 60).get("error")
    delivered(server, asked)
    removed(sdk, hook["webhook_id"])


@pytest.mark.parametrize("given", [{"a": {"b": 1}}, '{"a":{"b":1}}', {}, None], ids=str)
def test_metadata_come_back_however_they_are_given(
    sdk: Sdk, server: Server, mono: str, receiver: Receiver, given: Any
) -> None:
    hook = made(sdk, receiver.url)
    more = {} if given is None else {"webhook_metadata": given}
    asked = done(convert(sdk, mono, model_id="turns", webhook=True, webhook_id=hook["webhook_id"], **more))
    event = done(checked(sdk, receiver.got.get(timeout=60), hook["webhook_secret"]))
    assert event["data"]["webhook_metadata"] == (json.loads(given) if isinstance(given, str) else given)
    delivered(server, asked)
    removed(sdk, hook["webhook_id"])


def test_all_webhooks_are_told_of_channels_too(
    sdk: Sdk, server: Server, stereo: str, receiver: Receiver
) -> None:
    hook = made(sdk, receiver.url)
    accepted = convert(sdk, stereo, model_id="turns", webhook=True, use_multi_channel=True)
    if sdk.language == "python":
        assert accepted["type"] == "SpeechToTextWebhookResponseModel"
    event = done(checked(sdk, receiver.got.get(timeout=60), hook["webhook_secret"]))
    transcripts = event["data"]["transcription"]["transcripts"]
    assert [one["channel_index"] for one in transcripts] == [0, 1]
    for one in transcripts:
        assert_chunk(one)
    delivered(server, done(accepted))
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


def test_a_delivery_has_the_headers_that_were_asked_for(
    sdk: Sdk, server: Server, mono: str, receiver: Receiver
) -> None:
    hook = made(sdk, receiver.url, request_headers={"x-shop": "7"})
    asked = done(convert(sdk, mono, model_id="turns", webhook=True, webhook_id=hook["webhook_id"]))
    got = receiver.got.get(timeout=60)
    assert (got.headers["x-shop"], got.headers["content-type"]) == ("7", "application/json")
    delivered(server, asked)
    removed(sdk, hook["webhook_id"])


def test_a_webhook_deleted_during_its_delivery_stays_deleted(
    sdk: Sdk, server: Server, mono: str, receiver: Receiver
) -> None:
    receiver.hold = (go := threading.Event()).wait
    hook = made(sdk, receiver.url)
    asked = done(convert(sdk, mono, model_id="turns", webhook=True, webhook_id=hook["webhook_id"]))
    receiver.got.get(timeout=60)
    removed(sdk, hook["webhook_id"])
    go.set()
    delivered(server, asked)
    left = [one["webhook_id"] for one in done(sdk.call("elevenlabs", "webhooks.list"))["webhooks"]]
    if hook["webhook_id"] in left:
        removed(sdk, hook["webhook_id"])
    assert hook["webhook_id"] not in left


def test_a_webhook_that_is_not_there_is_an_error(sdk: Sdk, mono: str) -> None:
    said = convert(sdk, mono, model_id="turns", webhook=True, webhook_id="none")
    assert said["status"] == 404
    assert sdk.named("elevenlabs", "webhooks.delete", webhook_id="none")["status"] == 404


def test_nobody_to_tell_is_an_error(sdk: Sdk, clip: str) -> None:
    said = convert(sdk, clip, webhook=True)
    assert said.get("status") == 400, said
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
    marks = [base64.b64decode(one["content"])[:4] for one in told[4:]]
    assert marks == [b"PK\x03\x04", b"%PDF"]
