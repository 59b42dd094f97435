"""Speech to words with Whisper as its authors published it, on PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import ct2
import numpy as np
import torch
import whisper
from dalston_engine import Audio, BadInput, Engine, ModelUnavailable, Segment, Transcript, Word, serve
from msgspec import Meta
from whisper.audio import CHUNK_LENGTH
from whisper.timing import dtw
from whisper.tokenizer import LANGUAGES

Beam = Annotated[int, Meta(ge=1, le=20)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
SILENCE = 0.001
"""A recording that never exceeds -60 dBFS has no words; Whisper would make some up."""
FALLBACKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class WhisperOpenAI(Engine):
    """Any Whisper model in the format of its authors, or of CTranslate2, one recording at a time.

    The library says nothing before its end, but has the model's own `decode` called for each window
    of 30 s: this counts them, and a hook of PyTorch on the decoder reports at every token.
    """

    def load(self, model: str, device: str = "auto", threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name, self.model = model, self.opened(model).to(device)
        self.model.eval()
        self.model.decode = self.decode
        self.model.decoder.register_forward_hook(lambda *_: self.progress(self.heard))
        dtw(torch.zeros(1, 1))  # compiled at its first use, which takes seconds

    def opened(self, model: str) -> whisper.Whisper:
        """The model from what was fetched before, the cache, packages, or its publisher."""
        official = whisper.available_models()
        fetched = model in official and (self.models_dir / f"{model}.pt").is_file()
        weights = model if fetched else self.weights(model)
        if weights in official:
            return whisper.load_model(weights, "cpu", download_root=str(self.models_dir))
        if checkpoint := next(Path(weights).glob("*.pt"), None):
            return whisper.load_model(str(checkpoint), "cpu")
        if (Path(weights) / "model.bin").is_file():
            return ct2.load(Path(weights))
        raise ModelUnavailable(f"{model} has neither a checkpoint (.pt) nor a model.bin in its folder.")

    def decode(self, window: torch.Tensor, options: whisper.DecodingOptions) -> whisper.DecodingResult:
        """What the library asks the model for: one window, more than once if its text looks wrong."""
        self.heard += self.share if options.temperature == self.first else 0
        return whisper.decode(self.model, window, options)

    def check(self, language: str | None, task: str) -> None:
        """Raise BadInput for what the model does not know."""
        known = list(LANGUAGES)[: self.model.num_languages] if self.model.is_multilingual else ["en"]
        if language and language not in known:
            raise BadInput(f"{self.name} does not know the language {language!r}.")
        if task == "translate" and not self.model.is_multilingual:
            raise BadInput(f"{self.name} knows English alone; translate with a multilingual model.")

    def detect(self, samples: np.ndarray) -> tuple[str, float | None]:
        """The language of the first 30 s and its probability; English models are not asked."""
        if not self.model.is_multilingual:
            return "en", None
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples), self.model.dims.n_mels)
        _, probabilities = self.model.detect_language(mel.to(self.model.device))
        language = max(probabilities, key=probabilities.get)
        return language, probabilities[language]

    def transcribe(
        self,
        audio: Audio,
        language: str | None = None,
        word_timestamps: bool = True,
        temperature: Temperature | None = None,
        beam_size: Beam | None = None,
        prompt: str | None = None,
        task: Literal["transcribe", "translate"] = "transcribe",
        seed: Seed | None = None,
        condition_on_previous_text: bool = True,
    ) -> Transcript:
        self.check(language, task)
        samples = np.frombuffer(audio.pcm(), np.int16).astype(np.float32) / 32768.0
        if np.abs(samples).max(initial=0) < SILENCE:
            return Transcript(segments=[], words=[] if word_timestamps else None, model=self.name)
        if seed is not None:
            torch.manual_seed(seed)
        temperatures = FALLBACKS if temperature is None else (temperature,)
        self.heard, self.share, self.first = 0.0, CHUNK_LENGTH / audio.duration, temperatures[0]
        detected, probability = (language, None) if language else self.detect(samples)
        result = whisper.transcribe(
            self.model,
            samples,
            language=detected,
            word_timestamps=word_timestamps,
            temperature=temperatures,
            beam_size=beam_size,
            initial_prompt=prompt,
            task=task,
            condition_on_previous_text=condition_on_previous_text,
            fp16=self.model.device.type == "cuda",
        )
        found = [s for s in result["segments"] if s["text"]]
        words = [w for s in found for w in s.get("words", ())]
        end = audio.duration  # the last window is filled up with silence, which a time may lie in
        return Transcript(
            segments=[Segment(min(s["start"], end), min(s["end"], end), s["text"], None, s["avg_logprob"],
                              s["compression_ratio"], s["no_speech_prob"], s["temperature"], s["tokens"],
                              s["seek"]) for s in found],
            words=[Word(w["word"], min(w["start"], end), min(w["end"], end), w["probability"]) for w in words]
            if word_timestamps else None,
            language=detected,
            language_probability=probability,
            model=self.name,
        )  # fmt: skip


if __name__ == "__main__":
    serve(WhisperOpenAI)
