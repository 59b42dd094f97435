"""The conversation of `WS /v1/audio/transcriptions/stream`: Dalston's own, and the contract of its client.

Binary messages are audio; text messages are one JSON object each, and so are all that the client is sent:
the events of `dalston.live` as they are.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.live.protocol import Options
from msgspec import Meta, Struct, field

from dalston import live
from dalston.errors import BadRequest
from dalston.live import Action, Begin, Event, Hang, LiveRequest, Resume, Say, Trouble

CONTAINERS = ("container", "ogg", "opus", "webm", "mp3", "flac", "wav", "m4a", "mp4")
"""Encodings that are files, told apart by what is in them."""
RATES = {"mulaw": 8_000, "alaw": 8_000}
"""Sample rates where none is given, if not 16000."""
MESSAGE_BYTES = 2**20
"""The longest message."""
MOST_ID = 200
"""Characters of a flush's id."""
_LISTS = {"keyterms"}
Language = Annotated[str, Meta(pattern="^[a-z]{2,3}$")]
Threshold = Annotated[float, Meta(ge=0.05, le=0.95)]
Silence = Annotated[int, Meta(ge=50, le=10_000)]
Speech = Annotated[int, Meta(ge=0, le=5_000)]
Padding = Annotated[int, Meta(ge=0, le=2_000)]
Prompt = Annotated[str, Meta(max_length=4_000)]
Keyterms = Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=100)]


