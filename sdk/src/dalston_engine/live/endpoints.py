"""Where utterances begin and end, told from the probability of speech in each frame. Audio time only.

Positions are samples of the session. What was said about an utterance covers all audio before its `upto`:
the next one, its pre-roll included, begins there or later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dalston_engine.live.protocol import Options

RATE, FRAME = 16_000, 512
HYSTERESIS = 0.15
PAUSE = 15 * RATE // 100
"""Silence that may be the end."""
BLIP = 10 * RATE // 100
"""Silence after which a sound that was too short is forgotten."""
LONG = 14 * RATE
"""An utterance as long as this is cut while its speaker goes on."""
LULL = 4
"""Frames in the quietest moment of an utterance, where it is cut."""
Cause = Literal["silence", "length", "flush", "end"]


@dataclass
class Utterance:
    """Speech, as far as it is known."""

    begin: int
    """What is heard begins here: a while before the speech."""
    onset: int
    end: int = 0
    """Where the speech ended, or is by now."""
    stop: int = 0
    """What is heard ends here."""
    upto: int = 0
    cause: Cause = "silence"
    started: bool = False
    """Whether it is surely speech, and not too short a sound."""


@dataclass
class Started:
    """Somebody speaks."""

    at: int


@dataclass
class Paused:
    """He is silent for a moment."""


@dataclass
class Resumed:
    """He goes on."""


@dataclass
class Ended:
    """An utterance is over; after the cause `length` the next one has begun."""

    utterance: Utterance


Event = Started | Paused | Resumed | Ended


class Endpoints:
    """Follows one session."""

    def __init__(self, options: Options, heard: int = 0) -> None:
        self.options, self.floor = options, heard
        self.now: Utterance | None = None
        """The utterance at hand, or a sound that may become one."""
        self.paused = False
        self._silent: int | None = None
        self._carry = False
        """Whether speech was going on where the last utterance was cut off."""
        self._frames: list[tuple[float, float]] = []

    @property
    def padding(self) -> int:
        """Samples heard around speech."""
        return self.options.vad_padding_ms * RATE // 1000

    def hear(self, at: int, probability: float, loudness: float) -> list[Event]:
        """What one frame, beginning `at`, changes."""
        voiced, now = probability >= self.options.vad_threshold, self.now
        if now is None:
            if at < self.floor:
                self._carry = voiced
                return []
            carried, self._carry = self._carry, False
            if not voiced:
                return []
            onset = self.floor if carried else at
            now = self.now = Utterance(max(onset - self.padding, self.floor), onset)
            self._begin(onset)
            if carried:
                now.end, now.started = at + FRAME, True
                self._frames.append((probability, loudness))
                return [Started(onset)]
        self._frames.append((probability, loudness))
        events = self._voice(now, at) if voiced else self._silence(now, at, probability)
        if self.now is now and now.started and now.end - now.begin >= LONG:
            events.append(Ended(self._cut(now)))
        return events

    def flush(self, at: int, cause: Cause) -> Utterance | None:
        """End whatever there is at this sample; None: there is nothing."""
        now = self.now
        if now is not None:
            silent = self._silent is not None
            now.end = now.end if silent else at
            now.stop, now.upto, now.cause = min(at, now.end + self.padding), at, cause
            self._carry = now.started and not silent
            self._forget()
        self.floor = at
        return now

    def clear(self, at: int) -> None:
        """Forget what there is."""
        self._forget()
        self._carry, self.floor = False, at

    def _begin(self, at: int) -> None:
        self._silent, self.paused, self._frames = None, False, []

    def _forget(self) -> None:
        self.now, self._silent, self.paused, self._frames = None, None, False, []

    def _voice(self, now: Utterance, at: int) -> list[Event]:
        events: list[Event] = [Resumed()] if self.paused else []
        self._silent, self.paused, now.end = None, False, at + FRAME
        if not now.started and now.end - now.onset >= self.options.vad_min_speech_ms * RATE // 1000:
            now.started = True
            events.append(Started(now.onset))
        return events

    def _silence(self, now: Utterance, at: int, probability: float) -> list[Event]:
        if self._silent is None:
            threshold = self.options.vad_threshold
            if probability >= max(threshold - HYSTERESIS, threshold / 2):
                now.end = at + FRAME
                return []
            self._silent = at
        quiet = at + FRAME - self._silent
        if not now.started:
            if quiet >= BLIP:
                self._forget()
        elif quiet >= self.options.vad_silence_ms * RATE // 1000:
            now.stop = now.upto = self.floor = min(at + FRAME, now.end + self.padding)
            self._forget()
            return [Ended(now)]
        elif quiet >= PAUSE and not self.paused:
            self.paused = True
            return [Paused()]
        return []

    def _cut(self, now: Utterance) -> Utterance:
        """End a long utterance in its quietest moment of late; the rest of it is the next one."""
        last = len(self._frames) - LULL
        first = max(2 * len(self._frames) // 3, 1)
        loudest = max(loudness for _, loudness in self._frames) or 1.0
        scores = [p + loudness / loudest for p, loudness in self._frames]
        place = min(range(first, last), key=lambda n: sum(scores[n : n + LULL])) + LULL // 2
        cut = now.end - (len(self._frames) - place) * FRAME
        threshold = self.options.vad_threshold
        voiced = next((n for n in range(place - 1, 0, -1) if self._frames[n][0] >= threshold), 0)
        end = cut - (place - 1 - voiced) * FRAME
        whole = Utterance(now.begin, now.onset, end, min(cut, end + self.padding), cut, "length", True)
        self.now, self.floor = Utterance(cut, cut, now.end, started=True), cut
        self._frames = self._frames[place:]
        return whole
