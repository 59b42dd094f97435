"""What a gateway and a worker tell each other over one WebSocket, which carries one session's attachment.

A gateway connects to the worker's address with the worker's secret as `Authorization: Bearer`, and sends
`Open`; the worker answers `Opened` or `Failed`. From there on binary messages are audio in the session's
encoding, text messages are one JSON object each, both in order: what was sent before a `Flush` is heard
before it is answered. All times are seconds on the session's clock, which counts samples of input and
nothing else.

A worker says nothing twice and nothing about what lies before `Open.heard`. It stops reading while it is too
far behind, so whoever sends must expect to wait. Connection lost, or a worker gone: the session is opened
anew elsewhere, with the audio from the last `Final.audio_end` (or `Settled.audio`) on.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from dalston_engine.types import Word

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "container"]
"""How audio comes: one channel of samples, or a file as it is written (`container`: opus in Ogg or WebM, mp3,
flac, …)."""
SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
OPEN_BYTES = 65_536
"""The longest text message of either side."""


class Options(Struct, omit_defaults=True, frozen=True):
    """What a session asks of its transcription; told anew, it is for what is heard from then on."""

    language: str | None = None
    """ISO 639-1; None: detected in the first speech, and kept."""
    prompt: str | None = None
    """What the speech is about, or what was said before it."""
    keyterms: list[str] = field(default_factory=list)
    partials: bool = True
    word_timestamps: bool = False
    vad_threshold: Annotated[float, Meta(ge=0.05, le=0.95)] = 0.5
    """Probability of speech from which on somebody speaks; he has stopped 0.15 below it."""
    vad_silence_ms: Annotated[int, Meta(ge=50, le=10_000)] = 500
    """Silence that ends an utterance."""
    vad_min_speech_ms: Annotated[int, Meta(ge=0, le=5_000)] = 100
    """Shorter sounds are no speech."""
    vad_padding_ms: Annotated[int, Meta(ge=0, le=2_000)] = 300
    """What is heard before speech was noticed, and after it has stopped."""


# From the gateway.


class Open(Struct, tag="open", tag_field="type"):
    """Begin: this session, at this moment of it."""

    session: str
    epoch: int
    model: str
    """An id that the worker has registered."""
    encoding: Encoding = "pcm_s16le"
    sample_rate: int = 16_000
    """Hertz; of a container, 0."""
    start: float = 0.0
    """When the first sample that follows was spoken; 0 for a container, always sent from its beginning."""
    heard: float = 0.0
    """Audio before this is context: it has been transcribed, and nothing is said about it."""
    previous: str | None = None
    """The end of what was transcribed before."""
    options: Options = field(default_factory=Options)


class Configure(Struct, tag="configure", tag_field="type"):
    """Other options from here on."""

    options: Options


class Flush(Struct, tag="flush", tag_field="type"):
    """Finalise everything sent so far, without waiting for a silence; answered by `Flushed`."""

    id: str


class Clear(Struct, tag="clear", tag_field="type"):
    """Forget what is not final yet; answered by `Settled`."""


class End(Struct, tag="end", tag_field="type"):
    """No more audio: finalise what there is, answer `Ended` and close."""


Command = Open | Configure | Flush | Clear | End

# From the worker.


class Opened(Struct, tag="opened", tag_field="type"):
    """Ready for audio."""

    model: str


class SpeechStarted(Struct, tag="speech_started", tag_field="type"):
    """Somebody began to speak."""

    at: float


class SpeechEnded(Struct, tag="speech_ended", tag_field="type"):
    """He has been silent for as long as ends an utterance; its `Final` follows."""

    at: float
    """When he stopped."""


class Partial(Struct, tag="partial", tag_field="type"):
    """What the utterance at hand sounds like so far; each one replaces the one before."""

    start: float
    end: float
    """Up to where it was heard."""
    stable: str
    """Its beginning, on which two successive passes agree."""
    unstable: str
    """The rest of it; the text is both together."""


class Final(Struct, tag="final", tag_field="type", omit_defaults=True):
    """What was said in one utterance, for good."""

    start: float
    end: float
    text: str
    """Stripped; empty when the model heard nothing after all."""
    audio_end: float
    """Nothing before this will be said anything about again: where another worker would go on."""
    cause: Literal["silence", "length", "flush", "end"]
    """What ended the utterance. After `length` the speaker goes on: no `SpeechEnded` came before."""
    words: list[Word] | None = None
    """With their times, when asked for; joined they are the text with a space before it."""
    language: str | None = None
    language_probability: float | None = None
    """When it was detected."""
    avg_logprob: float | None = None
    waited: float | None = None
    """Seconds from the moment the utterance's end was known to this message."""


class Settled(Struct, tag="settled", tag_field="type"):
    """All audio up to here is dealt with, nothing of it pending; told now and then in silence."""

    audio: float


class Flushed(Struct, tag="flushed", tag_field="type"):
    """Everything before the `Flush` of this id is final, and has been said."""

    id: str
    audio: float


class Lag(Struct, tag="lag", tag_field="type"):
    """How many seconds of audio wait to be heard; told while it is much, and once when it is no more."""

    seconds: float


class Failed(Struct, tag="failed", tag_field="type"):
    """The session cannot go on here; the connection closes."""

    code: str
    message: str
    status: int = 500
    retryable: bool = False
    """Whether another worker may do better."""


class Ended(Struct, tag="ended", tag_field="type"):
    """The answer to `End`: everything has been said."""

    audio: float
    """The length of the session's audio."""


Report = Opened | SpeechStarted | SpeechEnded | Partial | Final | Settled | Flushed | Lag | Failed | Ended

encode = msgspec.json.Encoder().encode
commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
reports: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)
