"""What a client of `WS /v1/realtime` may set, field by field, in both shapes: of today, and of the beta.

A field that is left out keeps its value. Inside there is one shape, today's; the beta's is turned into it
and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from dalston_engine.live.protocol import Encoding, Options
from msgspec import UNSET, Meta, Struct, UnsetType

from dalston.dialects.base import Names, mapped
from dalston.dialects.languages import short
from dalston.dialects.openai.form import MODELS as BATCH
from dalston.errors import BadField
from dalston.live import ACCURATE, LiveRequest

STREAMING = ("gpt-live-transcribe", "gpt-realtime-whisper")
"""The vendor's models of its live API alone: they have no turns, and tell words as they are spoken."""
SPEAKERS = "gpt-4o-transcribe-diarize"
"""The one that tells speakers apart, which none does while they speak."""
MODELS = (*(name for name in BATCH if name != SPEAKERS), *STREAMING)
"""The vendor's models, all of which stand for `accurate` unless `model_names` says otherwise."""
SILENCES = {"low": 1500, "medium": 800, "auto": 800, "high": 400}
"""Milliseconds of silence that end a turn, by the eagerness of `semantic_vad`."""
LONG_MS = 1500
"""The same where only the client ends turns: it is heard in pieces all the same, but in large ones."""
SERVER_VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
SEMANTIC_VAD = {"type": "semantic_vad", "eagerness": "auto"}
"""Turn detection where nothing else is said: of a session, and of its kind."""
ENCODINGS: dict[str, Encoding] = {"audio/pcm": "pcm_s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
OBJECT = "realtime.transcription_session"

Keyword = Annotated[str, Meta(min_length=1, max_length=50)]


class Pcm(Struct, tag="audio/pcm", forbid_unknown_fields=True):
    """Samples of 16 bits."""

    rate: Annotated[int, Meta(ge=8_000, le=48_000)] = 24_000


class Pcmu(Struct, tag="audio/pcmu", forbid_unknown_fields=True):
    """G.711, mu-law, 8 kHz."""

    rate: Literal[8000] = 8000


class Pcma(Struct, tag="audio/pcma", forbid_unknown_fields=True):
    """G.711, A-law, 8 kHz."""

    rate: Literal[8000] = 8000


class Transcription(Struct, kw_only=True, forbid_unknown_fields=True):
    """How the audio is transcribed."""

    model: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    """Which model transcribes."""
    language: str | UnsetType | None = UNSET
    """ISO 639-1; detected when absent."""
    languages: list[str] | UnsetType | None = UNSET
    """Languages that may be spoken."""
    prompt: Annotated[str, Meta(max_length=8_000)] | UnsetType | None = UNSET
    """Text that the speech may follow, for its style and words."""
    keywords: Annotated[list[Keyword], Meta(max_length=100)] | UnsetType | None = UNSET
    """Words that are likely to be said."""
    delay: str | UnsetType | None = UNSET
    """How long the model waits before it tells words."""


class Turns(Struct, kw_only=True, forbid_unknown_fields=True):
    """What both kinds of turn detection have for conversations; it changes nothing here."""

    create_response: bool | UnsetType | None = UNSET
    """Whether a turn is answered; there are no responses here."""
    interrupt_response: bool | UnsetType | None = UNSET
    """Whether speech interrupts an answer; there are no responses here."""


class ServerVad(Turns, tag="server_vad", kw_only=True, forbid_unknown_fields=True):
    """Silence of a certain length ends a turn."""

    threshold: Annotated[float, Meta(ge=0, le=1)] | UnsetType | None = UNSET
    """How readily sound counts as speech."""
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=2_000)] | UnsetType | None = UNSET
    """What is heard before speech was noticed."""
    silence_duration_ms: Annotated[int, Meta(ge=50, le=10_000)] | UnsetType | None = UNSET
    """The silence that ends a turn."""
    idle_timeout_ms: int | UnsetType | None = UNSET
    """After how much silence a response is made all the same."""


class SemanticVad(Turns, tag="semantic_vad", kw_only=True, forbid_unknown_fields=True):
    """Silence ends a turn, sooner or later."""

    eagerness: Literal["low", "medium", "high", "auto"] | UnsetType | None = UNSET
    """How soon."""


Detection = ServerVad | SemanticVad | UnsetType | None
Include = list[Literal["item.input_audio_transcription.logprobs"]] | UnsetType | None


