"""What waits to be told to a client. A newer partial replaces one that nobody has taken yet."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

from dalston.live import Event, PartialTranscript, SessionEnded

MOST, STALLED_S = 2_000, 30.0
"""A client that leaves so many events, or one for so long, is not there."""


class Outbox:
    """The events of one connection; iterating ends with the session or when it is shut."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, Event]] = deque()
        self._news, self._shut, self._missed = asyncio.Event(), False, 0
        self.reason = ""
        """Why it was shut: `taken` by a later connection, `restart`, `stalled`; empty: with the session."""

    def put(self, event: Event, missed: bool = False) -> None:
        """Another event; `missed`: it is of a time before this connection."""
        if self._shut:
            return
        now = time.monotonic()
        last = self._events[-1][1] if self._events else None
        if isinstance(event, PartialTranscript) and isinstance(last, PartialTranscript):
            self._events.pop()
        self._events.append((now, event))
        self._missed += missed
        if len(self._events) > MOST + self._missed or now - self._events[0][0] > STALLED_S:
            self.shut("stalled")
        self._news.set()

    def shut(self, reason: str) -> None:
        """Tell nothing more."""
        self._shut, self.reason = True, self.reason or reason
        self._events.clear()
        self._news.set()

    @property
    def stalled(self) -> bool:
        """Whether nobody takes what waits."""
        return bool(self._events) and time.monotonic() - self._events[0][0] > STALLED_S

    async def events(self) -> AsyncIterator[Event]:
        """What there is to tell, as it comes."""
        while not self._shut:
            while self._events:
                _, event = self._events.popleft()
                yield event
                if isinstance(event, SessionEnded):
                    return
            self._news.clear()
            await self._news.wait()
