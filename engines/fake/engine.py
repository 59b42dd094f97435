"""A transcribe engine whose answers the request writes: for tests of everything around engines."""

from __future__ import annotations

import os
import time
from typing import Annotated, Literal

from dalston_engine import Audio, BadInput, Engine, Retry, Segment, Transcript, Word, serve
from msgspec import Meta

STEP_S = 0.02


class Fake(Engine):
    """Says what it is told, as slowly or as wrongly as it is told."""

    def transcribe(
        self,
        audio: Audio,
        text: str = "a scripted answer",
        seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0,
        fail: Literal["bad_input", "retry", "error", "crash"] | None = None,
        language: str = "en",
        word_timestamps: bool = True,
    ) -> Transcript:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(STEP_S, left))
            self.progress(1 - left / seconds)
        match fail:
            case "bad_input":
                raise BadInput("The script says that this recording is bad.")
            case "retry":
                raise Retry("The script says to try again.")
            case "error":
                raise RuntimeError(text)
            case "crash":
                os._exit(1)
        spoken = text.split()
        step = audio.duration / max(len(spoken), 1)
        words = [Word(f" {word}", n * step, (n + 1) * step) for n, word in enumerate(spoken)]
        return Transcript(
            segments=[Segment(0.0, audio.duration, "".join(w.text for w in words))] if words else [],
            words=words if word_timestamps else None,
            language=language,
        )


if __name__ == "__main__":
    serve(Fake)
