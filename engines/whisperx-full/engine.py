"""Speech to words and speakers with WhisperX: Whisper on stretches of speech, then times, then voices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import libraries
import numpy as np
from companions import letters_of, open_letters, open_voices
from dalston_engine import Audio, BadInput, Engine, Transcript, serve
from msgspec import Meta
from results import Names, Part, complete, segments, words

Beam = Annotated[int, Meta(ge=1, le=20)]
Speakers = Annotated[int, Meta(ge=1, le=32)]
SILENCE = 0.001
"""A recording that never exceeds -60 dBFS has no words."""
SHARES = {"hear": (0.0, 0.6), "align": (0.6, 0.2), "diarize": (0.8, 0.2)}
"""For progress: at which part of the work a step begins, and how much of it the step is."""


class WhisperXFull(Engine):
    """The library's whole pass: no other engine is needed to align or to tell speakers apart."""

    def load(
        self,
        model: str,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 0,
        diarization: str = "pyannote/speaker-diarization-community-1",
    ) -> None:
        libraries.prepare()
        import torch
        import whisperx

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if compute_type == "auto":
            compute_type = "float16" if device == "cuda" else "int8"
        if threads:
            torch.set_num_threads(threads)
        self.name, self.device, self.diarization = model, device, diarization
        self.letters: tuple[str, Any, Part] | None = None
        self.voices: Any = None
        self.pipeline = whisperx.load_model(
            self.weights(model),
            device,
            compute_type=compute_type,
            download_root=str(self.models_dir),
            local_files_only=self.models.offline,
            threads=threads,
        )
        self.watch(self.pipeline.vad_model.vad_pipeline._segmentation.model)

    def watch(self, network: Any) -> None:
        """Report at every layer of a network, which may be at work for long."""
        for layer in network.modules():
            layer.register_forward_hook(lambda *_: self.progress(self.done))

    def at(self, step: str, percent: float) -> None:
        """Report how far a step is."""
        begin, share = SHARES[step]
        self.done = begin + share * percent / 100
        self.progress(self.done)

    def check(self, language: str | None, task: str, diarize: bool, speakers: dict[str, int | None]) -> None:
        """Raise BadInput for what cannot be."""
        if language and language not in self.pipeline.model.supported_languages:
            raise BadInput(f"{self.name} does not know the language {language!r}.")
        if task == "translate" and not self.pipeline.model.model.is_multilingual:
            raise BadInput(f"{self.name} knows English alone; translate with a multilingual model.")
        number, least, most = speakers.values()
        if not diarize and (number or least or most):
            raise BadInput("How many speak can be said with diarize=true alone.", code="invalid_option")
        if (number or least or 1) > (number or most or 32):
            raise BadInput("min_speakers is greater than max_speakers.", code="invalid_option")

    def transcribe(
        self,
        audio: Audio,
        language: str | None = None,
        word_timestamps: bool = True,
        beam_size: Beam = 5,
        prompt: str | None = None,
        keyterms: list[str] | None = None,
        task: Literal["transcribe", "translate"] = "transcribe",
        align_model: str | None = None,
        diarize: bool = False,
        num_speakers: Speakers | None = None,
        min_speakers: Speakers | None = None,
        max_speakers: Speakers | None = None,
    ) -> Transcript:
        speakers = {"num_speakers": num_speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
        self.check(language, task, diarize, speakers)
        samples = np.frombuffer(audio.pcm(), np.int16).astype(np.float32) / 32768.0
        if np.abs(samples).max(initial=0) < SILENCE:
            return Transcript(segments=[], words=[] if word_timestamps else None, model=self.name)
        spoken, probability = (language, None) if language else self.detected(samples)
        warnings: list[str] = []
        wanted = word_timestamps or diarize  # who speaks is told by words, not by segments of 30 s
        aligned = wanted and self.alignable(spoken, task, align_model, warnings)
        if diarize and not self.voices:  # before the work, so that what cannot be had is refused at once
            self.voices = open_voices(self.models, self.diarization, self.device)
        found = self.heard(samples, spoken, task, beam_size, prompt, keyterms)
        if aligned:
            found = self.timed(found, samples)
        names = self.named(found, samples, speakers, warnings) if diarize and found else {}
        if aligned and word_timestamps and not complete(found):
            warnings.append("Some words were not found in the recording: `words` is without them.")
        return Transcript(
            segments=segments(found, spoken, names, audio.duration),
            words=words(found, spoken, names, audio.duration) if aligned and word_timestamps else None,
            language=spoken,
            language_probability=probability,
            model=self.name,
            warnings=warnings,
        )

    def detected(self, samples: np.ndarray) -> tuple[str, float | None]:
        """The language of the first 30 s and its probability; English models are not asked."""
        if not self.pipeline.model.model.is_multilingual:
            return "en", None
        language, probability, _ = self.pipeline.model.detect_language(samples)
        return language, probability

    def alignable(self, language: str, task: str, name: str | None, warnings: list[str]) -> bool:
        """Open what words are aligned with; False, and a warning, where that makes no sense."""
        name = name or letters_of(language)
        if task == "translate" or name is None:
            what = "a translation" if name else f"the language {language!r}"
            warnings.append(f"No word has a time, and a segment one speaker: WhisperX cannot align {what}.")
            return False
        if self.letters is None or self.letters[0] != f"{name} {language}":
            self.letters = (f"{name} {language}", *open_letters(self.models, name, language, self.device))
            self.watch(self.letters[1])
        return True

    def heard(self, samples: np.ndarray, language: str, task: str, beam_size: int, prompt: str | None,
              keyterms: list[str] | None) -> list[Part]:  # fmt: skip
        """Segments of at most 30 s."""
        terms = ", ".join(keyterms) if keyterms else None
        self.pipeline.options = replace(
            self.pipeline.options, beam_size=beam_size, initial_prompt=prompt, hotwords=terms
        )
        self.done = 0.0
        found = self.pipeline.transcribe(
            samples,
            batch_size=8 if self.device == "cuda" else 1,
            language=language,
            task=task,
            progress_callback=partial(self.at, "hear"),
        )
        return [part for part in found["segments"] if part["text"].strip()]

    def timed(self, found: list[Part], samples: np.ndarray) -> list[Part]:
        """Sentences with their words."""
        import whisperx

        assert self.letters
        _, network, about = self.letters
        return whisperx.align(
            found, network, about, samples, self.device, progress_callback=partial(self.at, "align")
        )["segments"]

    def named(
        self, found: list[Part], samples: np.ndarray, speakers: dict[str, int | None], warnings: list[str]
    ) -> Names:
        """Write the pipeline's speakers into segments and words; returns our names for them."""
        import whisperx

        turns = self.voices(samples, **speakers, progress_callback=partial(self.at, "diarize"))
        whisperx.assign_word_speakers(turns, {"segments": found})
        names: Names = {}
        for who in turns["speaker"]:
            names.setdefault(who, f"speaker_{len(names)}")
        number, least, most = speakers.values()
        if names and not (number or least or 1) <= len(names) <= (number or most or 32):
            warnings.append(f"{len(names)} speakers were found, other than asked for.")
        return names


if __name__ == "__main__":
    serve(WhisperXFull)
