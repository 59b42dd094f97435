"""Calls with litellm, which puts one face on both vendors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it asks elsewhere when it is imported

import litellm

PACKAGES = ("litellm",)
litellm.telemetry = False


def performed(told: dict[str, Any]) -> dict[str, Any]:
    """A transcription and what came of it."""
    base = told["url"] if told["vendor"] == "elevenlabs" else told["url"] + "/v1"
    with Path(told["file"]).open("rb") as file:
        answer = litellm.transcription(
            f"{told['vendor']}/{told['model']}",
            file,
            api_base=base,
            api_key=told["key"],
            max_retries=0,
            **told["args"],
        )
    return {"ok": answer.model_dump(mode="json"), "type": type(answer).__name__}
