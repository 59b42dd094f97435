"""Everything an engine imports.

An engine is a manifest and a function on audio::

    from dalston_engine import Audio, Engine, Segment, Transcript, serve

    class Shout(Engine):
        def load(self, model: str) -> None:
            self.model = open_model(self.weights(model))

        def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
            segments = []
            for start, end, text in self.model.run(audio.pcm(), language):
                segments.append(Segment(start, end, text))
                self.progress(end / audio.duration)
            return Transcript(segments=segments, language=language)

    if __name__ == "__main__":
        serve(Shout)

The author never sees Redis, leases, retries, files on disk, heartbeats or signals.
"""

from dalston_engine.engine import Engine
from dalston_engine.errors import BadInput, Cancelled, DalstonError, ModelUnavailable, Retry
from dalston_engine.serve import serve
from dalston_engine.types import (
    Audio,
    ChannelInfo,
    Character,
    Diarization,
    Media,
    Parts,
    Segment,
    Span,
    Transcript,
    Turn,
    Word,
)

__all__ = ["Audio", "BadInput", "Cancelled", "ChannelInfo", "Character", "DalstonError", "Diarization",
           "Engine", "Media", "ModelUnavailable", "Parts", "Retry", "Segment", "Span", "Transcript", "Turn",
           "Word", "serve"]  # fmt: skip
