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

from dalston_engine.engine import Engine as Engine
from dalston_engine.errors import BadInput as BadInput
from dalston_engine.errors import Cancelled as Cancelled
from dalston_engine.errors import DalstonError as DalstonError
from dalston_engine.errors import ModelUnavailable as ModelUnavailable
from dalston_engine.errors import Retry as Retry
from dalston_engine.serve import serve as serve
from dalston_engine.types import Audio as Audio
from dalston_engine.types import Media as Media
from dalston_engine.types import Parts as Parts
from dalston_engine.types import Segment as Segment
from dalston_engine.types import Transcript as Transcript
from dalston_engine.types import Word as Word
