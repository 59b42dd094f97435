"""Speech to words with faster-whisper (Whisper on CTranslate2)."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Annotated

import numpy as np
from ctranslate2 import get_cuda_device_count
from dalston_engine import Audio, BadInput, Engine, Segment, Transcript, Word, serve
from faster_whisper import WhisperModel
from msgspec import Meta

Beam = Annotated[int, Meta(ge=1, le=20)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
SMALL = 400_000_000
"""Bytes of weights up to which a second copy in memory is worth its speed: tiny and base."""
SILENCE = 0.001
"""A recording that never exceeds -60 dBFS has no words; Whisper would make some up."""
FALLBACKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class FasterWhisper(Engine):
    """Any Whisper model in CTranslate2's format, one recording at a time."""

    def load(self, model: str, device: str = "auto", compute_type: str = "auto", threads: int = 0) -> None:
        if device == "auto":
            device = "cuda" if get_cuda_device_count() else "cpu"
        if compute_type == "auto":
            compute_type = "float16" if device == "cuda" else "int8"
        self.name, weights = model, self.weights(model)
        options = {"device": device, "compute_type": compute_type, "download_root": str(self.models_dir)}
        file = Path(weights) / "model.bin"
        self.widen = None
        if device == "cpu" and threads != 1 and file.exists() and file.stat().st_size < SMALL:
            self.widen = Thread(target=self.encode_with, args=(weights, options | {"cpu_threads": threads}))
            threads = 1
        self.model = WhisperModel(weights, **options, cpu_threads=threads)

    def encode_with(self, weights: str, options: dict[str, object]) -> None:
        """Give the encoder a copy of a small model on all threads; decoding stays on one.

        Encoding is a few large steps, decoding many tiny ones which more threads only slow down.
        """
        self.model.encode = WhisperModel(weights, **options).encode

    def transcribe(
        self,
        audio: Audio,
        language: str | None = None,
        word_timestamps: bool = True,
        temperature: Temperature | None = None,
        beam_size: Beam = 5,
        prompt: str | None = None,
        hotwords: str | None = None,
        vad: bool = False,
        condition_on_previous_text: bool = True,
    ) -> Transcript:
        if language and language not in self.model.supported_languages:
            raise BadInput(f"{self.name} does not know the language {language!r}.")
        samples = np.frombuffer(audio.pcm(), np.int16).astype(np.float32) / 32768.0
        if np.abs(samples).max(initial=0) < SILENCE:
            return Transcript(segments=[], words=[] if word_timestamps else None, model=self.name)
        stream, info = self.model.transcribe(
            samples,
            language=language,
            word_timestamps=word_timestamps,
            temperature=FALLBACKS if temperature is None else temperature,
            beam_size=beam_size,
            initial_prompt=prompt,
            hotwords=hotwords,
            vad_filter=vad,
            condition_on_previous_text=condition_on_previous_text,
        )
        segments, words = [], []
        for s in stream:
            segments.append(Segment(s.start, s.end, s.text, None, s.avg_logprob, s.compression_ratio,
                                    s.no_speech_prob, s.temperature, s.tokens, s.seek))  # fmt: skip
            words += [Word(w.word, w.start, w.end, w.probability) for w in s.words or ()]
            self.progress(s.end / audio.duration)
        if self.widen and self.widen.ident is None:  # not before the first answer, which it would delay
            self.widen.start()
        return Transcript(
            segments=segments,
            words=words if word_timestamps else None,
            language=info.language,
            language_probability=None if language else info.language_probability,
            model=self.name,
        )


if __name__ == "__main__":
    serve(FasterWhisper)
