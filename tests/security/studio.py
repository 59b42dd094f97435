"""Run by the prepare engine's python: writes a short recording in every container, then judges files.

    studio.py FOLDER

First prints the names of the recordings it left in FOLDER as one line of JSON. Then every line of
stdin names a file, and is answered with what the engine makes of it: `{"media": …}`,
`{"refused": [status, code, message]}`, or `{"raised": …}`, which must not happen.
"""

from __future__ import annotations

import importlib
import json
import math
import struct
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
from dalston_engine import BadInput

ENGINE = Path(__file__).parents[2] / "engines" / "prepare"
RATE = 16_000
SECONDS = 0.5
CONTAINERS = {
    "a.wav": ("wav", "pcm_s16le"),
    "float.wav": ("wav", "pcm_f32le"),
    "alaw.wav": ("wav", "pcm_alaw"),
    "adpcm.wav": ("wav", "adpcm_ms"),
    "a.w64": ("w64", "pcm_s16le"),
    "a.aiff": ("aiff", "pcm_s16be"),
    "a.au": ("au", "pcm_s16be"),
    "a.caf": ("caf", "pcm_s16le"),
    "a.voc": ("voc", "pcm_s16le"),
    "a.flac": ("flac", "flac"),
    "a.tta": ("tta", "tta"),
    "a.wv": ("wv", "wavpack"),
    "a.mp3": ("mp3", "mp3"),
    "a.aac": ("adts", "aac"),
    "a.m4a": ("ipod", "aac"),
    "alac.m4a": ("ipod", "alac"),
    "a.mp4": ("mp4", "aac"),
    "a.mov": ("mov", "pcm_s16le"),
    "a.3gp": ("3gp", "aac"),
    "a.ac3": ("ac3", "ac3"),
    "a.eac3": ("eac3", "eac3"),
    "a.wma": ("asf", "wmav2"),
    "a.avi": ("avi", "mp3"),
    "a.flv": ("flv", "aac"),
    "a.ts": ("mpegts", "aac"),
    "a.mpg": ("mpeg", "mp2"),
    "a.rm": ("rm", "ac3"),
    "a.gsm": ("gsm", "gsm"),
    "a.amr": ("amr", "amr_nb"),
    "a.ogg": ("ogg", "vorbis"),
    "flac.ogg": ("ogg", "flac"),
    "a.opus": ("ogg", "libopus"),
    "a.webm": ("webm", "libopus"),
    "a.mkv": ("matroska", "ac3"),
}


def record(path: Path, container: str, codec: str) -> None:
    """A tone in a container; raises av.FFmpegError or ValueError where libav cannot write it."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_of(codec), layout="mono")
        rate = stream.codec_context.sample_rate
        frame = av.AudioFrame(format="s16", layout="mono", samples=int(rate * SECONDS))
        tone = (int(9_000 * math.sin(n * 440 * math.tau / rate)) for n in range(frame.samples))
        frame.planes[0].update(
            struct.pack(f"<{frame.samples}h", *tone).ljust(frame.planes[0].buffer_size, b"\0")
        )
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)


def record_silence(path: Path, hours: int) -> None:
    """Much of nothing: a few bytes for every eight seconds."""
    rate, samples = 8_000, 65_535
    with av.open(str(path), "w") as output:
        stream = output.add_stream("flac", rate=rate, layout="mono", options={"frame_size": str(samples)})
        frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        for start in range(0, hours * 3600 * rate, samples):
            frame.pts = start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def rate_of(codec: str) -> int:
    """A rate the codec has."""
    return {"libopus": 48_000, "ac3": 48_000, "eac3": 48_000, "gsm": 8_000, "amr_nb": 8_000}.get(codec, RATE)


def recorded(folder: Path) -> list[str]:
    """Write all recordings that this build of libav can write; their names."""
    written = []
    for name, (container, codec) in CONTAINERS.items():
        try:
            record(folder / name, container, codec)
            written.append(name)
        except (av.FFmpegError, ValueError):
            (folder / name).unlink(missing_ok=True)
    return written


def judged(engine: Any, path: Path, folder: Path) -> dict[str, Any]:
    """What the engine makes of a file."""
    started = time.perf_counter()
    try:
        verdict: dict[str, Any] = {"media": msgspec.to_builtins(engine.prepare(path, folder))}
    except BadInput as error:
        verdict = {"refused": [error.status, error.code, error.message]}
    except Exception as error:
        verdict = {"raised": repr(error)}
    return verdict | {"seconds": time.perf_counter() - started}


def main() -> None:
    folder = Path(sys.argv[1])
    record_silence(folder / "hours.flac", 10)
    print(json.dumps(recorded(folder)), flush=True)
    sys.path.insert(0, str(ENGINE))
    engine = importlib.import_module("engine").Prepare()
    engine.report = lambda _: None
    engine.load(**json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))
    for line in sys.stdin:
        print(json.dumps(judged(engine, Path(line.strip()), folder)), flush=True)


if __name__ == "__main__":
    main()