class Query(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a connection asks for."""

    model: Annotated[str, Meta(min_length=1, max_length=200)] = live.FAST
    """`fast`, `accurate` or a model's id."""
    language: Language | None = None
    """ISO 639-1; absent: detected in the first speech."""
    sample_rate: Annotated[int, Meta(ge=8_000, le=48_000)] | None = None
    """Hertz; by default 16000, and 8000 of `mulaw` and `alaw`. A file has its own."""
    encoding: Literal[
        "pcm_s16le", "pcm_f32le", "mulaw", "alaw",
        "container", "ogg", "opus", "webm", "mp3", "flac", "wav", "m4a", "mp4",
    ] = "pcm_s16le"  # fmt: skip
    """Of the audio: one channel of samples, or a file as it is written, which tells its kind itself."""
    interim_results: bool = True
    """Whether partial transcripts are sent."""
    word_timestamps: bool = False
    """Whether finals have their words with times."""
    vad_threshold: Threshold = 0.5
    """Probability of speech from which on somebody speaks."""
    vad_silence_ms: Silence = 500
    """Silence that ends an utterance."""
    vad_min_speech_ms: Speech = 100
    """Shorter sounds are no speech."""
    vad_padding_ms: Padding = 300
    """What is heard before speech was noticed, and after it has stopped."""
    prompt: Prompt | None = None
    """What the speech is about."""
    keyterms: Keyterms = field(default_factory=list)
    """Words to expect; repeated for each."""
    record: bool = False
    """Whether the audio is kept with the transcript."""
    enhance_on_end: bool = False
    """Not there yet: refused."""
    session_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")] | None = None
    """The session to take up again; all else but `after` is as it was."""
    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """The `seq` of the last event that came; what was missed is told again."""


class AudioMessage(Struct, tag="audio", tag_field="type"):
    """Audio as text."""

    audio: str
    """Base64."""


class FlushMessage(Struct, tag="flush", tag_field="type"):
    """Finalise everything sent so far."""

    id: Annotated[str, Meta(max_length=MOST_ID)] = ""
    """Comes back in `flushed`."""


class ConfigureMessage(Struct, tag="configure", tag_field="type", forbid_unknown_fields=True):
    """Other options from here on; what is not given stays."""

    language: Language | None = None
    prompt: Prompt | None = None
    keyterms: Keyterms | None = None
    interim_results: bool | None = None
    word_timestamps: bool | None = None
    vad_threshold: Threshold | None = None
    vad_silence_ms: Silence | None = None
    vad_min_speech_ms: Speech | None = None
    vad_padding_ms: Padding | None = None


class EndMessage(Struct, tag="end", tag_field="type"):
    """No more audio comes."""


Message = AudioMessage | FlushMessage | ConfigureMessage | EndMessage
MESSAGES: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class NativeTalk:
    """A native client."""

    protocol: str | None = None
    accepting = owing = False

    def __init__(self, query: Sequence[tuple[str, str]]) -> None:
        """From the pairs of a query."""
        self._query = query
        self._seq, self._begun = 0, False

    def began(self) -> Iterable[Action]:
        """Begin, or take up again; raises BadRequest."""
        asked = _read(self._query)
        if asked.session_id is not None:
            return [Resume(asked.session_id, asked.after)]
        return [Begin(self._request(asked))]

    def heard(self, message: str | bytes) -> Iterator[Action]:
        """What a message asks for; one that cannot be understood is answered with an `error`."""
        if isinstance(message, bytes):
            yield live.Audio(message)
            return
        try:
            said = MESSAGES.decode(message)
        except msgspec.ValidationError as error:
            yield self._error(BadRequest(_located(error), code="bad_message"))
            return
        except (msgspec.DecodeError, RecursionError):
            told = "A text message is a JSON object with a `type`: audio, flush, configure or end."
            yield self._error(
                BadRequest(f"{told} Audio itself is sent in binary messages.", code="bad_message")
            )
            return
        match said:
            case AudioMessage():
                try:
                    yield live.Audio(base64.b64decode(said.audio, validate=True))
                except (binascii.Error, ValueError):
                    yield self._error(BadRequest("`audio` is not base64.", code="bad_message"))
            case FlushMessage():
                yield live.Flush(said.id)
            case ConfigureMessage():
                yield live.Change(_given(said))
            case EndMessage():
                yield live.End()

    def told(self, event: Event) -> Iterator[str | Hang]:
        """The event as it is."""
        self._seq = max(self._seq, event.seq)
        self._begun = True
        yield msgspec.json.encode(event).decode()

    def failed(self, error: DalstonError) -> Iterator[str | Hang]:
        """An `error`; a session that has begun goes on."""
        yield self._error(error, fatal=not self._begun).message

    def _error(self, error: DalstonError, fatal: bool = False) -> Say:
        trouble = Trouble(self._seq, error.code, error.message, error.status, fatal)
        return Say(msgspec.json.encode(trouble).decode())

    def _request(self, asked: Query) -> LiveRequest:
        encoding = "container" if asked.encoding in CONTAINERS else asked.encoding
        if encoding == "container" and asked.sample_rate is not None:
            raise BadRequest("`sample_rate` is for samples: a file tells its own.", code="invalid_option")
        if asked.enhance_on_end:
            told = "`enhance_on_end` is not there yet: record the session and submit the recording as a job."
            raise BadRequest(told, code="invalid_option")
        options = Options(
            language=asked.language,
            prompt=asked.prompt or None,
            keyterms=asked.keyterms,
            partials=asked.interim_results,
            word_timestamps=asked.word_timestamps,
            vad_threshold=asked.vad_threshold,
            vad_silence_ms=asked.vad_silence_ms,
            vad_min_speech_ms=asked.vad_min_speech_ms,
            vad_padding_ms=asked.vad_padding_ms,
        )
        rate = asked.sample_rate or RATES.get(encoding, 16_000)
        return LiveRequest(asked.model, encoding, rate, options, record=asked.record, resumable=True)  # type: ignore[arg-type]


def _read(query: Sequence[tuple[str, str]]) -> Query:
    """The query; raises BadRequest for what it gets wrong. `token` and `api_key` are the door's."""
    values: dict[str, Any] = {}
    for name, text in query:
        if name == "token":
            continue
        if name in _LISTS:
            values.setdefault(name, []).append(text)
        elif name in values:
            raise BadRequest(f"`{name[:40]}` is given more than once.", code="invalid_option")
        else:
            values[name] = text
    try:
        return msgspec.convert(values, Query, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(_located(error), code="invalid_option") from None


def _located(error: msgspec.ValidationError) -> str:
    """What is wrong, and where."""
    return re.sub(r" - at `\$\.?(.*?)`$", r" (`\1`)", str(error)) + "."


def _given(said: ConfigureMessage) -> dict[str, Any]:
    given = {name: value for name in said.__struct_fields__ if (value := getattr(said, name)) is not None}
    if "interim_results" in given:
        given["partials"] = given.pop("interim_results")
    return given
