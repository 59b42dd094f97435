"""Any recording to 16 kHz mono PCM: sees to the process that decodes, and outlives it.

Decoding is in `decoder.py`, which stays up between recordings: a recording costs a line each way.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cutting import cut
from dalston_engine import BadInput, Engine, Media, Retry, serve
from dalston_engine.errors import ErrorRecord
from dalston_engine.process import PARENT_PIPE
from msgspec import Meta, Struct

MB = 1_000_000
Duration = Annotated[int, Meta(ge=1, le=36 * 3600)]
"""Seconds; what is longer would not fit into a WAV file."""
Channels = Annotated[int, Meta(ge=1, le=255)]
Memory = Annotated[int, Meta(ge=100, le=1_000_000)]
Seconds = Annotated[int, Meta(ge=1, le=6 * 3600)]
Long = Annotated[int, Meta(ge=20, le=36 * 3600)]
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}
"""How a process ends when a library goes wrong; other signals come from outside."""


class Limits(Struct, frozen=True):
    """What one recording may take."""

    duration: int
    """Seconds of audio."""
    channels: int
    memory: int
    """Bytes of this process."""
    seconds: int
    """Of processor time."""


class Order(Struct):
    """One recording to decode."""

    source: str
    folder: str
    """Where `audio.wav` goes, or `audio-0.wav` and so on for channels."""
    channels: bool = False
    """Whether every channel is a recording by itself."""
    raw: bool = False
    """Whether the source is nothing but the samples of prepared audio."""


class Report(Struct, omit_defaults=True):
    """What this process says: how far it is, or how it ended."""

    progress: float | None = None
    media: Media | None = None
    refused: ErrorRecord | None = None
    errno: int | None = None
    """The system's fault, such as a full disk, rather than the recording's."""


class Fell(Exception):
    """The decoder ended without an answer."""

    def __init__(self, code: int) -> None:
        self.signal = -code


class Decoder:
    """The decoding process; another one takes its place when it has to end."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._life, self._held = os.pipe()  # closes when this process ends, however it ends
        self._start()

    def decode(self, order: Order, progress: Callable[[float], None]) -> Media:
        """What the recording was; raises BadInput, Fell, OSError or what `progress` raises."""
        try:
            return self._answer(order, progress)
        except BadInput:
            raise
        except BaseException:
            self._process.kill()  # it is at work on what nobody wants any more, or gone
            self._process.wait()
            self._start()
            raise

    def _start(self) -> None:
        limits = msgspec.json.encode(self.limits).decode()
        command = [sys.executable, str(Path(__file__).with_name("decoder.py")), limits]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._life],
            env=os.environ | {PARENT_PIPE: str(self._life)},
        )

    def _answer(self, order: Order, progress: Callable[[float], None]) -> Media:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        try:
            stdin.write(msgspec.json.encode(order) + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise Fell(self._process.wait()) from None
        for line in stdout:
            report = msgspec.json.decode(line, type=Report)
            if report.media:
                return report.media
            if report.refused:
                raise BadInput(report.refused.message, code=report.refused.code)
            if report.errno is not None:
                raise OSError(report.errno, os.strerror(report.errno))
            progress(report.progress or 0.0)
        raise Fell(self._process.wait())


class Prepare(Engine):
    """Decodes what can be decoded; damage costs a warning, not the job."""

    def load(
        self,
        max_duration: Duration = 8 * 3600,
        max_channels: Channels = 16,
        max_memory_mb: Memory = 1_000,
        max_cpu_seconds: Seconds = 900,
        split_after: Long = 600,
        part_seconds: Long = 180,
    ) -> None:
        """`split_after`: seconds above which a recording may be cut, into parts of `part_seconds`."""
        limits = Limits(max_duration, max_channels, max_memory_mb * MB, max_cpu_seconds)
        self.decoder = Decoder(limits)
        self.split_after, self.part_seconds = split_after, part_seconds

    def prepare(
        self,
        source: Path,
        folder: Path,
        per_channel: bool = False,
        source_format: Literal["", "pcm_s16le_16k"] = "",
        split: bool = False,
    ) -> Media:
        """`split`: whether a long recording is cut in time."""
        media = self.decoded(source, folder, per_channel, source_format)
        if split and not per_channel and media.duration > self.split_after:
            media.spans = cut(folder / "audio.wav", folder, self.part_seconds, lambda: self.progress(1))
            media.parts, media.split = len(media.spans), "time"
        return media

    def decoded(self, source: Path, folder: Path, per_channel: bool, source_format: str) -> Media:
        """The recording, or each of its channels, as prepared audio; raises BadInput, Retry or OSError."""
        order = Order(str(source), str(folder), per_channel, bool(source_format))
        try:
            return self.decoder.decode(order, self.progress)
        except Fell as fall:
            if fall.signal == signal.SIGXCPU:
                raise self.too_costly() from None
        try:  # once more in a fresh process: an earlier recording may have broken the other one
            return self.decoder.decode(order, self.progress)
        except Fell as fall:
            if fall.signal == signal.SIGXCPU:
                raise self.too_costly() from None
            if fall.signal in FAULTS:
                raise BadInput("The file crashes the decoder: it is damaged.", code="invalid_audio") from None
            raise Retry("The decoder was ended from outside.") from None

    def too_costly(self) -> BadInput:
        """A recording that takes more work than is allowed."""
        seconds = self.decoder.limits.seconds
        return BadInput(
            f"Decoding the recording takes more than {seconds} s of processor time "
            "(DALSTON_PREPARE_MAX_CPU_SECONDS).",
            code="too_costly",
        )


if __name__ == "__main__":
    serve(Prepare)
