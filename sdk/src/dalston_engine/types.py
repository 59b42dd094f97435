"""What travels between engines: audio, transcripts, tasks and capability cards.

All times are seconds from the start of the recording. A field that was not measured is absent.
"""

import wave
from pathlib import Path
from typing import Any

from msgspec import Struct, field

SAMPLE_RATE = 16_000


class Character(Struct):
    """One character of a word with its own measured times."""

    text: str
    start: float
    end: float


class Word(Struct, omit_defaults=True):
    """One spoken word; `text` keeps its leading whitespace, so joined words give the text."""

    text: str
    start: float
    end: float
    probability: float | None = None
    """The model's mean token probability, 0 to 1."""
    speaker: str | None = None
    channel: int | None = None
    """The channel of the source it was spoken on, counted from 0; when channels were told apart."""
    characters: list[Character] | None = None
    """Those of `text` with their times; absent when they were not asked for."""


class Segment(Struct, omit_defaults=True):
    """A stretch of speech as the model cut it; the optional fields are Whisper's own measures."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None
    temperature: float | None = None
    tokens: list[int] | None = None
    seek: int | None = None
    channel: int | None = None
    """As a word's."""


class ChannelInfo(Struct, omit_defaults=True):
    """What was found out about one channel of the source."""

    channel: int
    language: str | None = None
    language_probability: float | None = None


class Turn(Struct):
    """A stretch in which somebody speaks."""

    start: float
    end: float
    speaker: str


class Transcript(Struct, omit_defaults=True):
    """The text of a recording with its times."""

    segments: list[Segment]
    words: list[Word] | None = None
    """Every word in order; absent when word times were not asked for or cannot be had."""
    text: str | None = None
    """The whole text, stripped; filled by merge."""
    language: str | None = None
    """ISO 639-1 code, detected or as given."""
    language_probability: float | None = None
    """The detector's probability; absent when the language was given."""
    duration: float | None = None
    """Seconds of audio decoded."""
    model: str | None = None
    """The id of the model that transcribed."""
    channels: list[ChannelInfo] | None = None
    """One for each channel, when channels were told apart."""
    turns: list[Turn] | None = None
    """Who spoke when, overlaps kept, when a stage of its own has told."""
    warnings: list[str] = field(default_factory=list)


class Diarization(Struct, omit_defaults=True):
    """Who spoke when; speakers are numbered `speaker_0`, `speaker_1`, … by their first turn."""

    turns: list[Turn]
    """By their start; those of different speakers overlap where people talk at once."""
    exclusive: list[Turn] | None = None
    """The same with one speaker at a time, for giving words to speakers; absent: not told."""
    embeddings: dict[str, list[float]] | None = None
    """Each speaker's voice as a vector of length 1; absent when they were not asked for."""
    model: str | None = None
    warnings: list[str] = field(default_factory=list)


class Span(Struct):
    """One part of a recording cut in time, with some of its neighbours on either side, so that words at a
    cut are heard whole by both."""

    start: float
    end: float
    cut: float
    """Where it hands over to the next part: in a silence; of the last part, its end."""


class Media(Struct, omit_defaults=True):
    """What prepare found in the source file."""

    duration: float
    """Seconds of audio actually decoded."""
    container: str
    codec: str
    sample_rate: int
    """Hertz, as in the source."""
    channels: int
    bit_rate: int | None = None
    """Bits per second, when the container states it."""
    video: bool = False
    parts: int | None = None
    """How many parts prepare left to be transcribed each by itself; absent: the whole."""
    split: str | None = None
    """What the parts are: `channels`, one each, on the same clock; or `time`, one after the other."""
    spans: list[Span] | None = None
    """Where in the recording each part lies, when it was cut in time."""
    warnings: list[str] = field(default_factory=list)


class Audio:
    """Prepared audio: a 16 kHz mono 16-bit PCM WAV file, whole; raises EOFError, wave.Error or ValueError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with wave.open(str(path), "rb") as wav:
            *kind, self.frames, _, _ = wav.getparams()
        if kind != [1, 2, SAMPLE_RATE]:
            raise ValueError("prepared audio must be 16 kHz mono 16-bit PCM")
        if path.stat().st_size < self.frames * 2:
            raise EOFError("the audio is cut off")

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / SAMPLE_RATE

    def pcm(self) -> bytes:
        """All samples as little-endian signed 16-bit integers."""
        with wave.open(str(self.path), "rb") as wav:
            return wav.readframes(self.frames)


class Parts(Struct):
    """What merge joins: every result the job's other stages left."""

    media: Media
    transcripts: list[Transcript]
    """One for each part; aligned, when they were."""
    diarization: Diarization | None = None
    """When speakers were told apart by a stage of its own."""
    audio: list[Audio] = field(default_factory=list)
    """That of each part; none of a recording that stayed whole."""


class Need(Struct):
    """A settled task that another one reads from."""

    id: str
    stage: str
    token: str


class Task(Struct):
    """A claimed unit of work: one stage of one job, leased to one instance by `token`."""

    id: str
    job: str
    stage: str
    engine: str
    attempt: int
    token: str
    params: str = "{}"
    """JSON object, already validated against the engine's schema."""
    needs: list[Need] = field(default_factory=list)
    part: int | None = None
    """Which part of the recording, counted from 0; None: all of it."""
    trace: str | None = None
    """The `traceparent` (W3C) of the request, if it carried one."""


class ModelCard(Struct, omit_defaults=True):
    """A model that an engine offers by name."""

    languages: list[str]
    """ISO 639-1 codes, or `*` for any."""
    local: bool = False
    """True when its weights are on this machine; otherwise they are fetched at first use."""


class About(Struct, omit_defaults=True):
    """What an engine's manifest and its card both say."""

    id: str
    stage: str
    version: str = "0"
    languages: list[str] = field(default_factory=lambda: ["*"])
    default_model: str | None = None
    hub: bool = False
    """True when any id of the model hub is accepted."""
    words: bool = False
    """True when it can give word times."""
    characters: bool = False
    """True when it can give characters' times."""
    probabilities: bool = False
    """True when its words have their probabilities."""
    speakers: bool = False
    """True when it can tell by itself who speaks."""
    listens: bool = False
    """True when it hears live sessions, too; an engine of the stage `listen` always does."""
    fallback: bool = False
    """True when it is chosen only where no other engine of its stage has its weights on this machine."""
    gpu: str = "none"
    scripted: bool = False
    """True when its answers are made up for tests: chosen only when a request names it."""


class Card(About):
    """How an engine describes itself to the fleet."""

    models: dict[str, ModelCard] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    """JSON schema of the stage method's options."""
