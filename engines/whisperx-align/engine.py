"""Gives words their exact times with the library WhisperX: its alignment by wav2vec 2.0 models.

Without a model's name the one that the manifest names for the transcript's language is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from dalston_engine import Audio, Engine, Transcript, serve
from dalston_engine.alignment import Found, Run, Words, unaligned
from library import opened
from numpy.typing import NDArray

LONGEST = 20.0
"""Seconds that the model is given at a time, unless a segment without word times is longer."""


class WhisperXAlign(Engine):
    """Words of any language with a checkpoint, found by their characters."""

    def load(self, model: str | None, device: str = "auto", threads: int = 0) -> None:
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if threads:
            torch.set_num_threads(threads)
        self.library = opened()
        self.asked, self.opened = model, ("", "")

    def open(self, name: str, language: str) -> None:
        """Load a checkpoint and its vocabulary, unless they are."""
        if (name, language) != self.opened:
            self.model, self.about = self.library.load_align_model(
                language, self.device, self.weights(name), str(self.models_dir), self.models.offline
            )
            self.opened = name, language

    def known(self) -> dict[str, str]:
        """The manifest's model of each language."""
        models = self.models.manifest.models
        return {language: name for name, model in models.items() for language in model.languages}

    def align(self, audio: Audio, transcript: Transcript) -> Transcript:
        if not transcript.segments:
            return transcript
        known, language = self.known(), transcript.language or ""
        name = self.asked or known.get(language)
        if not name:
            return unaligned(transcript, sorted(known))
        self.open(name, language)
        samples = np.frombuffer(audio.pcm(), np.int16).astype(np.float32) / 32768
        words = Words(transcript)
        times: list[Found | None] = [None] * len(words.words)
        for run in words.runs(audio.duration, LONGEST):
            self.progress(run.start / audio.duration)
            texts = [" ".join(words.words[index].text.split()) for index in run.words]
            for index, found in zip(run.words, self.found(samples, run, texts), strict=True):
                times[index] = found
        return words.aligned(times, 0.0)

    def found(self, samples: NDArray[np.float32], run: Run, texts: list[str]) -> list[Found | None]:
        """When each of the texts is spoken; its score is the library's, a probability."""
        joined = [{"text": " ".join(texts), "start": run.start, "end": run.end}]
        result = self.library.align(
            joined, self.model, self.about, samples, self.device, return_char_alignments=True
        )
        characters: list[dict[str, Any]] = result["segments"][0]["chars"] or []
        found, at = [], 0
        for text in texts:
            timed = [c for c in characters[at : at + len(text)] if "start" in c and "end" in c]
            at += len(text) + 1
            score = sum(c["score"] for c in timed) / len(timed) if timed else 0.0
            found.append(Found(timed[0]["start"], timed[-1]["end"], score) if timed else None)
        return found


if __name__ == "__main__":
    serve(WhisperXAlign)
