"""Webhooks as the vendor shapes them: their settings, and what they are told."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from dalston.dialects.base import Answer, Ended, Finished, Notice
from dalston.dialects.elevenlabs.answer import body

SIGNATURE = "ElevenLabs-Signature"
ACCEPTED = "Request accepted. Transcription result will be sent to the webhook endpoint."


def accepted(job: str, request: str) -> Answer:
    """The answer of a request whose transcript is delivered later."""
    told = {"message": ACCEPTED, "request_id": request, "transcription_id": job}
    return Answer(msgspec.json.encode(told), status=202)


def notice(ended: Ended) -> Notice:
    """The vendor's event; of a failure, which the vendor does not document, `data.error` says why."""
    data: dict[str, Any] = {"request_id": ended.id}
    if ended.transcript is not None:
        data["transcription"] = body(Finished(ended.id, ended.transcript, ended.asked))
    else:
        known = ended.error
        data["error"] = {"code": known.code, "message": known.message} if known else {"code": ended.state}
    data["webhook_metadata"] = ended.metadata
    told = {"type": "speech_to_text_transcription", "event_timestamp": int(ended.at), "data": data}
    return Notice(msgspec.json.encode(told), SIGNATURE)


class Settings(Struct):
    """A webhook to be made."""

    name: str
    webhook_url: str
    auth_type: Literal["hmac"] = "hmac"
    request_headers: dict[str, str] | None = None


class Creation(Struct):
    """The body of `POST /v1/workspace/webhooks`."""

    settings: Settings


class Change(Struct):
    """The body of `PATCH /v1/workspace/webhooks/{id}`; `events` may name what this server has none of."""

    is_disabled: bool | None = None
    name: str | None = None
    retry_enabled: bool | None = None
    request_headers: dict[str, str] | None = None
    events: list[str] | None = None


class Known(Struct):
    """A webhook as it is."""

    id: str
    name: str
    url: str
    created_at: float
    disabled: bool
    auto_disabled: bool
    failed_at: float | None
    failed_with: int | None


def listed(webhook: Known) -> dict[str, Any]:
    """A webhook as the vendor lists it."""
    told: dict[str, Any] = {
        "name": webhook.name,
        "webhook_id": webhook.id,
        "webhook_url": webhook.url,
        "is_disabled": webhook.disabled,
        "is_auto_disabled": webhook.auto_disabled,
        "created_at_unix": int(webhook.created_at),
        "auth_type": "hmac",
    }
    if webhook.failed_at is not None:
        told["most_recent_failure_timestamp"] = int(webhook.failed_at)
    if webhook.failed_with is not None:
        told["most_recent_failure_error_code"] = webhook.failed_with
    return told
