"""What a session sends, as samples: mono float32 at 16 kHz, in order, none lost and none made up."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from dalston_engine.live.protocol import SAMPLE_BYTES

RATE = 16_000
Samples = Any
"""A numpy array of float32, -1 to 1."""


class Input:
    """Turns messages of raw samples into 16 kHz ones; where messages are cut does not matter."""

    def __init__(self, encoding: str, rate: int) -> None:
        self._encoding, self._rate, self._size = encoding, rate, SAMPLE_BYTES[encoding]
        self._rest = b""
        self._given = self._taken = 0
        self._resampler = self._fresh()

    @property
    def seconds(self) -> float:
        """How much audio was given."""
        return self._given / self._rate

    def samples(self, content: bytes) -> Samples:
        """What can be heard by now."""
        if self._rest:
            content = self._rest + content
        whole = len(content) - len(content) % self._size
        content, self._rest = content[:whole], content[whole:]
        decoded = _decoded(self._encoding, content)
        self._given += len(decoded)
        if self._resampler is None:
            return decoded
        return self._count(self._resampler.resample_chunk(decoded))

    def flush(self) -> Samples:
        """The last samples, which the resampler holds back for those that may follow."""
        if self._resampler is None:
            return np.empty(0, np.float32)
        last = self._resampler.resample_chunk(np.empty(0, np.float32), last=True)
        self._resampler = self._fresh()
        due = max(round(self._given * RATE / self._rate) - self._taken, 0)
        return self._count(np.pad(last[:due], (0, max(due - len(last), 0))))

    def _count(self, samples: Samples) -> Samples:
        self._taken += len(samples)
        return samples

    def _fresh(self) -> Any:
        if self._rate == RATE:
            return None
        import soxr

        return soxr.ResampleStream(self._rate, RATE, 1, dtype="float32")


def _decoded(encoding: str, content: bytes) -> Samples:
    if encoding == "pcm_s16le":
        return np.frombuffer(content, "<i2").astype(np.float32) / 32768
    if encoding == "pcm_f32le":
        return np.nan_to_num(np.frombuffer(content, "<f4"), nan=0, posinf=0, neginf=0).clip(-1, 1)
    return _table(encoding)[np.frombuffer(content, np.uint8)]


@cache
def _table(encoding: str) -> Samples:
    """The value of each byte of a companded encoding (G.711)."""
    code = np.arange(256)
    if encoding == "mulaw":
        code = ~code & 0xFF
        size = (((code & 0x0F) << 3) + 0x84 << ((code >> 4) & 7)) - 0x84
        return (np.where(code & 0x80, -size, size) / 32768).astype(np.float32)
    code = code ^ 0x55
    shift, size = (code >> 4) & 7, ((code & 0x0F) << 4) + 8
    size = np.where(shift > 0, size + 0x100 << np.maximum(shift - 1, 0), size)
    return (np.where(code & 0x80, size, -size) / 32768).astype(np.float32)


class Tape:
    """The samples that may still be needed; the rest is dropped, so it stays small however long it runs."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self._store = np.empty(4 * RATE, np.float32)
        self._first = 0

    def add(self, samples: Samples) -> None:
        """Append."""
        held, more = self.end - self.start, len(samples)
        if self._first + held + more > len(self._store):
            room = self._store
            if held + more > len(room) // 2 or len(room) > 4 * (held + more) + 16 * RATE:
                room = np.empty(max(2 * (held + more), 4 * RATE), np.float32)
            room[:held] = self._store[self._first : self._first + held]
            self._store, self._first = room, 0
        self._store[self._first + held : self._first + held + more] = samples
        self.end += more

    def drop(self, before: int) -> None:
        """Nothing before this sample is needed."""
        step = min(before, self.end) - self.start
        if step > 0:
            self.start += step
            self._first += step

    def cut(self, start: int, end: int) -> Samples:
        """A copy of what lies between, as far as it is there."""
        return self.view(start, end).copy()

    def view(self, start: int, end: int) -> Samples:
        """The same, good until the next `add`."""
        first, last = (min(max(at, self.start), self.end) - self.start + self._first for at in (start, end))
        return self._store[first:last]