class Input(Struct, kw_only=True, forbid_unknown_fields=True):
    """The settings of what is heard: `audio.input` of a session."""

    REFUSED: ClassVar[dict[str, str]] = {
        "noise_reduction": "no engine does this yet; null asks for nothing",
        "transcription.delay": "no engine does this yet; null asks for nothing",
        "turn_detection.idle_timeout_ms": "there are no responses to trigger",
    }
    """Fields that ask for what cannot be done, and why. Their default, sent or not, asks for nothing."""
    DIFFERS: ClassVar[dict[str, str]] = {
        "format": "`audio/pcm` may have any rate from 8000 to 48000; fixed once audio has come",
        "transcription.model": "a vendor's name stands for the model that `model_names` maps it to, else for "
        "the variant `accurate`; `fast`, `accurate` and Dalston's own model ids are taken too, and tell "
        "deltas while words are spoken; fixed once audio has come",
        "transcription.languages": "one language; several are refused",
        "transcription.keywords": "a hint to the model, as its prompt is",
        "include": "logprobs have an entry for each word: the model's mean probability of its tokens; absent "
        "where an engine measures none",
        "turn_detection.threshold": "held between 0.05 and 0.95",
        "turn_detection.eagerness": "a silence of 1500 ms (`low`), 800 (`medium`, `auto`) or 400 (`high`)",
        "turn_detection.create_response": "ignored, as in the vendor's sessions that transcribe",
        "turn_detection.interrupt_response": "ignored, as in the vendor's sessions that transcribe",
    }
    """Fields that work a little otherwise than the vendor's, and how."""

    format: Pcm | Pcmu | Pcma | UnsetType = UNSET
    """What the audio is: `audio/pcm` with its `rate`, `audio/pcmu`, `audio/pcma`."""
    transcription: Transcription | UnsetType = UNSET
    """How it is transcribed."""
    turn_detection: Detection = UNSET
    """What ends a turn: `server_vad`, `semantic_vad`, or null: the client commits."""
    noise_reduction: dict[str, Any] | UnsetType | None = UNSET
    """Whether noise is taken out of the audio."""


class Told(Struct, kw_only=True, forbid_unknown_fields=True):
    """The settings of what is told."""

    include: Include = UNSET
    """What a finished transcript has besides."""


PARTS: Sequence[tuple[str, type[Struct]]] = (
    ("", Input),
    ("transcription.", Transcription),
    ("turn_detection.", ServerVad),
    ("turn_detection.", SemanticVad),
    ("", Told),
)
"""What the settings are made of, by what their fields' names begin with."""


class SessionAudio(Struct, kw_only=True, forbid_unknown_fields=True):
    """The audio of a session."""

    input: Input | UnsetType = UNSET


class Session(Told, kw_only=True, forbid_unknown_fields=True):
    """A session's settings as they are sent today."""

    type: Literal["transcription"] | UnsetType = UNSET
    audio: SessionAudio | UnsetType = UNSET


class Expiry(Struct, forbid_unknown_fields=True):
    """How long an ephemeral key is good."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7200)] = 600


class Secret(Struct, forbid_unknown_fields=True):
    """An ephemeral key as the beta asks for it."""

    expires_at: Expiry = msgspec.field(default_factory=Expiry)


class BetaSession(Told, kw_only=True, forbid_unknown_fields=True):
    """A session's settings as they were sent in the beta."""

    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | UnsetType = UNSET
    input_audio_transcription: Transcription | UnsetType = UNSET
    turn_detection: Detection = UNSET
    input_audio_noise_reduction: dict[str, Any] | UnsetType | None = UNSET
    modalities: list[str] | UnsetType | None = UNSET
    client_secret: Secret | UnsetType | None = UNSET


def read(told: Any, beta: bool = False) -> dict[str, Any]:
    """The fields that an update gives, by their plain names; raises BadRequest."""
    try:
        if beta:
            return of_beta(msgspec.convert(told, BetaSession))
        session = msgspec.convert(told, Session)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise BadField(where.rstrip("`") or "session", f"{what}.", code="invalid_value", status=400) from None
    sound = UNSET if session.audio is UNSET else session.audio.input
    return _checked({} if sound is UNSET else msgspec.to_builtins(sound), session.include)


def of_beta(session: BetaSession) -> dict[str, Any]:
    """The same fields of the beta's shape; raises BadField."""
    given = msgspec.to_builtins(session)
    names = {
        "input_audio_transcription": "transcription",
        "turn_detection": "turn_detection",
        "input_audio_noise_reduction": "noise_reduction",
    }
    found = {name: given[beta] for beta, name in names.items() if beta in given}
    if session.input_audio_format is not UNSET:
        found["format"] = msgspec.to_builtins(_BETA[session.input_audio_format])
    return _checked(found, session.include)


_BETA: dict[str, Pcm | Pcmu | Pcma] = {"pcm16": Pcm(), "g711_ulaw": Pcmu(), "g711_alaw": Pcma()}
"""The beta's names of formats."""


def _checked(given: dict[str, Any], include: Include) -> dict[str, Any]:
    """Raise BadField for what promises what cannot be kept."""
    for path, why in Input.REFUSED.items():
        name, _, inner = path.partition(".")
        value = given.get(name)
        if (value.get(inner) if inner and isinstance(value, dict) else None if inner else value) is not None:
            raise BadField(
                path, f"`{path}` is not supported: {why}.", code="unsupported_parameter", status=400
            )
    return given if include is UNSET else given | {"include": include}


