"""The recordings that are measured with, made by the prepare engine where they have to be made."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

from bench.server import ROOT
from dalston.evaluation.recordings import MANIFEST, Recording, read
from dalston.local import environments

DATA = ROOT.parent / "shared" / "data"
CLIP = DATA / "clips" / "jfk.flac"
CLIP_S, LONG_S = 11, 600


def known() -> list[Recording]:
    """Recordings with their truth, if they lie beside the project."""
    return read(DATA) if (DATA / MANIFEST).exists() else []


def seconds(prepared: Path) -> float:
    """How long a prepared WAV is."""
    with wave.open(str(prepared), "rb") as wav:
        return wav.getnframes() / wav.getframerate()


def clip(folder: Path) -> Path:
    """An 11 s clip: the usual one when it lies beside the project, else the sample's first 11 s."""
    return CLIP if CLIP.exists() else fitted(folder / "clip.flac", CLIP_S)


def long(folder: Path) -> Path:
    """A recording of ten minutes: the sample over and over."""
    return fitted(folder / "long.flac", LONG_S)


def prepared(recording: Path, folder: Path) -> Path:
    """The WAV that the prepare engine makes of a recording."""
    command = [*environments.find("prepare", "").command, str(recording), "--folder", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "audio.wav"


def fitted(target: Path, seconds: int) -> Path:
    """A recording of that length: the sample over and over, or its beginning."""
    python, *_ = environments.find("prepare", "").command
    fit = Path(__file__).with_name("fit.py")
    source = environments.sample()
    subprocess.run([python, "-P", str(fit), str(source), str(target), str(seconds)], check=True)
    return target
