"""One session at a worker: its audio, its utterances, and what is said of them, in order.

Runs in the server's thread. A pass that was asked for comes back through `resolve`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from dalston_engine.errors import DalstonError
from dalston_engine.live import protocol
from dalston_engine.live.audio import RATE, Samples, Tape
from dalston_engine.live.endpoints import (
    FRAME,
    Cause,
    Ended,
    Endpoints,
    Event,
    Paused,
    Resumed,
    Started,
    Utterance,
)
from dalston_engine.live.loop import Answer, Loop, Rank, Request
from dalston_engine.live.speech import Speech
from dalston_engine.live.voice import Voice
from dalston_engine.types import Transcript, Word

PARTIAL_S, PARTIAL_LOADED_S = 0.25, 1.0
"""New speech between two partials: of a worker with nothing else to do, and of a busy one."""
TIRED = 0.85
"""Passes take so much of the time that none is done which may be in vain."""
TOLD = RATE * 3
"""Silence between two `Settled`."""
ASLEEP_FRAMES = 3
"""Frames looked at in one go while nobody speaks."""
SURE = RATE * 2
"""Speech in which a language is surely detected."""
LAG_S, TELL_LAG_S, BEHIND_S = 1.0, 1.0, 30.0
"""What counts as late, how often that is told, how late a session may be before it is heard no further."""
PREVIOUS = 200
"""Characters of earlier text told to a pass."""


@dataclass
class Pending:
    """An utterance that is over and to be told, or what is told once all before it has been."""

    known: int
    """How much audio there was when its end was known."""
    utterance: Utterance | None = None
    request: Request | None = None
    answer: Transcript | None = None
    then: protocol.Report | None = None
    since: float = field(default_factory=time.monotonic)


class Stable:
    """The beginning of an utterance's text on which two successive passes agree; it never shrinks."""

    def __init__(self) -> None:
        self._last: list[str] = []
        self._agreed: list[str] = []

    def hear(self, text: str) -> tuple[str, str]:
        """What is stable by now, and the rest."""
        words, sure = text.split(), len(self._agreed)
        same = next((n for n, pair in enumerate(zip(words, self._last, strict=False)) if pair[0] != pair[1]),
                    min(len(words), len(self._last)))  # fmt: skip
        self._agreed += words[sure:same]
        self._last = words
        stable, rest = " ".join(self._agreed), " ".join(words[len(self._agreed) :])
        return stable, f" {rest}" if stable and rest else rest


