"""What stays of live sessions, in the data folder.

sessions/{session}/transcript.json  what was said, written when the session has ended
sessions/{session}/audio.*          what was sent, when asked for: .wav of samples, else the file as it came
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from dalston_engine.live.protocol import SAMPLE_BYTES
from dalston_engine.types import Word
from msgspec import Struct

from dalston.live import FinalTranscript, LiveRequest, joined
from dalston.store.durable import sync, write
from dalston.store.files import is_id

WAV_FORMATS = {"pcm_s16le": 1, "pcm_f32le": 3, "alaw": 6, "mulaw": 7}
_MARKS = {b"OggS": ".ogg", b"\x1a\x45\xdf\xa3": ".webm", b"fLaC": ".flac", b"ID3": ".mp3", b"\xff": ".mp3",
          b"RIFF": ".wav"}  # fmt: skip
_HEADER = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")


class LiveSegment(Struct):
    """One utterance."""

    start: float
    end: float
    text: str


class LiveTranscript(Struct, omit_defaults=True):
    """A live session and what was said in it so far."""

    id: str
    state: str
    """active, detached (its client may come back) or ended."""
    owner: str
    created_at: float
    model: str
    text: str
    segments: list[LiveSegment]
    words: list[Word] | None = None
    """When their times were asked for."""
    language: str | None = None
    """As asked for, or as detected first."""
    duration: float | None = None
    """Seconds of audio; absent where nobody was left to tell."""
    cause: str | None = None
    """How it ended: ended by its client, failed, vanished."""
    finished_at: float | None = None
    recording: str | None = None
    """The name of the recording's file, when there is one."""


def transcript(
    id: str, state: str, owner: str, created_at: float, model: str, request: LiveRequest,
    finals: Sequence[FinalTranscript],
) -> LiveTranscript:  # fmt: skip
    """What finals say together."""
    said = [final for final in finals if final.text]
    words = (
        [word for final in said for word in final.words or ()] if request.options.word_timestamps else None
    )
    language = request.options.language or next((final.language for final in said if final.language), None)
    return LiveTranscript(
        id,
        state,
        owner,
        created_at,
        model,
        joined((final.text for final in said), language),
        [LiveSegment(final.start, final.end, final.text) for final in said],
        words,
        language,
    )


class Keeping:
    """The live sessions of one data folder; ids are checked, everything else may raise OSError."""

    def __init__(self, data: Path) -> None:
        self.folder, self.trash = data / "sessions", data / "trash"
        for folder in (self.folder, self.trash):
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, told: LiveTranscript) -> None:
        """Make a session's transcript durable."""
        folder = self.folder / told.id
        folder.mkdir(exist_ok=True)
        audio = self.recording(told.id)
        told.recording = audio.name if audio else None
        write(folder, {"transcript.json": msgspec.json.encode(told)})
        sync(self.folder)

    def read(self, session: str) -> LiveTranscript | None:
        """A session that has ended, or None."""
        path = self.folder / session / "transcript.json"
        if not is_id(session) or not path.is_file():
            return None
        with contextlib.suppress(msgspec.DecodeError, FileNotFoundError):
            return msgspec.json.decode(path.read_bytes(), type=LiveTranscript)
        return None

    def recording(self, session: str) -> Path | None:
        """The file with what was sent, if there is one."""
        if not is_id(session):
            return None
        return next(iter(sorted((self.folder / session).glob("audio.*"))), None)

    def remove(self, session: str) -> None:
        """Put a session's folder into the trash."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.folder / session)
            (self.folder / session).rename(self.trash / f"{session}.{secrets.token_hex(4)}")

    def expired(self, seconds: float) -> list[str]:
        """Sessions that ended longer ago than that."""
        found = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                told = os.stat(f"{entry.path}/transcript.json")
                if is_id(entry.name) and time.time() - told.st_mtime > seconds:
                    found.append(entry.name)
        return found


class Recording:
    """A session's audio on its way to a file; all calls may raise OSError and are for a thread."""

    def __init__(self, keeping: Keeping, session: str, request: LiveRequest) -> None:
        self._folder, self._request = keeping.folder / session, request
        self._name: str | None = None

    def write(self, content: bytes, at: int) -> None:
        """Put audio where it belongs, `at` bytes from the session's beginning."""
        self._folder.mkdir(exist_ok=True)
        samples = self._request.encoding in SAMPLE_BYTES
        if self._name is None:
            self._name = "audio.wav" if samples else f"audio{_suffix(content) if at == 0 else '.bin'}"
            if at and not samples:
                self._name = next((one.name for one in self._folder.glob("audio.*")), self._name)
        descriptor = os.open(self._folder / self._name, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            os.pwrite(descriptor, content, at + (_HEADER.size if samples else 0))
            if samples:
                os.pwrite(descriptor, _header(self._request, os.fstat(descriptor).st_size), 0)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Make it durable."""
        if self._name is not None:
            sync(self._folder / self._name)


def _suffix(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return ".mp4"
    return next((suffix for mark, suffix in _MARKS.items() if content.startswith(mark)), ".bin")


def _header(request: LiveRequest, size: int) -> bytes:
    """A WAV file's header, as it is for the length so far: the file is whole at any moment."""
    width, rate = SAMPLE_BYTES[request.encoding], request.sample_rate
    data = min(size - _HEADER.size, 0xFFFFFFFF - _HEADER.size)
    return _HEADER.pack(
        b"RIFF", data + _HEADER.size - 8, b"WAVE", b"fmt ", 18, WAV_FORMATS[request.encoding], 1, rate,
        rate * width, width, width * 8, 0, b"fact", 4, data // width, b"data", data,
    )  # fmt: skip
