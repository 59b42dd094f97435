"""The conversation of `WS /v1/realtime`: transcription only, in today's shape and in the beta's.

A turn becomes an item when it is committed: by the silence that ends it, or by the client. What the workers
make final goes to the first item that waits for its transcript, else to the one that is still open.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from dalston_engine.errors import DalstonError
from msgspec import Struct

from dalston.dialects.base import Fields, Names
from dalston.dialects.hearing import Sound
from dalston.dialects.openai.errors import error as told_error
from dalston.dialects.openai.items import Item
from dalston.dialects.openai.live_form import STREAMING, Settings, read
from dalston.errors import BadField, BadRequest
from dalston.live import (
    Ack,
    Action,
    Audio,
    Begin,
    Clear,
    Configure,
    Event,
    FinalTranscript,
    Flush,
    Flushed,
    Hang,
    PartialTranscript,
    Say,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
    Trouble,
)

LEAST_S = 0.1
"""Seconds of audio that a commit must have."""
SLACK_S = 0.02
"""How far two clocks may differ that count samples of different rates."""
CHUNK_BYTES = 15_728_640
"""The longest base64 text of an append."""
PROTOCOL, KEY, BETA = "realtime", "openai-insecure-api-key.", "openai-beta.realtime-v1"
"""The subprotocols that a browser offers; one of them brings its key."""


class Message(Struct):
    """What a client sends."""

    type: str
    event_id: str | None = None
    session: msgspec.Raw = msgspec.Raw(b"{}")
    audio: str = ""


class LiveTalk:
    """One client's conversation."""

    def __init__(
        self, query: Fields, headers: Mapping[str, str], names: Names, preset: dict[str, Any] | None = None
    ) -> None:
        """`preset`: the settings that an ephemeral key brings, as an update has them."""
        offered = [one.strip() for one in headers.get("sec-websocket-protocol", "").split(",")]
        self.protocol = PROTOCOL if PROTOCOL in offered else None
        self.accepting = self.protocol is not None
        self.beta = "realtime=v1" in headers.get("openai-beta", "") or BETA in offered
        self.names, self.id = names, new_id("sess")
        self.settings = Settings().updated(_preset(query) if preset is None else preset)
        self.sound: Sound | None = None
        self.open, self.waiting = Item(), deque[Item]()
        self.last: str | None = None
        self.audio, self.fresh, self.floor, self.goes_on = 0.0, 0.0, 0.0, False

    @property
    def owing(self) -> bool:
        """Whether what its client has committed is not transcribed yet."""
        return any(one.flush is not None for one in self.waiting)

    def began(self) -> Iterator[Action]:
        """Greet; the session opens with its first audio, when its settings are known."""
        yield Say(self._of_session("created"))

    def heard(self, message: str | bytes) -> Iterator[Action]:
        """Do what an event asks for, or say why not."""
        event = None
        try:
            told = msgspec.json.decode(message, type=Message)
            event = told.event_id
            yield from self._done(told)
        except (msgspec.MsgspecError, RecursionError) as error:
            why = str(error) if isinstance(error, msgspec.ValidationError) else "it is not JSON"
            yield Say(_error(BadRequest(f"This event cannot be read: {why}.", code="invalid_event"), event))
        except BadRequest as error:
            yield Say(_error(error, event))

    def _done(self, told: Message) -> Iterator[Action]:
        match told.type:
            case "input_audio_buffer.append":
                yield from self._append(told.audio)
            case "input_audio_buffer.commit":
                yield from self._commit()
            case "input_audio_buffer.clear":
                yield from self._clear()
            case "session.update":
                yield from self._update(told.session, False)
            case "transcription_session.update":
                yield from self._update(told.session, True)
            case _:
                message = (
                    f"There is no `{told.type[:60]}` here: this server transcribes and does not converse."
                )
                raise BadField("type", message, code="unsupported_event", status=400)

    def _update(self, told: msgspec.Raw, beta: bool) -> Iterator[Action]:
        session = msgspec.json.decode(told)
        names = session if isinstance(session, dict) else {}
        beta = beta or any(name.startswith("input_audio_") for name in names)
        new = self.settings.updated(read(session, beta))
        if self.sound is not None:
            self._fixed("format", self.settings.format, new.format)
            self._fixed(
                "transcription.model", self.settings.transcription["model"], new.transcription["model"]
            )
            if new.options() != self.settings.options():
                yield Configure(new.options())
        self.settings, self.beta = new, beta
        yield Say(self._of_session("updated"))

    def _fixed(self, name: str, old: Any, new: Any) -> None:
        if old != new:
            raise BadField(name, f"`{name}` cannot change once audio has come; open another connection.",
                           code="cannot_update", status=400)  # fmt: skip

    def _append(self, text: str) -> Iterator[Action]:
        if len(text) > CHUNK_BYTES:
            raise BadField("audio", f"At most {CHUNK_BYTES} characters can be appended at once.",
                           code="invalid_value", status=400)  # fmt: skip
        sound = self.sound
        if sound is None:
            request = self.settings.request(self.names)
            sound = Sound(request.encoding, request.sample_rate)
            content = sound.taken(text)
            self.sound = sound
            yield Begin(request)
        else:
            content = sound.taken(text)
        if content:
            self.audio += sound.seconds(content)
            self.fresh += sound.seconds(content)
            yield Audio(content)

    def _commit(self) -> Iterator[Action]:
        if self.fresh < LEAST_S:
            raise BadRequest(
                f"Error committing input audio buffer: it has {self.fresh * 1000:.0f}ms of audio, "
                f"expected at least {LEAST_S * 1000:.0f}ms.",
                code="input_audio_buffer_commit_empty",
            )
        item = self.open
        item.flush, item.until, item.seconds, self.fresh = new_id("flush"), self.audio, self.fresh, 0.0
        yield Flush(item.flush)
        for one in self._committed(item):
            yield Say(one)

    def _clear(self) -> Iterator[Action]:
        """Forget what is not committed; what is keeps being transcribed, which `Clear` alone would stop."""
        item, self.open, self.fresh = self.open, Item(), 0.0
        if self.waiting:
            item.flush, item.until, item.dropped = new_id("flush"), self.audio, True
            self.waiting.append(item)
            yield Flush(item.flush)
        elif self.sound is not None:
            self.floor = self.audio
            yield Clear()
        yield Say(_event("input_audio_buffer.cleared"))

    def told(self, event: Event) -> Iterator[str | Hang]:
        """Tell an event as the vendor would, if it has a word for it."""
        self.goes_on = True
        match event:
            case PartialTranscript() if event.start > self.floor - SLACK_S:
                yield from self._delta(self._at(event.start), event.stable)
            case FinalTranscript() if event.start > self.floor - SLACK_S:
                yield from self._final(event)
            case Flushed():
                yield from self._flushed(event.id)
            case SpeechStarted() | SpeechEnded() | Ack() if self.settings.turns is not None:
                yield from self._turn(event)
            case Trouble():
                yield from self._trouble(event)
            case SessionEnded():
                yield Hang()

    def failed(self, error: DalstonError) -> Iterator[str | Hang]:
        """Tell an error, and hang up unless a session goes on."""
        yield _error(error)
        if not self.goes_on:
            yield Hang(_close(error.status), error.code)

    # Items.

    def _at(self, start: float) -> Item:
        """The item of what begins at a moment."""
        return next((one for one in self.waiting if start < one.until - SLACK_S), self.open)

    def _ended_at(self, end: float) -> Item:
        """The item of what ends at a moment."""
        return next((one for one in self.waiting if end < one.until + SLACK_S), self.open)

    def _turn(self, event: SpeechStarted | SpeechEnded | Ack) -> Iterator[str | Hang]:
        if isinstance(event, SpeechEnded):
            item = self._ended_at(event.at)
            if event.at < self.floor + SLACK_S:
                return
            yield from self._stopped(item, event.at)
            if item is self.open:
                yield from self._committed(item)
            return
        # What an utterance's greatest length has cut off ends here when nobody has gone on speaking.
        at = event.at if isinstance(event, SpeechStarted) else event.audio
        pause = self.settings.options().vad_silence_ms / 1000
        if self.open.finals and self.open.finals[-1].end + pause < at:
            yield from self._completed_open()
        if isinstance(event, SpeechStarted) and at > self.floor - SLACK_S:
            yield from self._started(self._at(at), at)

    def _final(self, final: FinalTranscript) -> Iterator[str | Hang]:
        while self.waiting and self.waiting[0].flush is None and final.start >= self.waiting[0].until:
            yield from self._completed(self.waiting.popleft())  # it was cleared before it was final
        item = self.waiting[0] if self.waiting else self.open
        item.finals.append(final)
        if item is self.open and self.settings.turns is not None and final.cause != "length":
            yield from self._completed_open()
        elif item.committed and item.flush is None and final.cause != "length":
            yield from self._completed(self.waiting.popleft())
        else:
            yield from self._delta(item)

    def _flushed(self, id: str) -> Iterator[str | Hang]:
        while any(one.flush == id for one in self.waiting):
            yield from self._completed(self.waiting.popleft())

    def _completed_open(self) -> Iterator[str | Hang]:
        """A turn that has its transcript before its end was told."""
        item = self.open
        yield from self._started(item, item.finals[0].start)
        yield from self._stopped(item, item.finals[-1].end)
        yield from self._committed(item)
        self.waiting.remove(item)
        yield from self._completed(item)

    def _started(self, item: Item, at: float) -> Iterator[str]:
        if item.start is None and not item.dropped:
            item.start = at
            yield _event("input_audio_buffer.speech_started", audio_start_ms=_ms(at), item_id=item.id)

    def _stopped(self, item: Item, at: float) -> Iterator[str]:
        yield from self._started(item, at)
        if item.end is None and not item.dropped:
            item.end, item.until = at, item.until or at
            yield _event("input_audio_buffer.speech_stopped", audio_end_ms=_ms(at), item_id=item.id)

    def _committed(self, item: Item) -> Iterator[str]:
        """Close the open item: it waits for its transcript."""
        previous, self.last = self.last, item.id
        item.committed = True
        self.waiting.append(item)
        self.open = Item()
        if item.flush is None:
            self.fresh = 0.0
        yield _event("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        for name in ("created",) if self.beta else ("added", "done"):
            yield _event(f"conversation.item.{name}", previous_item_id=previous, item=item.told())

    def _delta(self, item: Item, more: str = "") -> Iterator[str]:
        """What the text has grown by; words are not taken back."""
        text = item.text(more)
        told = (item.committed or self.settings.eager) and not item.dropped
        if told and (new := item.growth(text)):
            yield _transcription("delta", item, delta=new)

    def _completed(self, item: Item) -> Iterator[str]:
        if item.dropped:
            return
        yield from self._delta(item)
        told: dict[str, Any] = {
            "transcript": item.text(),
            "usage": {"type": "duration", "seconds": item.length()},
        }
        if self.settings.include and (logprobs := item.logprobs()):
            told["logprobs"] = logprobs
        if languages := item.detected():
            told["languages"] = languages
        yield _transcription("completed", item, **told)

    def _trouble(self, trouble: Trouble) -> Iterator[str | Hang]:
        error = DalstonError(trouble.message, code=trouble.code, status=trouble.status)
        if not trouble.fatal:
            yield _error(error)
            return
        for item in self.waiting:
            if not item.dropped:
                yield _transcription("failed", item, error=_inner(error))
        self.goes_on = False
        yield from self.failed(error)

    def _of_session(self, what: str) -> str:
        told = self.settings.told_beta(self.id) if self.beta else self.settings.told(self.id)
        return _event(f"{'transcription_session' if self.beta else 'session'}.{what}", session=told)


def _preset(query: Fields) -> dict[str, Any]:
    """A model in the query is the one that transcribes, unless it is one of the vendor's that converse."""
    model = next(iter(query.get("model", ())), "")
    converses = "realtime" in model and model not in STREAMING
    return {"transcription": {"model": model}} if model and not converses else {}


def _transcription(name: str, item: Item, **fields: Any) -> str:
    kind = f"conversation.item.input_audio_transcription.{name}"
    return _event(kind, item_id=item.id, content_index=0, **fields)


def _event(type: str, **fields: Any) -> str:
    return msgspec.json.encode({"event_id": new_id("event"), "type": type, **fields}).decode()


def _error(error: DalstonError, event: str | None = None) -> str:
    return _event("error", error=_inner(error) | {"event_id": event})


def _inner(error: DalstonError) -> dict[str, Any]:
    inner: dict[str, Any] = msgspec.json.decode(told_error(error, "").content)["error"]
    return inner


def _close(status: int) -> int:
    return 1013 if status in (429, 503) else 1011 if status >= 500 else 1008


def new_id(kind: str) -> str:
    """An id as the vendor's look."""
    return f"{kind}_{secrets.token_hex(10)}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
