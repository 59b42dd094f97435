"""`whisper.py ENGINE MODEL CACHE VAD`: faster-whisper with its own defaults, on one thread.

Run with the faster-whisper engine's Python; ENGINE is its folder, VAD `true` or `false`. For each line
read, `{"path": …, "language": …}`, a line with the answer and the CPU seconds it took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from dalston_engine import manifest
from dalston_engine.models import Models
from faster_whisper import WhisperModel, decode_audio


def answer(model: Any, path: str, language: str | None, vad: bool) -> dict[str, Any]:
    """What the library makes of a recording."""
    began, started = time.process_time(), time.perf_counter()
    samples = decode_audio(path)
    stream, info = model.transcribe(samples, language=language, word_timestamps=True, vad_filter=vad)
    segments = list(stream)
    return {
        "cpu": time.process_time() - began,
        "seconds": time.perf_counter() - started,
        "text": "".join(segment.text for segment in segments).strip(),
        "words": [
            {"text": word.word, "start": word.start, "end": word.end}
            for segment in segments
            for word in segment.words or ()
        ],
        "language": info.language,
        "duration": len(samples) / 16_000,
    }


def main(engine: str, name: str, cache: str, vad: str) -> None:
    weights = Models(manifest.read(Path(engine)), Path(cache)).find(name)
    model = WhisperModel(weights, device="cpu", compute_type="int8", cpu_threads=1, download_root=cache)
    print("{}", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told = answer(model, asked["path"], asked["language"], vad == "true")
        except Exception as error:  # any of many libraries' errors is an answer: it cannot do this one
            told = {"failure": type(error).__name__}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
