"""What an engine that listens is given."""

from typing import Any

from msgspec import Struct

from dalston_engine.types import Audio


class Speech(Struct):
    """One utterance as far as it was spoken, of some session."""

    samples: Any
    """Mono float32, 16 kHz, -1 to 1: the speech with some silence on either side."""
    final: bool
    """True: the best that can be had; False: soon replaced, so quick rather than right."""
    language: str | None = None
    """ISO 639-1; None: to be detected, and told in the answer."""
    words: bool = False
    """Whether word times are wanted."""
    prompt: str | None = None
    keyterms: list[str] = []
    previous: str | None = None
    """The text of the utterances before."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / 16_000


def utterance(audio: Audio, **how: Any) -> Speech:
    """Prepared audio as one utterance, final unless `how` says otherwise."""
    import numpy as np

    return Speech(np.frombuffer(audio.pcm(), "<i2").astype(np.float32) / 32768, **{"final": True, **how})
