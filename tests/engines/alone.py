"""Runs one engine by itself; tests skip where its environment or a recording is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import wave
from pathlib import Path
from typing import Any

import pytest

from dalston.local import environments

DATA = Path(os.environ.get("DALSTON_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
"""Recordings with their truth, kept outside the project."""
BLUR_S = 0.01


def run(engine: str, *inputs: Path, model: str = "", models: Path | None = None, **options: object) -> Any:
    """What the engine prints for the inputs, decoded; its last line on stderr as a RuntimeError."""
    found = environments.find(engine, "")
    if not found.installed:
        pytest.skip(f"the environment of {engine} is not built")
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    chosen = ["--model", model] if model else []
    surroundings = os.environ | {"DALSTON_OFFLINE": "true", "DALSTON_MODELS": str(models or "")}
    done = subprocess.run(
        [*found.command, *map(str, inputs), *given, *chosen],
        env=surroundings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)


def recording(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A recording of the collection as prepared audio, and what is known about it."""
    if not (DATA / name).exists():
        pytest.skip("the recordings are not here")
    lines = (DATA / "MANIFEST.jsonl").read_text().splitlines()
    known = next(entry for entry in map(json.loads, lines) if entry["audio"] == name)
    prepare = environments.find("prepare", "")
    subprocess.run(
        [*prepare.command, str(DATA / name), "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL
    )
    return folder / "audio.wav", known


def wav(path: Path, samples: bytes) -> Path:
    """Prepared audio of 16-bit samples."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples)
    return path


def bare(text: str) -> list[str]:
    """The words without case and punctuation."""
    return re.findall(r"[\w']+", text.lower())


def said(transcript: Any) -> str:
    """All of a transcript's text."""
    return "".join(segment["text"] for segment in transcript["segments"]).strip()


def plausible(transcript: Any, seconds: float) -> None:
    """Times are in order and inside the recording, and the words are the segments' text."""
    words, segments = transcript["words"], transcript["segments"]
    for parts in (words, segments):
        assert all(0 <= part["start"] <= part["end"] <= seconds + BLUR_S for part in parts)
        starts = [part["start"] for part in parts]
        assert starts == sorted(starts)
    assert "".join(word["text"] for word in words).strip() == said(transcript)
    assert all(0 < word.get("probability", 1) <= 1 for word in words)
