"""A process that decodes one session's file as it is written: stdin to 16 kHz mono s16le on stdout.

It is separate since decoders meet hostile files: it has little memory, opens nothing, and dies alone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

MEMORY = 2**30
DEMUXERS = "ogg,matroska,webm,mp3,flac,wav,mov,mp4,m4a,aac"
BUFFER = 4096
DAMAGED = 50
"""Packets in a row that cannot be decoded, after which the file is given up."""


class Incoming:
    """Standard input, as soon as something is there."""

    def read(self, size: int) -> bytes:
        """Some bytes; none at the end."""
        return os.read(0, size)


def main() -> int:
    """Decode until the input ends; answers 1 for what cannot be decoded."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    import av

    av.logging.set_level(None)
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "", "probesize": "65536",
               "analyzeduration": "500000"}  # fmt: skip
    written = bad = 0
    try:
        with av.open(Incoming(), options=options, buffer_size=BUFFER) as container:
            resampler = av.AudioResampler("s16", "mono", 16_000)
            for packet in container.demux(container.streams.audio[0]):
                try:
                    frames, bad = packet.decode(), 0
                except av.InvalidDataError:
                    frames, bad = [], bad + 1
                for piece in [piece for frame in frames for piece in resampler.resample(frame)]:
                    written += _write(piece.to_ndarray().tobytes())
                if bad > DAMAGED:
                    return 1
            for piece in resampler.resample(None) if written else []:
                written += _write(piece.to_ndarray().tobytes())
    except BrokenPipeError:
        return 0
    except (av.FFmpegError, IndexError, MemoryError, ValueError):
        return 1
    return 0 if written else 1


def _write(content: bytes) -> int:
    view = memoryview(content)
    while view:
        view = view[os.write(1, view) :]
    return len(content)


if __name__ == "__main__":
    sys.exit(main())
