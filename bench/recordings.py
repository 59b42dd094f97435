"""The recordings that are measured with, made by the prepare engine where they have to be made."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.server import ROOT
from dalston.local import environments

CLIP = ROOT.parent / "shared" / "data" / "clips" / "jfk.flac"
CLIP_S, LONG_S = 11, 600


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
