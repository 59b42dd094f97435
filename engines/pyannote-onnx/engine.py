"""Who speaks when: pyannote's segmentation and CAM++'s voices on ONNX Runtime, without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from clustering import MOST, Progress, owners, speakers, unit
from dalston_engine import Audio, BadInput, Diarization, Engine, serve
from listening import Networks, Window, windows
from msgspec import Meta
from turns import Votes, exclusive, named, overlapping

Number = Annotated[int, Meta(ge=1, le=MOST)]
CLEAR, FAINT = 1.0, 0.3
"""Seconds that a local speaker speaks alone in a window to be heard well, and to be heard at all."""
LISTENING, GROUPING = 0.9, 0.95
"""The share of the work that is done when all is heard, and when the speakers are known."""


class PyannoteOnnx(Engine):
    """One pair of networks; recordings of any length in little memory."""

    def load(self, model: str, threads: int = 1) -> None:
        self.name, folder = model, Path(self.weights(model))
        self.networks = Networks(folder / "segmentation.bin", folder / "embedding.pt", threads)

    def diarize(
        self,
        audio: Audio,
        num_speakers: Number | None = None,
        min_speakers: Number | None = None,
        max_speakers: Number | None = None,
        embeddings: bool = False,
    ) -> Diarization:
        fewest, most = bounds(num_speakers, min_speakers, max_speakers)
        heard = list(windows(audio.path, self.networks, lambda part: self.progress(part * LISTENING)))
        voices = known_voices(heard, fewest, most, lambda: self.progress(LISTENING))
        ranks = assigned(heard, voices, lambda: self.progress(GROUPING)).ranked(at_once=2)
        turns = overlapping(ranks, audio.duration)
        order = list(dict.fromkeys(speaker for _, _, speaker in turns))
        names = {speaker: f"speaker_{n}" for n, speaker in enumerate(order)}
        result = Diarization(
            turns=named(turns, names),
            exclusive=named(exclusive(ranks, audio.duration), names),
            embeddings={names[n]: voices[n].tolist() for n in order} if embeddings else None,
            model=self.name,
        )
        if not (num_speakers or min_speakers or 0) <= len(names) <= most:
            result.warnings.append(f"Speakers found: {len(names)}, which is not what was asked for.")
        return result


def bounds(number: int | None, fewest: int | None, most: int | None) -> tuple[int, int]:
    """How few and how many speakers the request allows."""
    low, high = number or fewest or 1, number or most or MOST
    if low > high or not (fewest or 1) <= low <= high <= (most or MOST):
        raise BadInput("num_speakers, min_speakers and max_speakers contradict each other.")
    return low, high


def known_voices(heard: list[Window], fewest: int, most: int, progress: Progress) -> np.ndarray:
    """The speakers' voices (speaker, dimension), from the stretches that are heard best."""
    voices = np.concatenate([window.voices for window in heard])
    alone = np.concatenate([window.alone for window in heard])
    audible = ~np.isnan(voices).any(axis=1)
    for least in (CLEAR, FAINT, 0.0):
        stretches = voices[audible & (alone >= least)]
        if len(stretches) >= max(fewest, 1):
            break
    if not len(stretches):
        return np.zeros((0, voices.shape[1]))
    return speakers(unit(stretches), fewest, most, progress)


def assigned(heard: list[Window], voices: np.ndarray, progress: Progress) -> Votes:
    """Each local speaker of each window counted for the speaker whose voice is theirs."""
    votes = Votes(max(window.first + len(window.activity) for window in heard), len(voices))
    for window in heard:
        votes.add(window.first, window.probabilities, owners(unit(window.voices) @ voices.T))
        progress()
    return votes


if __name__ == "__main__":
    serve(PyannoteOnnx)