class Settings(Struct, frozen=True):
    """A session's settings in force."""

    format: dict[str, Any] = msgspec.field(default_factory=lambda: msgspec.to_builtins(Pcm()))
    transcription: dict[str, Any] = msgspec.field(
        default_factory=lambda: {"model": None, "language": None, "prompt": None}
    )
    wish: Any = UNSET
    """The turn detection that was asked for; a model without turns has none by itself."""
    include: list[str] | None = None

    def updated(self, given: dict[str, Any]) -> Settings:
        """These settings with others that an update gives; raises BadField for what does not go together."""
        new = Settings(
            given.get("format", self.format),
            self.transcription | given.get("transcription", {}),
            _merged(self.turns, given["turn_detection"]) if "turn_detection" in given else self.wish,
            given.get("include", self.include),
        )
        new.language()
        if new.transcription["model"] == SPEAKERS:
            told = (
                f"The model `{SPEAKERS}` is not supported: no engine tells speakers apart while they speak."
            )
            raise BadField("transcription.model", told, code="unsupported_value", status=400)
        if new.transcription["model"] in STREAMING and new.wish:
            told = f"The model {new.transcription['model']} has no turns: turn_detection has to be null."
            raise BadField("turn_detection", told, code="invalid_value", status=400)
        return new

    @property
    def turns(self) -> dict[str, Any] | None:
        """What ends a turn."""
        if self.wish is UNSET:
            return None if self.transcription["model"] in STREAMING else SERVER_VAD
        wish: dict[str, Any] | None = self.wish
        return wish

    @property
    def eager(self) -> bool:
        """Whether words are told while they are spoken, before their turn has ended."""
        return self.transcription["model"] not in (None, *BATCH)

    def language(self) -> str | None:
        """ISO 639-1 of what is spoken; raises BadField."""
        told = self.transcription
        found = {*(told.get("languages") or ()), *filter(None, [told["language"]])}
        if len(found) > 1:
            message = "Give one language; a model takes one, or detects it."
            raise BadField("transcription.languages", message, code="unsupported_value", status=400)
        return short("transcription.language", *found) if found else None

    def options(self) -> Options:
        """What its transcription is asked."""
        return Options(
            language=self.language(),
            prompt=self.transcription["prompt"] or None,
            keyterms=self.transcription.get("keywords") or [],
            word_timestamps=bool(self.include),
            **_vad(self.turns),
        )

    def request(self, names: Names) -> LiveRequest:
        """What the session asks for."""
        wanted = self.transcription["model"]
        model = (mapped(wanted, MODELS, names) if wanted else None) or ACCURATE
        return LiveRequest(model, ENCODINGS[self.format["type"]], self.format["rate"], self.options())

    def told(self, id: str) -> dict[str, Any]:
        """What is in force, as the vendor tells it."""
        sound = {
            "format": self.format if self.format["type"] == "audio/pcm" else {"type": self.format["type"]},
            "transcription": self.transcription,
            "noise_reduction": None,
            "turn_detection": self.turns,
        }
        return {"id": id, "object": OBJECT, "type": "transcription", "audio": {"input": sound},
                "include": self.include}  # fmt: skip

    def told_beta(self, id: str) -> dict[str, Any]:
        """The same in the beta's shape."""
        formats = {msgspec.to_builtins(kind)["type"]: name for name, kind in _BETA.items()}
        return {
            "id": id,
            "object": OBJECT,
            "input_audio_format": formats[self.format["type"]],
            "input_audio_transcription": self.transcription,
            "input_audio_noise_reduction": None,
            "turn_detection": self.turns,
            "include": self.include,
            "client_secret": None,
        }


def _merged(old: dict[str, Any] | None, given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Turn detection with what an update gives: what it leaves out stays, null is the default."""
    if given is None:
        return None
    usual = SERVER_VAD if given["type"] == "server_vad" else SEMANTIC_VAD
    before = old if old is not None and old["type"] == given["type"] else usual
    return {name: (usual[name] if given[name] is None else given[name]) if name in given else value
            for name, value in before.items()}  # fmt: skip


def _vad(turns: dict[str, Any] | None) -> dict[str, Any]:
    """The options that end an utterance where a turn ends."""
    if turns is None:
        return {"vad_silence_ms": LONG_MS}
    if turns["type"] == "semantic_vad":
        return {"vad_silence_ms": SILENCES[turns["eagerness"]]}
    return {
        "vad_threshold": min(max(turns["threshold"], 0.05), 0.95),
        "vad_padding_ms": turns["prefix_padding_ms"],
        "vad_silence_ms": turns["silence_duration_ms"],
    }


EXAMPLE, BETA_EXAMPLE = Settings().told("sess_…"), Settings().told_beta("sess_…")
