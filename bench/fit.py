"""`fit.py SOURCE TARGET SECONDS`: a recording cut or repeated to a length, as 16 kHz mono FLAC.

Run with the prepare engine's Python, which has PyAV.
"""

from __future__ import annotations

import sys

import av
from av.audio import AudioFrame
from av.audio.resampler import AudioResampler

RATE, WIDTH = 16_000, 2
BLOCK = 4096 * WIDTH


def samples(path: str) -> bytes:
    """All of a recording as 16-bit PCM."""
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
    found = bytearray()
    with av.open(path) as container:
        for frame in [*container.decode(audio=0), None]:
            for piece in resampler.resample(frame):
                found += memoryview(piece.planes[0])[: piece.samples * WIDTH]
    return bytes(found)


def write(path: str, pcm: bytes) -> None:
    """Encode 16-bit PCM as FLAC."""
    with av.open(path, "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        for start in range(0, len(pcm), BLOCK):
            container.mux(stream.encode(_frame(pcm[start : start + BLOCK], start // WIDTH)))
        container.mux(stream.encode(None))


def _frame(block: bytes, position: int) -> AudioFrame:
    frame = AudioFrame(format="s16", layout="mono", samples=len(block) // WIDTH)
    memoryview(frame.planes[0])[: len(block)] = block
    frame.sample_rate, frame.pts = RATE, position
    return frame


if __name__ == "__main__":
    source, target, seconds = sys.argv[1:]
    whole, length = samples(source), int(seconds) * RATE * WIDTH
    write(target, (whole * (length // len(whole) + 1))[:length])
