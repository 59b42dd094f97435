"""Models as the vendor lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dalston.dialects.base import Model


def models(known: Sequence[Model]) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model(one) for one in known]}


def model(known: Model) -> dict[str, Any]:
    """One model; when it was made is not known."""
    return {"id": known.id, "object": "model", "created": 0, "owned_by": known.engine}
