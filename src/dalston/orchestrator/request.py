"""The one internal request: what every dialect is translated to."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field


class TranscribeRequest(Struct, omit_defaults=True):
    """What is asked for one recording."""

    model: str | None = None
    """A model id, or an engine's id for that engine's default model; None: the default."""
    language: str | None = None
    """ISO 639-1; None: detect."""
    speaker_detection: str = "none"
    word_timestamps: bool | None = None
    """Whether words with times are wanted; None: as the engine does by itself."""
    priority: Literal["normal", "high"] = "normal"
    """`high` is served before all that is `normal`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Anything else, by the names of the chosen engines' options; texts are coerced."""
