"""From nothing running to a transcript: the whole process of `dalston transcribe`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import recordings
from bench.figure import Figure
from bench.server import DALSTON, MODEL, Failed, environment, temporary

RUNS, QUICK_RUNS = 7, 3


def run(quick: bool) -> Iterator[Figure]:
    """Wall time of one command that starts a server, transcribes an 11 s clip and stops it again."""
    with temporary() as folder:
        clip, data = recordings.clip(folder), folder / "data"
        _run(clip, data)
        seconds = [_run(clip, data) for _ in range(QUICK_RUNS if quick else RUNS)]
    yield Figure("cold: dalston transcribe, nothing running", median(seconds), "s", 2.0, 1.5)
    yield Figure("cold: the slowest", max(seconds), "s")


def _run(clip: Path, data: Path) -> float:
    command = [DALSTON, "transcribe", "--model", MODEL, "--data", str(data), str(clip)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    seconds = time.perf_counter() - began
    if done.returncode or not done.stdout.strip():
        raise Failed(f"dalston transcribe failed:\n{done.stderr}")
    return seconds
