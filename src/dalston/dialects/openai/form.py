"""The forms of `POST /v1/audio/transcriptions` and `/v1/audio/translations`, field by field."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

MODELS = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
)
"""The vendor's models, all of which stand for the default one unless `model_names` says otherwise."""


class ServerVad(Struct, forbid_unknown_fields=True):
    """Cut the recording where nobody speaks."""

    type: Literal["server_vad"]
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[int, Meta(ge=0)] | None = None
    silence_duration_ms: Annotated[int, Meta(ge=0)] | None = None


class Translation(Struct, kw_only=True):
    """A request for the words in English."""

    REFUSED: ClassVar[dict[str, str]] = {}
    DIFFERS: ClassVar[dict[str, str]] = {
        "model": "a vendor's name stands for the model that `model_names` maps it to, else the default one; "
        "Dalston's own model and engine ids are taken too"
    }
    """Fields that work a little otherwise than the vendor's, and how."""

    model: str
    """Which model transcribes."""
    prompt: str | None = None
    """Text that the recording may follow, for its style and words."""
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    """The shape of the answer."""
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    """How freely the model chooses its words."""


class Form(Struct, kw_only=True):
    """A request to transcribe one recording."""

    REFUSED: ClassVar[dict[str, str]] = {
        "known_speaker_names": "no engine recognises speakers yet",
        "known_speaker_references": "no engine recognises speakers yet",
    }
    """Fields that ask for what cannot be done, and why. Their default, sent or not, asks for nothing."""
    DIFFERS: ClassVar[dict[str, str]] = Translation.DIFFERS | {
        "languages": "one language; several are refused",
        "keywords": "a hint to the model, as its prompt is",
        "response_format": "`diarized_json` is refused while no running engine tells speakers apart",
        "include": "`logprobs` has an entry for each word: the model's mean probability of its tokens",
        "stream": "a delta is a segment; ignored for `whisper-1`, as the vendor does",
    }
    """Fields that work a little otherwise than the vendor's, and how."""

    model: str
    """Which model transcribes."""
    language: str | None = None
    """ISO 639-1; detected when absent."""
    languages: list[str] = []
    """Languages that may be spoken."""
    prompt: str | None = None
    """Text that the recording may follow, for its style and words."""
    keywords: list[str] = []
    """Words the recording is likely to have."""
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = "json"
    """The shape of the answer."""
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    """How freely the model chooses its words."""
    timestamp_granularities: list[Literal["word", "segment"]] = []
    """What gets times in `verbose_json`; segments when absent."""
    include: list[Literal["logprobs"]] = []
    """What the answer has besides."""
    stream: bool = False
    """Whether the answer comes as events, as the words are found."""
    chunking_strategy: ServerVad | Literal["auto"] | None = None
    """How the recording is cut before it is transcribed."""
    known_speaker_names: list[str] = []
    """Names of speakers."""
    known_speaker_references: list[str] = []
    """Samples of their voices."""
