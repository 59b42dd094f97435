"""The conversation of `WS /v1/speech-to-text/realtime`.

A segment is what lies between two commits; the workers cut it into utterances of their own, whose texts are
put together here. With `manual` a commit is a flush, answered when the flush is; with `vad` a segment ends
with the silence that ends an utterance. Either way every commit has exactly one `committed_transcript`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.types import Segment, Transcript, Word
from msgspec import Struct

from dalston.dialects.base import Fields, Names
from dalston.dialects.elevenlabs.answer import words_of
from dalston.dialects.elevenlabs.live_form import CONTEXT, asked, config, read
from dalston.dialects.hearing import Sound
from dalston.dialects.languages import long
from dalston.errors import BadField, BadRequest
from dalston.live import (
    UNSPACED,
    Ack,
    Action,
    Audio,
    Begin,
    Configure,
    Event,
    FinalTranscript,
    Flush,
    Flushed,
    Hang,
    Lag,
    PartialTranscript,
    Say,
    SessionEnded,
    SessionStarted,
    SpeechStarted,
    Trouble,
    joined,
)

LEAST_S, MOST_S = 0.3, 90.0
"""Seconds of audio that a commit must have, and after which one is made in any case."""
CHUNK_BYTES = 10_485_760
"""The longest base64 text of a chunk."""
ERRORS = {
    "quota_exceeded": ("quota_exceeded", 1008),
    "session_idle": ("insufficient_audio_activity", 1008),
    "worker_lost": ("transcriber_error", 1011),
}
STATUSES = {
    401: ("auth_error", 1008),
    403: ("auth_error", 1008),
    429: ("rate_limited", 1013),
    503: ("resource_exhausted", 1013),
}
"""What errors are called here, and the close code that follows, by their code or else by their status."""


class Chunk(Struct):
    """The one message that a client sends."""

    message_type: str = ""
    audio_base_64: str | None = None
    commit: bool | None = None
    sample_rate: int | None = None
    previous_text: str | None = None


class LiveTalk:
    """One client's conversation."""

    protocol: str | None = None

    def __init__(self, query: Fields, headers: Mapping[str, str], names: Names) -> None:
        # Browsers, which cannot read how a handshake was refused, send a token or their page's origin.
        self.accepting = bool(query.get("token")) or "origin" in headers
        self.wrong: BadField | None = None
        try:
            self.form = read(query)
            self.request = asked(self.form, names)
        except BadField as error:
            self.wrong = error
            return
        self.options = self.request.options
        self.vad = self.form.commit_strategy == "vad"
        self.sound = Sound(self.request.encoding, self.request.sample_rate)
        self.segment = Pending()
        self.fresh, self.first, self.late = 0.0, True, False
        self.commits = self.answered = 0
        self.told_text = ""

    @property
    def owing(self) -> bool:
        """Whether a commit is not answered yet."""
        return self.wrong is None and self.answered < self.commits

    def began(self) -> Iterator[Action]:
        """Open the session, which the query describes wholly."""
        if self.wrong is None:
            yield Begin(self.request)
        else:
            yield from (one if isinstance(one, Hang) else Say(one) for one in self.failed(self.wrong))

    def heard(self, message: str | bytes) -> Iterator[Action]:
        """Take a chunk, which may be a commit too."""
        try:
            chunk = msgspec.json.decode(message, type=Chunk)
            if chunk.message_type != "input_audio_chunk":
                raise BadRequest("A message has `message_type` input_audio_chunk; there is no other.")
            yield from self._taken(chunk)
        except (msgspec.MsgspecError, RecursionError) as error:
            told = str(error) if isinstance(error, msgspec.ValidationError) else "it is not JSON"
            yield _error("input_error", f"This message cannot be read: {told}.")
        except BadRequest as error:
            yield _error("chunk_size_exceeded" if error.status == 413 else "input_error", error.message)

    def _taken(self, chunk: Chunk) -> Iterator[Action]:
        if chunk.sample_rate not in (None, self.sound.rate):
            raise BadRequest(
                f"The chunk's sample_rate is {chunk.sample_rate}, that of {self.form.audio_format} "
                f"is {self.sound.rate}; the chunk was not taken."
            )
        text = chunk.audio_base_64 or ""
        if len(text) > CHUNK_BYTES:
            raise BadRequest(
                f"A chunk has {len(text)} characters; at most {CHUNK_BYTES} are possible. It was not taken.",
                status=413,
            )
        content = self.sound.taken(text)
        yield from self._context(chunk.previous_text)
        if content:
            self.fresh += self.sound.seconds(content)
            yield Audio(content)
        if chunk.commit:
            yield self._commit()
        elif self.fresh >= MOST_S and not self.vad:
            yield self._flush()

    def _context(self, previous: str | None) -> Iterator[Action]:
        """Text that was said before; only the first chunk may bring it."""
        first, self.first = self.first, False
        if not previous:
            return
        if not first:
            yield _error("input_error", "`previous_text` goes with the first chunk only; it was not used.")
            return
        self.options = msgspec.structs.replace(self.options, prompt=previous[-CONTEXT:])
        yield Configure(self.options)

    def _commit(self) -> Action:
        if self.fresh >= LEAST_S:
            return self._flush()
        return _error(
            "commit_throttled",
            f"Commit request ignored: only {self.fresh:.2f}s of uncommitted audio. "
            f"You need at least {LEAST_S}s of uncommitted audio before committing.",
        )

    def _flush(self) -> Action:
        self.fresh = 0.0
        self.commits += 1
        return Flush(str(self.commits))

    def told(self, event: Event) -> Iterator[str | Hang]:
        """Tell an event as the vendor would, if it has a word for it."""
        match event:
            case SessionStarted():
                yield _message("session_started", session_id=event.session_id, config=config(self.form))
            case PartialTranscript():
                yield from self._partial(self.segment.text(event.text))
            case FinalTranscript():
                yield from self._final(event)
            case Flushed():
                self.answered += 1
                yield from self._committed()
            case SpeechStarted():
                yield from self._after_pause(event.at - LEAST_S)
            case Ack():
                yield from self._after_pause(event.audio - self.options.vad_silence_ms / 1000)
            case _:
                yield from self._news(event)

    def _news(self, event: Event) -> Iterator[str | Hang]:
        """What is not about words."""
        match event:
            case Lag() if (event.seconds > 0) != self.late:
                self.late = event.seconds > 0
                if self.late:
                    warning = f"Transcription is {event.seconds:.1f}s behind; nothing is lost."
                    yield _message("warning", warning=warning)
            case Trouble() if event.fatal:
                yield from _failure(event.code, event.status, event.message)
            case Trouble():
                yield _message("warning", warning=event.message)
            case SessionEnded():
                yield Hang()

    def _final(self, final: FinalTranscript) -> Iterator[str | Hang]:
        self.segment.finals.append(final)
        if self.vad and (final.cause in ("silence", "end") or self.segment.seconds >= MOST_S):
            if self.segment.text() or self.told_text:  # what nobody was told of need not be taken back
                yield from self._committed()
            self.segment = Pending()
        else:
            yield from self._partial(self.segment.text())

    def _after_pause(self, since: float) -> Iterator[str | Hang]:
        """Commit what an utterance's greatest length has cut off, when nobody has gone on speaking."""
        if self.vad and self.segment.finals and self.segment.finals[-1].end < since:
            yield from self._committed()

    def _partial(self, text: str) -> Iterator[str | Hang]:
        if text and text != self.told_text:
            self.told_text = text
            yield _message("partial_transcript", text=text)

    def _committed(self) -> Iterator[str | Hang]:
        segment, self.segment, self.told_text = self.segment, Pending(), ""
        text = segment.text()
        yield _message("committed_transcript", text=text)
        if not (self.form.include_timestamps or self.form.include_language_detection):
            return
        told: dict[str, Any] = {"text": text}
        language = segment.language or self.options.language
        if language:
            told["language_code"] = long(language)
        told["words"] = segment.words() if self.form.include_timestamps else None
        yield _message("committed_transcript_with_timestamps", **told)

    def failed(self, error: DalstonError) -> Iterable[str | Hang]:
        """Tell an error and hang up."""
        return _failure(error.code, error.status, error.message)


