"""Speech to words with NVIDIA's Parakeet models on ONNX Runtime, by the library onnx-asr."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from dalston_engine import Audio, BadInput, Engine, ModelUnavailable, Segment, Transcript, Word, serve
from dalston_engine.types import SAMPLE_RATE
from huggingface_hub import snapshot_download
from windows import windows

STEP = 0.08
"""Seconds of audio for which these models say at most one thing."""
TRANSDUCERS = {"nemo-conformer-tdt", "nemo-conformer-rnnt"}
"""The kinds of model that say when a token was heard and how sure they are."""
FILES = {
    "int8": ["config.json", "vocab.txt", "*.int8.onnx", "*.int8.onnx.data"],
    "none": ["config.json", "vocab.txt", "*-model.onnx", "*-model.onnx.data"],
}
SENTENCE_ENDS = (".", "?", "!", "…")
PAUSE = 1.0
"""Seconds without a word that end a segment."""


class Parakeet(Engine):
    """A transducer of the Parakeet family, window by window."""

    def load(self, model: str, quantization: Literal["int8", "none"] = "int8", threads: int = 0) -> None:
        import onnx_asr  # not before the manifest's variables are set: ONNX Runtime reads one when it starts
        from onnxruntime import SessionOptions

        declared = self.models.manifest.models.get(model)
        self.name, self.languages = model, declared.languages if declared else ["*"]
        folder = self.fetched(self.weights(model), quantization)
        kind = json.loads((folder / "config.json").read_bytes()).get("model_type")
        if kind not in TRANSDUCERS:
            raise ModelUnavailable(f"{model} is no transducer in the format of onnx-asr.")
        small = quantization == "int8" and any(folder.glob("*.int8.onnx"))
        options = SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.model = onnx_asr.load_model(
            kind,
            folder,
            quantization="int8" if small else None,
            sess_options=options,
            providers=["CPUExecutionProvider"],
        ).with_timestamps()

    def fetched(self, weights: str, quantization: str) -> Path:
        """The folder with the model, from the hub if it is not here."""
        if Path(weights).is_dir():
            return Path(weights)
        return Path(snapshot_download(weights, cache_dir=self.models_dir, allow_patterns=FILES[quantization]))

    def transcribe(
        self, audio: Audio, language: str | None = None, word_timestamps: bool = True
    ) -> Generator[Segment, None, Transcript]:
        if language and not {language, "*"} & set(self.languages):
            raise BadInput(f"{self.name} does not know the language {language!r}.")
        samples = np.frombuffer(audio.pcm(), np.int16).astype(np.float32) / 32768.0
        segments, words = [], []
        for begin, end in windows(samples):
            for sentence in sentences(self.heard(samples[begin:end], begin / SAMPLE_RATE)):
                text = "".join(word.text for word in sentence)
                segments.append(Segment(sentence[0].start, sentence[-1].end, text))
                words += sentence
                yield segments[-1]
            self.progress(end / len(samples))
        return Transcript(
            segments=segments,
            words=words if word_timestamps else None,
            language=language or (self.languages[0] if self.languages == ["en"] else None),
            model=self.name,
        )

    def heard(self, samples: np.ndarray, begin: float) -> list[Word]:
        """The words of a window that begins at that second.

        The library tells in which step each token came: a word ends with the step of its last one.
        """
        found, limit = self.model.recognize(samples), begin + len(samples) / SAMPLE_RATE
        words: list[list[tuple[str, float, float]]] = []
        for token in zip(found.tokens, found.timestamps, found.logprobs, strict=True):
            if token[0].startswith(" ") or not words:
                words.append([])
            words[-1].append(token)
        return [
            Word(
                "".join(text for text, _, _ in tokens),
                min(begin + tokens[0][1], limit),
                min(begin + tokens[-1][1] + STEP, limit),
                float(np.exp([logarithm for _, _, logarithm in tokens]).mean()),
            )
            for tokens in words
        ]


def sentences(words: list[Word]) -> Iterator[list[Word]]:
    """The words between full stops and pauses."""
    begin = 0
    for index, word in enumerate(words, 1):
        pause = index < len(words) and words[index].start - word.end >= PAUSE
        if pause or word.text.endswith(SENTENCE_ENDS) or index == len(words):
            yield words[begin:index]
            begin = index


if __name__ == "__main__":
    serve(Parakeet)
