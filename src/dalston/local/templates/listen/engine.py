"""Hears utterances of live sessions: put your model where `describe` is."""

from __future__ import annotations

import numpy as np
from dalston_engine import Engine, Segment, Transcript, serve
from dalston_engine.live.speech import Speech

SILENCE = 0.001


class MyEngine(Engine):
    """Says of each utterance what `describe` says of it."""

    def load(self) -> None:
        """Runs once, before the first session: open your model here."""

    def listen(self, batch: list[Speech]) -> list[Transcript]:
        """One transcript for each utterance, in their order: give them to your model together, if it can."""
        return [Transcript(segments=describe(speech)) for speech in batch]


def describe(speech: Speech) -> list[Segment]:
    """What was said, with times from the utterance's first sample; nothing where nobody speaks.

    An utterance that is not `final` is soon replaced by one that is longer: there, be quick.
    """
    loudest = float(np.abs(speech.samples).max(initial=0.0))
    return (
        [Segment(0.0, speech.seconds, f" peak {loudest:.2f}")]
        if speech.seconds > 0.1 and loudest > SILENCE
        else []
    )


if __name__ == "__main__":
    serve(MyEngine)
