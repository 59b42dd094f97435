"""The query of `WS /v1/speech-to-text/realtime`, field by field."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from dalston_engine.live.protocol import Encoding, Options
from msgspec import Meta, Struct

from dalston.dialects import form as forms
from dalston.dialects.base import Fields, Names, mapped
from dalston.dialects.elevenlabs.form import MODELS as BATCH
from dalston.dialects.elevenlabs.form import NO_ENGINE, Term
from dalston.dialects.languages import short
from dalston.errors import BadField
from dalston.live import ACCURATE, LiveRequest

MODELS = ("scribe_v2_realtime", "scribe_v3_live")
"""The vendor's live models, all of which stand for `accurate` unless `model_names` says otherwise."""
FORMATS: dict[str, tuple[Encoding, int]] = {
    **{f"pcm_{rate}": ("pcm_s16le", rate) for rate in (8000, 16000, 22050, 24000, 44100, 48000)},
    "ulaw_8000": ("mulaw", 8000),
}
"""Encoding and sample rate of the vendor's formats."""
TERM, TERMS = 20, 50
"""Characters a key term may have here, and how many there may be."""
CONTEXT = 2_000
"""Characters of the text before that are of use to a model."""

Share = Annotated[float, Meta(ge=0.1, le=0.9)]
Milliseconds = Annotated[int, Meta(ge=50, le=2000)]


class Live(Struct, kw_only=True):
    """A request to transcribe what is said from now on."""

    REFUSED: ClassVar[dict[str, str]] = {
        "secondary_languages": "a model takes one language, or detects it",
        "no_verbatim": NO_ENGINE,
        "filter_background_audio": NO_ENGINE,
        "entity_detection": NO_ENGINE,
        "entity_redaction": NO_ENGINE,
        "entity_redaction_mode": NO_ENGINE,
        "transcript_edit": NO_ENGINE,
        "diarize": "no engine tells speakers apart while they speak",
    }
    """Fields that ask for what cannot be done, and why. Their default, sent or not, asks for nothing."""
    DIFFERS: ClassVar[dict[str, str]] = {
        "model_id": "a vendor's name stands for the model that `model_names` maps it to, else for the "
        "variant `accurate`; `fast`, `accurate` and Dalston's own model ids are taken too",
        "commit_strategy": "`turn_prediction` is refused: no engine predicts turns",
        "min_silence_duration_ms": "a segment ends after the longer of this and `vad_silence_threshold_secs`",
        "keyterms": "a hint to the model, as its prompt is",
        "enable_logging": "false: nothing of the session is kept once it has ended",
    }
    """Fields that work a little otherwise than the vendor's, and how."""

    model_id: str
    """Which model transcribes."""
    audio_format: Literal[
        "pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000", "ulaw_8000"
    ] = "pcm_16000"
    """What the audio is."""
    commit_strategy: Literal["manual", "vad"] = "manual"
    """`manual`: the client says where a segment ends; `vad`: silence does."""
    vad_silence_threshold_secs: Annotated[float, Meta(ge=0.3, le=3.0)] = 1.5
    """The silence that ends a segment."""
    vad_threshold: Share = 0.4
    """How readily sound counts as speech."""
    min_speech_duration_ms: Milliseconds = 100
    """Shorter sounds are no speech."""
    min_silence_duration_ms: Milliseconds = 100
    """Shorter silences end nothing."""
    language_code: str | None = None
    """ISO 639-1 or 639-3, without a region; detected when absent."""
    secondary_languages: list[str] = []
    """Other languages that are spoken."""
    include_timestamps: bool = False
    """Whether a committed segment is told with its words' times."""
    include_language_detection: bool = False
    """Whether it is told with its language."""
    keyterms: Annotated[list[Term], Meta(max_length=TERMS)] = []
    """Words that are likely to be said."""
    no_verbatim: bool = False
    """Whether fillers and false starts are left out."""
    filter_background_audio: bool = False
    """Whether voices in the background are left out."""
    entity_detection: list[str] = []
    """Which entities to find."""
    entity_redaction: list[str] = []
    """Which entities to redact."""
    entity_redaction_mode: str | None = None
    """How a redacted entity is written."""
    transcript_edit: str | None = None
    """An instruction to edit the transcript by."""
    diarize: bool = False
    """Whether speakers are told apart."""
    enable_logging: bool = True
    """Whether the transcript may be kept."""
    token: str | None = None
    """A single-use token in place of a key."""


def read(query: Fields) -> Live:
    """The query's fields; what is unknown asks for nothing. Raises BadField."""
    form = forms.read(Live, {name: texts for name, texts in query.items() if name in Live.__struct_fields__})
    for name, why in Live.REFUSED.items():
        if getattr(form, name):
            raise _wrong(name, f"`{name}` is not supported: {why}.", "unsupported_parameter")
    if long := next((term for term in form.keyterms if len(term) > TERM), None):
        raise _wrong("keyterms", f"`keyterms`: one has {len(long)} characters; at most {TERM} are possible.")
    return form


def asked(form: Live, names: Names) -> LiveRequest:
    """What the form asks for; raises BadField."""
    encoding, rate = FORMATS[form.audio_format]
    silence = max(round(form.vad_silence_threshold_secs * 1000), form.min_silence_duration_ms)
    options = Options(
        language=short("language_code", form.language_code) if form.language_code else None,
        keyterms=form.keyterms,
        word_timestamps=form.include_timestamps,
        vad_threshold=form.vad_threshold,
        vad_min_speech_ms=form.min_speech_duration_ms,
        vad_silence_ms=silence,  # also where the client commits: a model hears whole sentences better
    )
    model = mapped(form.model_id, (*MODELS, *BATCH), names) or ACCURATE
    return LiveRequest(model, encoding, rate, options, keep=form.enable_logging)


def config(form: Live) -> dict[str, object]:
    """What is in force, as the vendor tells it when a session starts."""
    fields = msgspec.structs.asdict(form).items()
    told = {name: value for name, value in fields if name not in _UNTOLD and value is not None}
    return told | {
        "sample_rate": FORMATS[form.audio_format][1],
        "vad_commit_strategy": form.commit_strategy,
        "timestamps_granularity": "word" if form.include_timestamps else "none",
    }


_UNTOLD = {"token", "diarize", "entity_redaction", "entity_redaction_mode", "transcript_edit"}


def _wrong(field: str, message: str, code: str = "invalid_parameters") -> BadField:
    return BadField(field, message, code=code, status=400)
