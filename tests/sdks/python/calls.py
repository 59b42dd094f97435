"""Calls with the vendors' unmodified Python SDKs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import live
from elevenlabs.client import ElevenLabs
from openai import OpenAI

PACKAGES = ("elevenlabs", "openai")


def client(told: dict[str, Any]) -> Any:
    """The vendor's client."""
    if told["vendor"] == "elevenlabs":
        return ElevenLabs(base_url=told["url"], api_key=told["key"])
    return OpenAI(base_url=told["url"] + "/v1", api_key=told["key"], max_retries=0)


def given(told: dict[str, Any]) -> Any:
    """The recording as the SDK is given it."""
    path = Path(told["file"])
    match told.get("how"):
        case "bytes":
            return path.read_bytes()
        case "named":
            return (path.name, path.read_bytes(), "audio/wav")
        case "path":
            return path
    return path.open("rb")


def plain(answer: Any) -> Any:
    """An answer as JSON has it."""
    if hasattr(answer, "model_dump"):
        return answer.model_dump(mode="json", exclude_unset=True)
    if isinstance(answer, list):
        return [plain(one) for one in answer]
    return answer


def performed(told: dict[str, Any]) -> dict[str, Any]:
    """One call and what came of it."""
    if told.get("call", "").startswith("live"):
        return live.performed(told)
    if "signature" in told:
        return verified(told)
    method: Any = client(told)
    for name in told["call"].split("."):
        method = getattr(method, name)
    args = dict(told.get("args", {}))
    if "file" in told:
        args["file"] = given(told)
    began = time.monotonic()
    answer = method(**args)
    if args.get("stream"):
        events = [(time.monotonic() - began, plain(event)) for event in answer]
        return {"ok": [event for _, event in events], "at": [at for at, _ in events]}
    return {"ok": plain(answer), "type": type(answer).__name__}


def verified(told: dict[str, Any]) -> dict[str, Any]:
    """Whether the SDK takes a webhook's delivery for genuine."""
    event = ElevenLabs(api_key="k").webhooks.construct_event(
        rawBody=told["body"], sig_header=told["signature"], secret=told["secret"]
    )
    return {"ok": event}
