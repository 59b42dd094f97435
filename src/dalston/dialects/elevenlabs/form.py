"""The form of `POST /v1/speech-to-text`, field by field."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

MODELS = ("scribe_v1", "scribe_v1_experimental", "scribe_v2", "scribe_v2_medical", "scribe_v3")
"""The vendor's models, all of which stand for the default one unless `model_names` says otherwise."""
TOKENS = {"batch_scribe": "transcribe", "realtime_scribe": "realtime"}
"""What the vendor's kinds of single-use tokens may do; there is no speech synthesis to open."""
NO_ENGINE = "no engine does this yet"

Term = Annotated[str, Meta(min_length=1, max_length=50, pattern=r"^[^<>{}\[\]\\]*$")]


class Form(Struct, kw_only=True):
    """A request to transcribe one recording."""

    REFUSED: ClassVar[dict[str, str]] = {
        "secondary_language_codes": "a model takes one language, or detects it",
        "numbers_format": NO_ENGINE,
        "transcript_edit": NO_ENGINE,
        "diarization_threshold": NO_ENGINE,
        "entity_detection": NO_ENGINE,
        "entity_redaction": NO_ENGINE,
        "entity_redaction_mode": NO_ENGINE,
        "no_verbatim": NO_ENGINE,
        "use_speaker_library": "there is no library of speakers",
        "detect_speaker_roles": NO_ENGINE,
    }
    """Fields that ask for what cannot be done, and why. Their default, sent or not, asks for nothing."""
    DIFFERS: ClassVar[dict[str, str]] = {
        "model_id": "a vendor's name stands for the model that `model_names` maps it to, else the default "
        "one; Dalston's own model and engine ids are taken too",
        "source_url": "media files only: pages of video sites are refused; private addresses too",
        "tag_audio_events": "no engine detects events yet, so none is tagged: `warnings` in the answer says "
        "so where true was sent",
        "diarize": "refused while no running engine tells speakers apart",
        "num_speakers": "refused while no running engine tells speakers apart",
        "timestamps_granularity": "`character` is refused while no running engine times characters",
        "keyterms": "a hint to the model, as its prompt is",
        "seed": "best effort, with a temperature above 0",
        "enable_logging": "false: recording and transcript are deleted once the answer is sent",
    }
    """Fields that work a little otherwise than the vendor's, and how."""

    model_id: str
    """Which model transcribes."""
    source_url: str | None = None
    """Where the recording is, in place of `file`."""
    cloud_storage_url: str | None = None
    """As `source_url`; HTTPS."""
    language_code: str | None = None
    """ISO 639-1 or 639-3; detected when absent."""
    secondary_language_codes: list[str] = []
    """Other languages that are spoken."""
    numbers_format: Literal["digits", "words"] | None = None
    """How numbers are written."""
    transcript_edit: str | None = None
    """An instruction to edit the transcript by."""
    tag_audio_events: bool | None = None
    """Whether laughter and the like are noted."""
    num_speakers: Annotated[int, Meta(ge=1, le=32)] | None = None
    """At most so many speakers."""
    timestamps_granularity: Literal["none", "word", "character"] = "word"
    """What gets times."""
    diarize: bool = False
    """Whether speakers are told apart."""
    diarization_threshold: Annotated[float, Meta(ge=0.1, le=0.4)] | None = None
    """How readily two voices count for two speakers."""
    additional_formats: list[dict[str, Any]] = []
    """The transcript in other formats besides, each with its options."""
    file_format: Literal["pcm_s16le_16", "other"] = "other"
    """`pcm_s16le_16`: headerless 16-bit mono samples at 16 kHz."""
    webhook: bool = False
    """Whether to answer at once and deliver the transcript to webhooks."""
    webhook_id: str | None = None
    """The webhook to deliver to; all that are registered when absent."""
    webhook_metadata: dict[str, Any] | None = None
    """What the webhook gets back."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """How freely the model chooses its words."""
    seed: Annotated[int, Meta(ge=0, le=2_147_483_647)] | None = None
    """Makes a free choice repeatable."""
    use_multi_channel: bool = False
    """Whether every channel is a speaker with a transcript of its own."""
    multichannel_output_style: Literal["separate", "combined"] = "separate"
    """A transcript for each channel, or one of all."""
    entity_detection: list[str] = []
    """Which entities to find."""
    entity_redaction: list[str] = []
    """Which entities to redact."""
    entity_redaction_mode: str | None = None
    """How a redacted entity is written."""
    no_verbatim: bool = False
    """Whether fillers and false starts are left out."""
    use_speaker_library: bool = False
    """Whether known speakers are recognised."""
    detect_speaker_roles: bool = False
    """Whether speakers are told as agent and customer."""
    keyterms: Annotated[list[Term], Meta(max_length=1000)] = []
    """Words the recording is likely to have."""
    enable_logging: bool = True
    """In the query: false keeps nothing."""
    token: str | None = None
    """In the query: a single-use token in place of a key."""
