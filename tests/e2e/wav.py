"""Recordings as WAVs of 16 kHz."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

from dalston.local import environments


def decoded(recording: Path, target: Path, seconds: float = 3600) -> Path:
    """A recording's beginning as a WAV of one channel, 16-bit samples; decoded by the prepare engine."""
    command = [*environments.find("prepare", "").command, str(recording), "--folder", str(target.parent)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with wave.open(str(target.parent / "audio.wav"), "rb") as whole:
        samples = whole.readframes(round(seconds * whole.getframerate()))
    with wave.open(str(target), "wb") as wav:
        wav.setparams((1, 2, 16_000, 0, "NONE", ""))
        wav.writeframes(samples)
    return target
