"""Models as the vendor lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dalston.dialects.base import Model
from dalston.dialects.languages import spoken


def models(known: Sequence[Model]) -> list[dict[str, Any]]:
    """A bare list; what is said of speech synthesis is that there is none."""
    return [_model(one) for one in known]


def _model(model: Model) -> dict[str, Any]:
    languages = [
        {"language_id": code, "name": spoken(code).title()} for code in model.languages if code != "*"
    ]
    told = {"model_id": model.id, "name": model.id, "description": f"Speech to text by {model.engine}.",
            "can_do_text_to_speech": False, "can_do_voice_conversion": False}  # fmt: skip
    return told | ({"languages": languages} if languages else {})
