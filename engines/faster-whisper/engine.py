"""Speech to words with faster-whisper (Whisper on CTranslate2)."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from threading import Lock, Thread
from typing import Annotated, Literal

import numpy as np
from ctranslate2 import get_cuda_device_count, set_random_seed
from dalston_engine import Audio, BadInput, Engine, Segment, Transcript, serve
from dalston_engine.live.speech import Speech
from decoding import Decoder, Encoder, Said, Ticking, Wish, fitted, told
from faster_whisper import WhisperModel
from faster_whisper.vad import VadOptions
from live import Ear
from msgspec import Meta
from speech import SILENCE, spans
from windows import RATE, windows

Beam = Annotated[int, Meta(ge=1, le=20)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Seed = Annotated[int, Meta(ge=0, lt=2**32 - 1)]
Threshold = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
SMALL = 400_000_000
"""Bytes of weights up to which a second copy in memory is worth its speed: tiny and base."""
FALLBACKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ENOUGH = 10 * RATE
"""Speech to detect the language in, if the recording has so much of it."""
GPU_BATCH, SMALL_BATCH = 16, 4
"""Windows decoded at a time on a GPU, and by a small model on a CPU. More gain little, the words come later,
and a cancel lands only in between: so a larger model on a CPU takes one at a time."""
LEGS = 2
"""Passes at a time over the same weights: one of a live session does not wait for a recording's."""
Spoken = tuple[str | None, float | None]
"""A language and its probability."""


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
        small = file.exists() and file.stat().st_size < SMALL
        self.batch = GPU_BATCH if device == "cuda" else SMALL_BATCH if small else 1
        self.widen = None
        if device == "cpu" and threads != 1 and small:
            self.widen = Thread(target=self.encode_with, args=(weights, options | {"cpu_threads": threads}))
            threads = 1
        self.opened = partial(WhisperModel, weights, **options, cpu_threads=threads)
        self.model, self.done = self.opened(num_workers=LEGS), 0.0
        self.model.model = Ticking(self.model.model, self.tick)
        self.encoder, self.languages = Encoder(self.model), self.model.supported_languages
        self.ear: Ear | None = None
        self.opening = Lock()

    def encode_with(self, weights: str, options: dict[str, object]) -> None:
        """Give the encoder a copy of a small model on all threads; decoding stays on one.

        Encoding is a few large steps, decoding many tiny ones which more threads only slow down.
        """
        self.model.encode = WhisperModel(weights, **options).encode

    def check(self, language: str | None, task: str) -> None:
        """Raise BadInput for what the model does not know."""
        if language and language not in self.languages:
            raise BadInput(f"{self.name} does not know the language {language!r}.")
        if task == "translate" and not self.model.model.is_multilingual:
            raise BadInput(f"{self.name} knows English alone; translate with a multilingual model.")

    def begin_draws(self, seed: int) -> None:
        """Load the model anew, with one thread: it takes the seed when it first draws, and never again."""
        set_random_seed(seed)
        with self.opening:
            self.model.model = None
            self.model.model = Ticking(self.opened().model, self.tick)

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
        vad: bool = True,
        vad_threshold: Threshold = 0.5,
        vad_padding_ms: Milliseconds = 800,
        vad_silence_ms: Milliseconds = 500,
        condition_on_previous_text: bool | None = None,
    ) -> Generator[Segment, None, Transcript]:
        """`condition_on_previous_text`: by default where the recording is decoded as a whole (no `vad`)."""
        self.check(language, task)
        if seed is not None and temperature != 0:  # at 0 nothing is drawn
            self.begin_draws(seed)
        samples = np.frombuffer(audio.pcm(), np.int16).astype(np.float32) / 32768.0
        temperatures = FALLBACKS if temperature is None else (temperature,)
        before = fitted(self.model, prompt, ", ".join(keyterms) if keyterms else None)
        wish = Wish(language, task, beam_size, temperatures, *before, word_timestamps)
        self.done = 0.0
        voice = VadOptions(
            threshold=vad_threshold, speech_pad_ms=vad_padding_ms, min_silence_duration_ms=vad_silence_ms
        )
        if condition_on_previous_text or not vad:
            stream, spoken = self.whole(samples, wish, voice if vad else None, condition_on_previous_text)
        else:
            stream, spoken = self.windowed(samples, wish, voice)
        segments, words = [], []
        for segment, said in stream:
            segments.append(segment)
            words += said
            self.done = max(self.done, segment.end / audio.duration)
            self.tick()
            yield segment
        if self.widen and self.widen.ident is None:  # not before the first answer, which it would delay
            self.widen.start()
        return Transcript(
            segments=segments,
            words=words if word_timestamps else None,
            language=language or spoken[0],
            language_probability=None if language else spoken[1],
            model=self.name,
        )

    def listen(self, batch: list[Speech]) -> list[Transcript]:
        """What was said in utterances of live sessions; runs beside `transcribe`, in another thread."""
        if self.ear is None:
            with self.opening:
                self.ear = Ear(self.model, self.model.model.model, self.name)
        for speech in batch:
            self.check(speech.language, "transcribe")
        return self.ear.hear(batch)

    def windowed(self, samples: np.ndarray, wish: Wish, voice: VadOptions) -> tuple[Said, Spoken]:
        """Decode the stretches with speech, each for itself, and several at a time."""
        found = windows(spans(samples, voice, self.tick), voice.speech_pad_ms * RATE // 1000, len(samples))
        first = list(islice(found, 1))
        if not first:
            return iter(()), (None, None)
        decoder = Decoder(self.encoder, samples, wish, self.tick)
        spoken: Spoken = wish.language or "en", None
        if wish.language is None and self.model.model.is_multilingual:
            while sum(w.end - w.start for w in first) < ENOUGH and (more := next(found, None)):
                first.append(more)
            spoken = decoder.detect_language(first)
        decoder.speak(spoken[0])
        return decoder.decode_all(chain(first, found), self.batch), spoken

    def whole(
        self, samples: np.ndarray, wish: Wish, voice: VadOptions | None, condition: bool | None
    ) -> tuple[Said, Spoken]:
        """Decode window after window of 30 s, as the library does it."""
        if np.abs(samples).max(initial=0) < SILENCE:
            return iter(()), (None, None)
        stream, info = self.model.transcribe(
            samples, **vars(wish), vad_filter=voice is not None, vad_parameters=voice,
            condition_on_previous_text=condition is not False,
        )  # fmt: skip
        return map(told, stream), (info.language, info.language_probability)

    def tick(self) -> None:
        """Report what is done so far: a cancelled task ends here."""
        self.progress(self.done)


if __name__ == "__main__":
    serve(FasterWhisper)
