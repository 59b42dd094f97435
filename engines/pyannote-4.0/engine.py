"""Who speaks when, with pyannote.audio 4.0's own pipeline `pyannote/speaker-diarization-community-1`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from dalston_engine import Audio, BadInput, Diarization, Engine, Turn, serve
from msgspec import Meta

if TYPE_CHECKING:
    from pyannote.core import Annotation

Speakers = Annotated[int, Meta(ge=1, le=32)]
SHARES = {"segmentation": (0.0, 0.3), "speaker_counting": (0.3, 0.0), "embeddings": (0.3, 0.65)}
"""For progress: at which part of the work a step of the pipeline begins, and which part of it the step is."""


def forgo_libraries() -> None:
    """Let pyannote.audio be imported beside any build of PyTorch; call it before that."""
    # torchaudio's libraries are built for one CUDA release, and importing it beside another build of PyTorch
    # fails. Only its pure Python is used here, so what loads them is replaced by "there are no libraries".
    loader: Any = ModuleType("torchaudio._extension")
    loader._IS_TORCHAUDIO_EXT_AVAILABLE, loader.fail_if_no_align = False, lambda function: function
    sys.modules[loader.__name__] = loader
    sys.modules["torchcodec"] = None  # type: ignore[assignment]  # it decodes files, and here none are opened


class Pyannote(Engine):
    """The pipeline, one recording at a time."""

    def load(self, model: str, device: str = "auto", threads: int = 0) -> None:
        forgo_libraries()
        from pipeline import opened

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads:
            torch.set_num_threads(threads)
        self.name = model
        with redirect_stdout(sys.stderr):  # the library prints; here the result is printed
            self.pipeline = opened(model, self.weights, self.models_dir)
        self.pipeline.to(torch.device(device))
        batch = 32 if device.startswith("cuda") else 4
        self.pipeline.segmentation_batch_size = self.pipeline.embedding_batch_size = batch

    def diarize(
        self,
        audio: Audio,
        num_speakers: Speakers | None = None,
        min_speakers: Speakers | None = None,
        max_speakers: Speakers | None = None,
        embeddings: bool = False,
    ) -> Diarization:
        least, most = num_speakers or min_speakers or 1, num_speakers or max_speakers or 1_000
        if least > most:
            raise BadInput("min_speakers is greater than max_speakers.", code="invalid_option")
        samples = np.frombuffer(audio.pcm(), np.int16).astype(np.float32) / 32768.0
        if not len(samples):
            return Diarization([], [], {} if embeddings else None, self.name)
        file = {"waveform": torch.from_numpy(samples)[None], "sample_rate": 16_000}
        hints = {"num_speakers": num_speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
        with redirect_stdout(sys.stderr):
            found = self.pipeline(file, **hints, hook=self.at)
        names: dict[str, str] = {}
        result = Diarization(
            turns=turns(found.speaker_diarization, names, audio.duration),
            exclusive=turns(found.exclusive_speaker_diarization, names, audio.duration),
            model=self.name,
        )
        if names and not least <= len(names) <= most:
            result.warnings.append(f"Speakers found: {len(names)}, which is not what was asked for.")
        if embeddings:
            labels = found.speaker_diarization.labels()
            vectors = dict(zip(labels, found.speaker_embeddings, strict=True))
            result.embeddings = voices(vectors, names)
        return result

    def at(self, step: str, _: Any, completed: int = 1, total: int = 1, **__: Any) -> None:
        """Called by the pipeline within a step and at its end."""
        begin, share = SHARES.get(step, (0.95, 0.0))
        self.progress(begin + share * min(completed / total, 1.0))


def turns(annotation: Annotation, names: dict[str, str], duration: float) -> list[Turn]:
    """The annotation's turns in order; a speaker who has no name yet gets the next one."""
    return [
        Turn(max(where.start, 0.0), min(where.end, duration), names.setdefault(who, f"speaker_{len(names)}"))
        for where, _, who in annotation.itertracks(yield_label=True)
        if where.start < duration
    ]


def voices(vectors: dict[str, Any], names: dict[str, str]) -> dict[str, list[float]]:
    """Each speaker's vector, made 1 long; none for who never spoke alone for long enough."""
    lengths = {who: np.linalg.norm(vectors[who]) for who in names}
    return {name: (vectors[who] / lengths[who]).tolist() for who, name in names.items() if lengths[who] > 0}


if __name__ == "__main__":
    serve(Pyannote)