class Pending:
    """The utterances of a segment that is not committed."""

    def __init__(self) -> None:
        self.finals: list[FinalTranscript] = []

    @property
    def seconds(self) -> float:
        """From its first word to its last."""
        return self.finals[-1].end - self.finals[0].start if self.finals else 0.0

    @property
    def language(self) -> str | None:
        """ISO 639-1 of what was said last."""
        return next((one.language for one in reversed(self.finals) if one.language), None)

    def text(self, more: str = "") -> str:
        """Everything said, and what is being said."""
        return joined([*(one.text for one in self.finals), more.strip()], self.language)

    def words(self) -> list[dict[str, Any]] | None:
        """Words with spacing between them; None where they have no times."""
        timed = [one for one in self.finals if one.words is not None]
        if len(timed) < len(self.finals):
            return None
        segments = [Segment(one.start, one.end, one.text, avg_logprob=one.avg_logprob) for one in timed]
        words: list[Word] = []
        for number, one in enumerate(timed):
            own = list(one.words or ())
            if own and number and self.language in UNSPACED:
                own[0] = msgspec.structs.replace(own[0], text=own[0].text.lstrip())
            words += own
        told = words_of(Transcript(segments, words=words), "word")
        for word in told:
            if word["type"] == "spacing":
                del word["logprob"]  # nobody measured it
        return told


def _failure(code: str, status: int, message: str) -> Iterator[str | Hang]:
    usual = ("transcriber_error", 1011) if status >= 500 else ("invalid_request", 1008)
    name, close = ERRORS.get(code) or STATUSES.get(status) or usual
    yield _message(name, error=message)
    yield Hang(close, name)


def _error(name: str, message: str) -> Say:
    return Say(_message(name, error=message))


def _message(name: str, **fields: Any) -> str:
    return msgspec.json.encode({"message_type": name, **fields}).decode()
