"""How much sooner a long recording is done when several instances share its parts."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import recordings
from bench.figure import Figure
from bench.server import MODEL, REAL, SCRIPTED, body, more, serving, temporary

LONG_S = 21 * 60
NO_OP_S, QUICK_NO_OP_S = 3.0, 0.5
"""How long an engine that does nothing takes for each part."""
NO_OP = {"DALSTON_PREPARE_PART_SECONDS": "45"}
"""32 parts."""
WHISPER = {"DALSTON_FASTER_WHISPER_THREADS": "1"}


def run(quick: bool) -> Iterator[Figure]:
    """Wall times of waited calls with one instance and with several, in one run of the server each."""
    with temporary() as folder:
        yield from _no_op(_silence(folder), QUICK_NO_OP_S if quick else NO_OP_S)
        yield from _real(recordings.fitted(folder / "long.flac", LONG_S), folder)


def _no_op(recording: Path, seconds: float) -> Iterator[Figure]:
    asked = body(recording, model="fake", seconds=str(seconds), wait="true")
    with serving(SCRIPTED, **NO_OP) as server, server.connect() as connection:
        job, one = connection.post(asked)
        with more(server, "fake", 7):
            _, eight = connection.post(asked)
    yield Figure("parts: no-op engines, 8 instances", one / eight, "x", 7.2, least=True)
    yield Figure("parts: of the recording", _parts(job), "parts")


def _real(recording: Path, folder: Path) -> Iterator[Figure]:
    asked = body(recording, model=MODEL, language="en", wait="true")
    with serving(REAL, **WHISPER) as server, server.connect() as connection:
        connection.post(body(recordings.clip(folder), model=MODEL, wait="true"))
        job, one = connection.post(asked)
        with more(server, "faster-whisper", 1, DALSTON_PRELOAD=MODEL, **WHISPER):
            connection.post(body(recordings.clip(folder), model=MODEL, wait="true"))
            _, two = connection.post(asked)
    yield Figure("parts: 21 min, 2 instances of Whisper", one / two, "x", 1.8, least=True)
    yield Figure("parts: 21 min, with one", one, "s")
    yield Figure("parts: of the recording", _parts(job), "parts")


def _parts(job: Any) -> int:
    return sum(stage["stage"] == "transcribe" for stage in job["stages"])


def _silence(folder: Path) -> Path:
    """A recording that costs next to nothing to prepare."""
    with wave.open(str(folder / "silence.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000 * LONG_S))
    return folder / "silence.wav"
