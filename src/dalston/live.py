"""Live sessions as all dialects see them: what is asked for, what a client does, what it is told.

A dialect's `Talk` turns a client's messages into actions and a session's events into messages. It knows
neither sockets nor workers: one loop in the gateway carries out the actions, whatever the dialect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Protocol

from dalston_engine.errors import DalstonError
from dalston_engine.live.protocol import Encoding, Final, Options
from dalston_engine.types import Word
from msgspec import Meta, Struct, field

FAST, ACCURATE = "fast", "accurate"
"""The variants: names of models that the operator maps to real ones."""
UNSPACED = {"ja", "km", "lo", "my", "th", "yue", "zh"}
"""Languages that put no spaces between sentences."""


class LiveRequest(Struct):
    """What a client asks of a new session."""

    model: str = FAST
    """A variant, or the id of a model."""
    encoding: Encoding = "pcm_s16le"
    sample_rate: Annotated[int, Meta(ge=8_000, le=48_000)] = 16_000
    options: Options = field(default_factory=Options)
    record: bool = False
    """Whether the audio is kept with the transcript."""
    keep: bool = True
    """False: nothing stays once the session has ended."""
    resumable: bool = False
    """Whether it waits for its client to come back when the connection is lost."""


# What a client does.


class Begin(Struct):
    """Open the session; before any other action but `Say` and `Hang`."""

    request: LiveRequest


class Resume(Struct):
    """Take a session up again, after the event with this `seq`."""

    session: str
    after: int = 0


class Audio(Struct):
    """More audio, in the session's encoding."""

    content: bytes


class Flush(Struct):
    """Finalise everything sent so far; `Flushed` answers."""

    id: str


class Configure(Struct):
    """Other options for what is heard from here on."""

    options: Options


class Change(Struct):
    """Other values of some options, by name, for what is heard from here on."""

    values: dict[str, Any]


class Clear(Struct):
    """Forget what is not final yet."""


class End(Struct):
    """No more audio comes: finalise, tell everything, hang up."""


class Say(Struct):
    """Answer the client at once."""

    message: str


class Hang(Struct):
    """Close the connection; the session ends as if its client had ended it."""

    code: int = 1000
    reason: str = ""


Action = Begin | Resume | Audio | Flush | Configure | Change | Clear | End | Say | Hang

# What it is told. `seq` grows from event to event, not always by one. Times are seconds of the session's
# audio. The names of types and fields are the native dialect's.


class SessionStarted(Struct, tag="session.started", tag_field="type"):
    """The first event of every connection."""

    seq: int
    session_id: str
    model: str
    audio: float
    """From where on audio is wanted: 0, or when the session is taken up again, what has come of it."""
    resumed: bool = False


class SpeechStarted(Struct, tag="speech.started", tag_field="type"):
    """Somebody began to speak."""

    seq: int
    at: float


class SpeechEnded(Struct, tag="speech.ended", tag_field="type"):
    """He stopped; the final transcript of it follows."""

    seq: int
    at: float


class PartialTranscript(Struct, tag="transcript.partial", tag_field="type"):
    """The utterance at hand as it sounds so far, until the next one or the final one replaces it."""

    seq: int
    start: float
    end: float
    text: str
    stable: str
    """The beginning of `text` that will hardly change."""


class FinalTranscript(Struct, tag="transcript.final", tag_field="type", omit_defaults=True):
    """An utterance for good; it is logged before it is told."""

    seq: int
    start: float
    end: float
    text: str
    cause: Literal["silence", "length", "flush", "end"]
    """What ended it; after `length` the speaker goes on."""
    words: list[Word] | None = None
    language: str | None = None
    language_probability: float | None = None
    avg_logprob: float | None = None

    @classmethod
    def of(cls, told: Final, seq: int) -> FinalTranscript:
        """What a worker has told."""
        certain = told.language_probability, told.avg_logprob
        return cls(seq, told.start, told.end, told.text, told.cause, told.words, told.language, *certain)


class Ack(Struct, tag="ack", tag_field="type"):
    """Audio before this never needs to be sent again."""

    seq: int
    audio: float


class Flushed(Struct, tag="flushed", tag_field="type"):
    """Everything before the flush of this id is final, and was told."""

    seq: int
    id: str
    audio: float


class Lag(Struct, tag="lag", tag_field="type"):
    """How many seconds of audio wait to be heard; told while it is much, and once when it is no more."""

    seq: int
    seconds: float


class Trouble(Struct, tag="error", tag_field="type"):
    """Something went wrong; unless it is fatal the session goes on."""

    seq: int
    code: str
    message: str
    status: int = 500
    fatal: bool = True


class SessionEnded(Struct, tag="session.ended", tag_field="type"):
    """The last event of a session."""

    seq: int
    session_id: str
    audio: float
    """Its length."""


Event = (
    SessionStarted
    | SpeechStarted
    | SpeechEnded
    | PartialTranscript
    | FinalTranscript
    | Ack
    | Flushed
    | Lag
    | Trouble
    | SessionEnded
)


class Talk(Protocol):
    """One client's conversation in some dialect: pure, one object for each connection.

    Made from the connection's query and headers, which never raises: what they get wrong is told by `began`.
    """

    protocol: str | None
    """The WebSocket subprotocol that is answered, of those the client offers."""
    accepting: bool
    """Whether who may not enter is told so on an accepted connection, by `failed`, as browsers need it; else
    the handshake is answered with the error's status."""

    @property
    def owing(self) -> bool:
        """Whether something is still to be told that the client has asked for: it is, though he hangs up."""

    def began(self) -> Iterable[Action]:
        """What to do when the connection is there."""

    def heard(self, message: str | bytes) -> Iterable[Action]:
        """What a message asks for. A message that cannot be understood is answered (`Say`), or hung up on."""

    def told(self, event: Event) -> Iterable[str | Hang]:
        """What the client is sent for an event."""

    def failed(self, error: DalstonError) -> Iterable[str | Hang]:
        """What the client is sent when an action failed, such as `Begin` where no worker is free."""


def joined(texts: Iterable[str], language: str | None) -> str:
    """One text of several utterances."""
    return ("" if language in UNSPACED else " ").join(text for text in texts if text)
