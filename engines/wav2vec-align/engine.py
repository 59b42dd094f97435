"""Gives words their exact times: CTC forced alignment with any wav2vec 2.0 model that writes characters.

Without a model's name the one that the manifest names for the transcript's language is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from dalston_engine import Audio, Engine, Transcript, serve
from dalston_engine.alignment import Found, Words, unaligned
from dalston_engine.ctc import STAR, Clock, align
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

RATE = 16_000
CHUNK, CONTEXT = 500, 50
"""Frames worked out at a time, and those heard on either side of them."""
LEAST = -5.0
"""The mean log probability of its characters under which a segment was not found."""


class Wav2VecAlign(Engine):
    """Words of any language with a checkpoint, found by their characters."""

    def load(self, model: str | None, device: str = "auto", threads: int = 0) -> None:
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if threads:
            torch.set_num_threads(threads)
        self.asked, self.opened = model, ""
        if model:
            self.open(model)

    def open(self, name: str) -> None:
        """Load a checkpoint and its vocabulary, unless they are."""
        if name == self.opened:
            return
        where, how = self.weights(name), {"cache_dir": str(self.models_dir), "trust_remote_code": False}
        self.extractor = AutoFeatureExtractor.from_pretrained(where, **how)
        tokenizer = AutoTokenizer.from_pretrained(where, **how)
        self.labels: dict[str, int] = tokenizer.get_vocab()
        border = tokenizer.word_delimiter_token
        self.delimiter = [self.labels[border]] if border in self.labels else []
        self.model: Any = AutoModelForCTC.from_pretrained(where, **how).to(self.device).eval()
        self.frame = self.model.config.inputs_to_logits_ratio
        self.opened = name

    def known(self) -> dict[str, str]:
        """The manifest's model of each language."""
        models = self.models.manifest.models
        return {language: name for name, model in models.items() for language in model.languages}

    def align(self, audio: Audio, transcript: Transcript) -> Transcript:
        if not transcript.segments:
            return transcript
        known = self.known()
        name = self.asked or known.get(transcript.language or "")
        if not name:
            return unaligned(transcript, sorted(known))
        self.open(name)
        samples, words, clock = (
            np.frombuffer(audio.pcm(), np.int16),
            Words(transcript),
            Clock(self.frame / RATE),
        )
        times: list[Found | None] = [None] * len(words.words)
        for run in words.runs(audio.duration):
            spoken = dict(zip(run.words, self.spelled([words.words[i].text for i in run.words]), strict=True))
            sought = [index for index, labels in spoken.items() if labels]
            first, end = (int(edge / clock.frame) for edge in (run.start, run.end))
            log_probs = self.heard(samples, first, end)
            frames = align(log_probs, [spoken[i] for i in sought], self.model.config.pad_token_id)
            for index, found in zip(sought, clock.words(frames, first, run.end)):  # noqa: B905 - all or none
                times[index] = found
        return words.aligned(times, LEAST)

    def spelled(self, texts: list[str]) -> list[list[int]]:
        """The labels of words; one followed by a space ends with the delimiter, which tells when it ends."""
        labels = [self.characters(text) for text in texts]
        for found, after in zip(labels, texts[1:], strict=False):
            if found and after[:1].isspace():
                found += self.delimiter
        return labels

    def characters(self, text: str) -> list[int]:
        """A word's labels; one that fits anything for each stretch that the vocabulary does not have."""
        found: list[int] = []
        for character in filter(str.isalnum, text):
            cases = (character, character.lower(), character.upper())
            label = next((self.labels[case] for case in cases if case in self.labels), STAR)
            if label != STAR or found[-1:] != [STAR]:
                found.append(label)
        return found

    def heard(self, samples: NDArray[np.int16], first: int, end: int) -> NDArray[np.float32]:
        """The log probabilities of all labels in the frames from `first` to `end`."""
        parts = []
        for begin in range(first, min(end, len(samples) // self.frame), CHUNK):
            self.progress(begin * self.frame / len(samples))
            before = min(begin, CONTEXT)
            after = min(begin + CHUNK, end) + CONTEXT
            part = samples[(begin - before) * self.frame : after * self.frame].astype(np.float32) / 32768
            part = np.pad(part, (0, self.frame))  # the last frames look a little beyond their own samples
            given = self.extractor(part, sampling_rate=RATE, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                log_probs = self.model(**given).logits[0].log_softmax(-1).float().cpu().numpy()
            parts.append(log_probs[before : before + min(CHUNK, end - begin)])
        return np.concatenate(parts) if parts else np.empty((0, self.model.config.vocab_size), np.float32)


if __name__ == "__main__":
    serve(Wav2VecAlign)