class Session:
    """One attachment of a session."""

    def __init__(
        self,
        asked: protocol.Open,
        loop: Loop,
        voice: Voice,
        tell: Callable[[protocol.Report], None],
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        """`tell` sends a report; `call`, from any thread, has something called in the server's."""
        self.asked, self.options, self.loop, self._voice = asked, asked.options, loop, voice
        self._tell, self._call = tell, call
        start = round(asked.start * RATE)
        self.tape, self.points = Tape(start), Endpoints(asked.options, round(asked.heard * RATE))
        self._looked = -(-start // FRAME) * FRAME
        self._pending = deque[Pending]()
        self._request: Request | None = None
        self._pause: Request | None = None
        """What was asked for at the pause that lasts: all of the utterance, unless its speaker goes on."""
        self._guess: Transcript | None = None
        self._stable, self._asked_at = Stable(), 0
        self._settled = max(start, self.points.floor)
        self._language, self._previous = asked.options.language, asked.previous or ""
        self._lagging, self._lag_told = False, float("-inf")
        self.failed = False

    # What it is sent.

    def hear(self, samples: Samples) -> None:
        """More audio."""
        self.tape.add(samples)
        self._look(1 if self.points.now else ASLEEP_FRAMES)
        if self.points.now is not None:
            self._ask_partial()
        else:
            self._settle()
        self._tell_lag()

    def flush(self, then: protocol.Report, cause: Cause = "flush") -> None:
        """End what there is at once, and say so after all that was before."""
        self._look(1)
        if (utterance := self.points.flush(self.tape.end, cause)) is not None:
            if utterance.started:
                self._tell(protocol.SpeechEnded(utterance.end / RATE))
            self._end(utterance)
        self._pending.append(Pending(self.tape.end, then=then))
        self._advance()

    def configure(self, options: protocol.Options) -> None:
        """Other options from here on."""
        if options.language != self.options.language:
            self._language = options.language
        self.options = self.points.options = options

    def clear(self) -> None:
        """Forget what is not final yet."""
        self._look(1)
        self.loop.forget(self)
        self._renew()
        self.points.clear(self.tape.end)
        self._pending = deque(one for one in self._pending if one.then is not None)
        self._pending.append(Pending(self.tape.end, then=protocol.Settled(self.tape.end / RATE)))
        self._settled = self.tape.end
        self._advance()

    def close(self) -> None:
        """Nobody listens any more."""
        self.failed = True
        self.loop.forget(self)
        self._pending.clear()

    @property
    def seconds(self) -> float:
        """Where its audio ends."""
        return self.tape.end / RATE

    @property
    def lag(self) -> float:
        """Seconds of audio that came since the end of the oldest utterance that waits was known."""
        return (self.tape.end - self._pending[0].known) / RATE if self._pending else 0.0

    # Following speech.

    def _look(self, least: int) -> None:
        count = (self.tape.end - self._looked) // FRAME
        if count < least:
            return
        frames = self.tape.view(self._looked, self._looked + count * FRAME)
        at = self._looked
        for probability, loudness in zip(*self._voice.probabilities(frames), strict=True):
            for event in self.points.hear(at, float(probability), float(loudness)):
                self._on(event)
            at += FRAME
            self._looked = at
        now = self.points.now
        self.tape.drop(min(now.begin if now else at - self.points.padding, at) - FRAME)

    def _on(self, event: Event) -> None:
        match event:
            case Started(at):
                self._tell(protocol.SpeechStarted(at / RATE))
                self._renew()
            case Paused():
                self._speculate()
            case Resumed():
                self._guess = self._pause = None
                if (
                    self._request is not None
                    and self._request.speech.final
                    and self.loop.withdraw(self._request)
                ):
                    self._request = None
            case Ended(utterance):
                if utterance.cause == "silence":
                    self._tell(protocol.SpeechEnded(utterance.end / RATE))
                self._end(utterance)

    def _renew(self) -> None:
        """Another utterance: what was asked for the last one is of no use."""
        self._request, self._pause, self._guess = None, None, None
        self._stable, self._asked_at = Stable(), 0

    def _settle(self) -> None:
        """Tell now and then that silence is dealt with."""
        at = max(self._looked - self.points.padding, self.points.floor)
        if at - self._settled >= TOLD and not self._pending:
            self._settled = at
            self._tell(protocol.Settled(at / RATE))

    def _tell_lag(self) -> None:
        lag, now = self.lag, time.monotonic()
        late = lag > LAG_S
        if (late and now - self._lag_told > TELL_LAG_S) or (self._lagging and not late):
            self._lagging, self._lag_told = late, now
            self._tell(protocol.Lag(lag if late else 0.0))

    # Asking for passes.

    def _ask_partial(self) -> None:
        now = self.points.now
        if now is None or not now.started or not self.options.partials or self.points.paused:
            return
        if self._pending or (self._request and self._request.begun):
            return
        busy = self.loop.meter.busy()
        wait = PARTIAL_S + (PARTIAL_LOADED_S - PARTIAL_S) * min(max(busy - 0.3, 0) / 0.5, 1)
        if self._looked - max(self._asked_at, now.onset) >= wait * RATE:
            self._asked_at = self._looked
            self._request = self._submit(now.begin, self._looked, Rank.PARTIAL)

    def _speculate(self) -> None:
        if self._request is not None and self.loop.withdraw(self._request):
            self._request = None
        if (now := self.points.now) is not None and self.loop.meter.busy() < TIRED:
            self._request = self._pause = self._submit(now.begin, self._looked + FRAME, Rank.PAUSE)

    def _end(self, utterance: Utterance) -> None:
        """An utterance is over: its final is there, on its way, or asked for now."""
        pending = Pending(self.tape.end, utterance)
        request, guess = self._request, self._guess
        whole = utterance.cause != "length" and self.points.now is None
        if guess is not None and whole:
            pending.answer = guess
        elif request is not None and request is self._pause and whole:
            pending.request = request
            request.rank = Rank.FINAL
        else:
            if request is not None:
                self.loop.withdraw(request)
            pending.request = self._submit(utterance.begin, utterance.stop, Rank.FINAL)
        self._pending.append(pending)
        self._renew()
        self._advance()

    def _submit(self, begin: int, end: int, rank: Rank) -> Request:
        options, final = self.options, rank != Rank.PARTIAL
        speech = Speech(self.tape.cut(begin, end), final, self._language, final and options.word_timestamps,
                        options.prompt, options.keyterms, self._previous or None)  # fmt: skip
        request = Request(self, self.asked.model, speech, rank, lambda answer: None)
        request.done = partial(self._done, request, begin, end)
        self.loop.submit(request)
        return request

    # What comes of them.

    def _done(self, request: Request, begin: int, end: int, answer: Answer) -> None:
        self._call(partial(self.resolve, request, begin, end, answer))

    def resolve(self, request: Request, begin: int, end: int, answer: Answer) -> None:
        """A pass is done."""
        if self.failed:
            return
        pending = next((one for one in self._pending if one.request is request), None)
        mine = request is self._request
        self._request = None if mine else self._request
        if isinstance(answer, Exception):
            if pending is not None:
                self._fail(answer)
            return
        if pending is not None:
            pending.answer = answer
            self._advance()
        elif mine:
            if request is self._pause:
                self._guess = answer
            self._tell_partial(begin, end, answer)

    def _tell_partial(self, begin: int, end: int, answer: Transcript) -> None:
        now, text = self.points.now, _text(answer)
        if not self.options.partials or self._pending or now is None or not now.started or not text:
            return
        self.loop.meter.counts["partials"] += 1
        self._tell(
            protocol.Partial(now.onset / RATE, min(end, self.tape.end) / RATE, *self._stable.hear(text))
        )

    def _advance(self) -> None:
        """Tell, in order, all that is ready."""
        while self._pending and not self.failed:
            first = self._pending[0]
            if first.then is None and first.answer is None:
                break
            self._pending.popleft()
            if first.then is not None:
                self._tell(first.then)
            elif first.utterance is not None and first.answer is not None:
                self._tell_final(first, first.utterance, first.answer)
        if self._lagging:
            self._tell_lag()

    def _tell_final(self, pending: Pending, utterance: Utterance, answer: Transcript) -> None:
        text, begin = _text(answer), utterance.begin / RATE
        self._learn(utterance, answer, text)
        if not text and not utterance.started:
            return
        if not utterance.started:
            self._tell(protocol.SpeechStarted(utterance.onset / RATE))
            self._tell(protocol.SpeechEnded(utterance.end / RATE))
        words = [_shifted(word, begin) for word in answer.words] if answer.words is not None else None
        spoken = [s for s in answer.segments if s.avg_logprob is not None]
        length = sum(len(s.text) for s in spoken)
        logprob = sum((s.avg_logprob or 0) * len(s.text) for s in spoken) / length if length else None
        waited = time.monotonic() - pending.since
        self.loop.meter.waits.append((time.monotonic(), waited))
        self.loop.meter.counts["finals"] += 1
        self._settled = max(self._settled, utterance.upto)
        self._tell(protocol.Final(
            utterance.onset / RATE, utterance.end / RATE, text, utterance.upto / RATE, utterance.cause, words,
            answer.language, answer.language_probability, logprob, waited,
        ))  # fmt: skip

    def _learn(self, utterance: Utterance, answer: Transcript, text: str) -> None:
        if text:
            self._previous = f"{self._previous} {text}"[-PREVIOUS:].strip()
            sure = utterance.end - utterance.onset >= SURE
            if self._language is None and answer.language and sure:
                self._language = answer.language

    def _fail(self, error: Exception) -> None:
        told = error if isinstance(error, DalstonError) else None
        message = told.message if told else f"The engine failed on this audio: {type(error).__name__}."
        status, code = (told.status, told.code) if told else (500, "engine_error")
        self._tell(protocol.Failed(code, message, status, told.retryable if told else True))
        self.close()


def _text(answer: Transcript) -> str:
    return "".join(segment.text for segment in answer.segments).strip()


def _shifted(word: Word, by: float) -> Word:
    return replace(word, start=word.start + by, end=word.end + by)
