"""`bare.py WEIGHTS WAV`: the bare library, for comparison; for each line read, one transcription.

Run with the faster-whisper engine's Python. Settings and options are those that the engine uses by
default. Answers are JSON lines: one when the model is loaded, then one a transcription.
"""

from __future__ import annotations

import json
import sys
import time

from faster_whisper import WhisperModel, decode_audio


def main(weights: str, wav: str) -> None:
    model = WhisperModel(weights, device="cpu", compute_type="int8")
    samples = decode_audio(wav)
    print("{}", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        stream, _info = model.transcribe(samples, beam_size=5, word_timestamps=False)
        text = "".join(segment.text for segment in stream)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "text": text.strip()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
