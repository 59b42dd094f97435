"""Speakers are told apart beside the transcription, not after it."""

from __future__ import annotations

from collections.abc import Iterator

from bench import recordings
from bench.figure import Figure
from bench.server import MODEL, body, serving, temporary

ENGINES = "prepare,faster-whisper,phone-align,pyannote-onnx,final-merger"
SECONDS, QUICK_SECONDS = 300, 60


def run(quick: bool) -> Iterator[Figure]:
    """How much of the shorter branch is hidden behind the longer one, by the stages' times and the wall's."""
    with temporary() as folder, serving(ENGINES) as server, server.connect() as connection:
        asked = {"model": MODEL, "language": "en", "speaker_detection": "diarize", "wait": "true"}
        recording = recordings.fitted(folder / "talk.flac", QUICK_SECONDS if quick else SECONDS)
        connection.post(body(recordings.clip(folder), **asked))
        job, wall = connection.post(body(recording, **asked))
    took = {stage["stage"]: float(stage["seconds"]) for stage in job["stages"]}
    branches = sorted((took["transcribe"] + took["align"], took["diarize"]))
    hidden = (sum(took.values()) - wall) / branches[0] * 100
    yield Figure("speakers: of the shorter branch hidden", hidden, "%", 80, least=True)
    yield Figure("speakers: transcribing and aligning", took["transcribe"] + took["align"], "s")
    yield Figure("speakers: diarizing", took["diarize"], "s")
    yield Figure("speakers: wall time", wall, "s")
