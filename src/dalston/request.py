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
    task: Literal["transcribe", "translate"] = "transcribe"
    """`translate`: the words in English, whatever was spoken."""
    speaker_detection: Literal["none", "diarize", "per_channel"] = "none"
    """`per_channel`: every channel of the source is one speaker."""
    diarizer: str | None = None
    """The engine that tells speakers apart; None: the one that can do it best."""
    align: bool | None = None
    """Whether words get their times from an aligner; None: when speakers are told apart, or no other
    engine gives any, and an aligner runs."""
    aligner: str | None = None
    """Which one."""
    word_timestamps: bool | None = None
    """Whether words with times are wanted; None: as the engine does by itself."""
    characters: bool = False
    """Whether every word's characters are wanted with their times."""
    probabilities: bool = False
    """Whether the answer needs every word's probability."""
    source_format: Literal["", "pcm_s16le_16k"] = ""
    """How to read a source that does not say so itself: headerless 16-bit mono samples at 16 kHz."""
    stream: bool = False
    """Whether somebody follows the segments as they come."""
    priority: Literal["normal", "high"] = "normal"
    """`high` is served before all that is `normal`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Anything else, by the names of the chosen engines' options; texts are coerced."""
    answer: dict[str, Any] = field(default_factory=dict)
    """How a dialect is to shape the answer: its own matter, kept with the job."""
