"""Speech to words with faster-whisper (Whisper on CTranslate2)."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Annotated, Literal

import numpy as np
from ctranslate2 import get_cuda_device_count, set_random_seed
from dalston_engine import Audio, BadInput, Engine, Segment, Transcript, Word, serve
from faster_whisper import WhisperModel
from faster_whisper.vad import VadOptions
from msgspec import Meta

Beam = Annotated[int, Meta(ge=1, le=20)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Seed = Annotated[int, Meta(ge=0, lt=2**32 - 1)]
Threshold = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
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
        self.opened = partial(WhisperModel, weights, **options, cpu_threads=threads)
        self.model = self.opened()

    def encode_with(self, weights: str, options: dict[str, object]) -> None:
        """Give the encoder a copy of a small model on all threads; decoding stays on one.

        Encoding is a few large steps, decoding many tiny ones which more threads only slow down.
        """
        self.model.encode = WhisperModel(weights, **options).encode

    def check(self, language: str | None, task: str) -> None:
        """Raise BadInput for what the model does not know."""
        if language and language not in self.model.supported_languages:
            raise BadInput(f"{self.name} does not know the language {language!r}.")
        if task == "translate" and not self.model.model.is_multilingual:
            raise BadInput(f"{self.name} knows English alone; translate with a multilingual model.")

    def begin_draws(self, seed: int) -> None:
        """Load the model anew: a thread takes the seed when it first draws, and never again."""
        set_random_seed(seed)
        self.model.model = self.opened().model

    def transcribe(
        self,
        audio: Audio,
        language: str | None = None,
        word_timestamps: bool = True,
        temperature: Temperature | None = None,
        beam_size: Beam = 5,
        prompt: str | None = None,
        keyterms: list[str] | None = None,
        task: Literal["transcribe", "translate"] = "transcribe",
        seed: Seed | None = None,
        vad: bool = False,
        vad_threshold: Threshold = 0.5,
        vad_padding_ms: Milliseconds = 400,
        vad_silence_ms: Milliseconds = 2000,
        condition_on_previous_text: bool = True,
    ) -> Generator[Segment, None, Transcript]:
        self.check(language, task)
        if seed is not None and temperature != 0:  # at 0 nothing is drawn
            self.begin_draws(seed)
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
            hotwords=", ".join(keyterms) if keyterms else None,
            task=task,
            vad_filter=vad,
            vad_parameters=VadOptions(
                threshold=vad_threshold, speech_pad_ms=vad_padding_ms, min_silence_duration_ms=vad_silence_ms
            ),
            condition_on_previous_text=condition_on_previous_text,
        )
        segments, words = [], []
        for s in stream:
            segments.append(Segment(s.start, s.end, s.text, None, s.avg_logprob, s.compression_ratio,
                                    s.no_speech_prob, s.temperature, s.tokens, s.seek))  # fmt: skip
            words += [Word(w.word, w.start, w.end, w.probability) for w in s.words or ()]
            self.progress(s.end / audio.duration)
            yield segments[-1]
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
