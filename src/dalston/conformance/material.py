"""What engines are given in the checks: recordings that are computed, so they hold nobody's voice."""

from __future__ import annotations

import array
import io
import math
import random
import wave
from collections.abc import Callable
from pathlib import Path

import msgspec
from dalston_engine import Audio, Diarization, Media, Segment, Transcript, Turn, Word
from dalston_engine.types import SAMPLE_RATE
from msgspec import Struct

SECONDS = 6.0
SOURCE_RATE = 44_100
MARKER = "zeppelin marmalade umbrella"
"""Words that no engine says of itself; where they turn up, somebody's words do."""
WAVE = ("wav", "pcm_s16le", SOURCE_RATE, 2)


class Material(Struct, frozen=True):
    """The same recording as every stage is given it."""

    name: str
    seconds: float
    source: bytes
    """For prepare: the upload."""
    audio: bytes
    """For transcribe, align and diarize: prepared audio."""
    media: bytes
    """For merge: what prepare returned."""
    transcript: bytes
    """For align and merge: what transcribe returned."""
    diarization: bytes = b'{"turns":[]}'
    """For merge: what diarize returned."""

    def result(self, stage: str) -> bytes:
        """What a stage before the engine's own returned."""
        known = {"prepare": self.media, "diarize": self.diarization}
        return known.get(stage, self.transcript)


def recording(path: Path | None = None) -> Material:
    """Tones that rise, bursts of noise, and pauses between them; or a file of prepared audio.

    Raises OSError, EOFError, wave.Error or ValueError for a file that is something else.
    """
    chance = random.Random(1)

    def sample(t: float) -> float:
        part, within = int(t), t % 1
        if within > 0.79:
            return 0.0
        tone = math.sin(2 * math.pi * 110 * (part + 1) * t)
        return 0.4 * (tone if part % 2 == 0 else chance.uniform(-1, 1))

    words = [Word(f" {word}", float(n), n + 0.8) for n, word in enumerate(MARKER.split())]
    segment = Segment(0.0, 2.8, f" {MARKER}")
    made = _material("recording", SECONDS, sample, Transcript([segment], words=words, language="en"))
    spoke = Diarization([Turn(0.0, 1.9, "speaker_0"), Turn(1.8, 3.0, "speaker_1")])
    made = msgspec.structs.replace(made, diarization=msgspec.json.encode(spoke))
    if path is None:
        return made
    seconds, content = Audio(path).duration, path.read_bytes()
    media = msgspec.json.encode(Media(seconds, "wav", "pcm_s16le", SAMPLE_RATE, 1))
    return msgspec.structs.replace(made, seconds=seconds, source=content, audio=content, media=media)


def silence() -> Material:
    """Two seconds of nothing."""
    return _material("silence", 2.0, lambda _: 0.0, Transcript([], words=[]))


def empty() -> Material:
    """A recording without a single sample."""
    return _material("empty", 0.0, lambda _: 0.0, Transcript([], words=[]))


def damaged() -> Material:
    """What is none of what it should be."""
    noise = random.Random(2).randbytes(4096)
    return Material("damaged", 0.0, noise, noise, b"{", b"{")


def _material(name: str, seconds: float, sample: Callable[[float], float], said: Transcript) -> Material:
    encode = msgspec.json.encode
    return Material(
        name,
        seconds,
        _wav(seconds, SOURCE_RATE, 2, sample),
        _wav(seconds, SAMPLE_RATE, 1, sample),
        encode(Media(seconds, *WAVE)),
        encode(said),
    )


def _wav(seconds: float, rate: int, channels: int, sample: Callable[[float], float]) -> bytes:
    buffer, samples = io.BytesIO(), array.array("h")
    for n in range(int(seconds * rate)):
        samples.extend([int(32_767 * sample(n / rate))] * channels)
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()
