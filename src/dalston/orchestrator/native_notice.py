"""What a webhook is told in the native dialect."""

from __future__ import annotations

from typing import Any

import msgspec

from dalston.dialects.base import Ended, Notice


def notice(ended: Ended) -> Notice:
    """`{"type": "transcription.<state>", "created_at", "data": the job with its transcript, "metadata"}`."""
    data: dict[str, Any] = {"id": ended.id, "state": ended.state}
    if ended.error is not None:
        data["error"] = msgspec.to_builtins(ended.error)
    if ended.transcript is not None:
        data |= msgspec.to_builtins(ended.transcript)
    told = {"type": f"transcription.{ended.state}", "created_at": ended.at, "data": data}
    told |= {} if ended.metadata is None else {"metadata": ended.metadata}
    return Notice(msgspec.json.encode(told), "Dalston-Signature")
