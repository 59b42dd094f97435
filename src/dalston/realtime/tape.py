"""What a session's client has sent and may have to be sent again, and what it asked for in between.

Places on it are bytes from the session's beginning. Audio that is dealt with is dropped, but for half a
second as context; a container is kept from its very beginning, for it cannot be read from anywhere else.
"""

from __future__ import annotations

import bisect
from collections import deque

from dalston_engine.live.protocol import SAMPLE_BYTES, Clear, Configure, End, Flush, Options
from msgspec import Struct

from dalston.errors import BadRequest
from dalston.live import LiveRequest

CONTEXT_S = 0.5
MOST_BYTES = 32 * 2**20
"""The most that is kept of one session."""
MOST_MARKS = 1000
"""What a client may ask for and have waiting."""
PIECE_BYTES = 32_768
"""The most audio that is sent to a worker in one message."""

Command = Configure | Flush | Clear | End


class Mark(Struct):
    """Something the client asked for, after all audio before this place."""

    number: int
    place: int
    command: Command


class Tape:
    """Audio and commands in their order."""

    def __init__(self, request: LiveRequest, start: float = 0.0) -> None:
        self.width = SAMPLE_BYTES.get(request.encoding, 1)
        self.rate = request.sample_rate if request.encoding in SAMPLE_BYTES else 0
        """Samples a second; 0: a container, of which nobody here knows what lasts how long."""
        self.options: Options = request.options
        """Those in force where the tape begins."""
        self.first = self.end = self._place(start)
        self.marks: deque[Mark] = deque()
        self.whole = True
        """False: the beginning of a container is lost, so that nobody else can read it."""
        self._audio, self._asked = bytearray(), 0

    def __len__(self) -> int:
        return len(self._audio)

    @property
    def start(self) -> float:
        """When what is kept begins, in seconds; of a container, 0."""
        return self.seconds(self.first)

    @property
    def full(self) -> bool:
        """Whether no more can be kept."""
        return bool(self.rate) and len(self._audio) >= MOST_BYTES

    def seconds(self, place: int) -> float:
        """When the audio from this place on was spoken; of a container, 0."""
        return place // self.width / self.rate if self.rate else 0.0

    def add(self, audio: bytes) -> None:
        """More audio."""
        self.end += len(audio)
        self._audio += audio
        self.whole = self.whole and (bool(self.rate) or len(self._audio) <= MOST_BYTES)

    def ask(self, command: Command) -> None:
        """Something to be done once everything so far has been heard; raises BadRequest for far too much."""
        last = self.marks[-1] if self.marks else Mark(0, -1, command)
        if last.place == self.end and isinstance(command, Configure) and isinstance(last.command, Configure):
            self.marks.pop()
        if len(self.marks) >= MOST_MARKS and not isinstance(command, End):
            raise BadRequest("Too many messages wait to be obeyed; send fewer.", code="bad_message")
        self._asked += 1
        self.marks.append(Mark(self._asked, self.end, command))

    def sent(self, place: int) -> None:
        """What lies before this place was sent; it is dropped where it could not be sent again anyway."""
        if not self.whole:
            del self._audio[: place - self.first]
            self.first = place

    def piece(self, place: int) -> bytes:
        """Audio from this place to the next mark after it at most."""
        end = min(place + PIECE_BYTES, self.end)
        after = bisect.bisect_right(self.marks, place, key=lambda mark: mark.place)
        if after < len(self.marks):
            end = min(end, self.marks[after].place)
        return bytes(self._audio[place - self.first : end - self.first])

    def heard(self, seconds: float) -> None:
        """Drop what lies before, but for its context: it is dealt with."""
        if not self.rate:
            return
        first = max(self.first, min(self._place(seconds - CONTEXT_S), self.end))
        del self._audio[: first - self.first]
        self.first = first
        while self.marks and self.marks[0].place <= first and isinstance(self.marks[0].command, Configure):
            command = self.marks.popleft().command
            self.options = command.options if isinstance(command, Configure) else self.options

    def flushed(self, id: str) -> None:
        """A flush, and whatever was to be forgotten before it, is done."""
        for mark in list(self.marks):
            if isinstance(mark.command, Flush | Clear):
                self.marks.remove(mark)
            if isinstance(mark.command, Flush) and mark.command.id == id:
                return

    def cleared(self, seconds: float) -> None:
        """All that was to be forgotten before this time is forgotten."""
        for mark in list(self.marks):
            if isinstance(mark.command, Clear) and self.rate and self.seconds(mark.place) <= seconds:
                self.marks.remove(mark)

    def _place(self, seconds: float) -> int:
        return max(0, round(seconds * self.rate)) * self.width
