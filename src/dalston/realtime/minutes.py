"""What is written down of a session: its finals, and if asked for its audio."""

from __future__ import annotations

import asyncio
import logging
import time

from dalston.live import FinalTranscript, LiveRequest, joined
from dalston.store.keeping import Keeping, Recording, transcript

log = logging.getLogger("dalston.realtime")

WRITTEN_BYTES = 65_536
"""Audio is written in pieces of this length."""


class Minutes:
    """The minutes of one session."""

    def __init__(
        self, keeping: Keeping, id: str, owner: str, request: LiveRequest, created: float, longest: int
    ) -> None:
        """`longest`: of its recording, in bytes."""
        self.finals: list[FinalTranscript] = []
        self.text = ""
        """The end of what was said."""
        self._keeping, self._id, self._owner, self._request = keeping, id, owner, request
        self._created, self._longest = created, longest
        self._recording = Recording(keeping, id, request) if request.record and request.keep else None
        self._audio, self._place = bytearray(), 0

    def add(self, final: FinalTranscript) -> None:
        """Another final."""
        self.finals.append(final)
        self.text = joined((self.text, final.text), final.language)[-1000:]

    async def record(self, content: bytes, place: int) -> bool:
        """Write audio that begins `place` bytes after the session; False: it cannot be any more."""
        if self._recording is None:
            return True
        if place + len(content) > self._longest:
            await self.close()
            self._recording = None
            return False
        if place != self._place + len(self._audio):
            await self._write()
            self._place = place
        self._audio += content
        return len(self._audio) < WRITTEN_BYTES or await self._write()

    async def close(self) -> None:
        """Write what was recorded."""
        if self._recording is not None and await self._write():
            try:
                await asyncio.to_thread(self._recording.close)
            except OSError as error:
                log.error("the recording of session %s cannot be synced: %s", self._id, error.strerror)

    async def finish(self, cause: str, model: str, duration: float | None) -> bool:
        """Write all that is to be kept; False when that has to be tried again later."""
        await self.close()
        if not self._request.keep:
            return True
        told = transcript(self._id, "ended", self._owner, self._created, model, self._request, self.finals)
        told.cause, told.duration, told.finished_at = cause, duration, round(time.time(), 3)
        try:
            await asyncio.to_thread(self._keeping.write, told)
        except OSError as error:
            log.error("session %s cannot be written, left to upkeep: %s", self._id, error.strerror)
            return False
        return True

    async def _write(self) -> bool:
        recording, audio = self._recording, bytes(self._audio)
        if recording is None or not audio:
            return recording is not None
        place = self._place
        self._place += len(audio)
        self._audio.clear()
        try:
            await asyncio.to_thread(recording.write, audio, place)
        except OSError as error:
            log.error("session %s cannot be recorded any more: %s", self._id, error.strerror)
            self._recording = None
            return False
        return True
