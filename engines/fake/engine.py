"""A transcribe engine whose answers the request writes: for tests of everything around engines.

Live sessions say what they are told by the audio itself: `tests/tones.py` speaks numbers, and this engine
writes them, each with its times: `said([1, 2], [3])` becomes "1 2" and "3". A number depends on its own half
second and nothing else, so audio that was lost, or heard twice, shows. A burst without a number is "?".
Saying one of TRAPS makes the pass go wrong, and `DALSTON_FAKE_PASS_SECONDS` makes every pass slow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import Annotated, Literal

from dalston_engine import Audio, BadInput, Character, Engine, Retry, Segment, Transcript, Word, serve
from dalston_engine.live.speech import Speech
from msgspec import Meta

STEP_S = 0.02
Seconds = Annotated[float, Meta(ge=0, le=3600)]
TRAPS = {97: "hang", 98: "error", 99: "crash"}
"""Numbers that must not be said to it."""


class Fake(Engine):
    """Says what it is told, as slowly or as wrongly as it is told; every line of `text` is a segment."""

    def load(self, pass_seconds: Seconds = 0.0) -> None:
        """`pass_seconds`: how long a pass over utterances of live sessions takes."""
        self.pass_seconds = pass_seconds

    def transcribe(
        self,
        audio: Audio,
        text: str = "a scripted answer",
        seconds: Seconds = 0.0,
        pause: Seconds = 0.0,
        fail: Literal["bad_input", "retry", "error", "crash"] | None = None,
        language: str = "en",
        task: Literal["transcribe", "translate"] = "transcribe",
        keyterms: list[str] | None = None,
        word_timestamps: bool = True,
        characters: bool = False,
        diarize: bool = False,
        max_speakers: Annotated[int, Meta(ge=1, le=32)] = 2,
    ) -> Generator[Segment, None, Transcript]:
        """`pause` seconds follow each segment; with `diarize` the segments take turns at speaking."""
        self.wait(seconds)
        self.fail(fail, text)
        lines = [line.split() for line in text.splitlines() if line.split()]
        step = audio.duration / max(sum(map(len, lines)), 1)
        segments: list[Segment] = []
        words: list[Word] = []
        for n, line in enumerate(lines):
            start, who = len(words), f"speaker_{n % max_speakers}" if diarize else None
            words += [said(word, (start + m) * step, step, who, characters) for m, word in enumerate(line)]
            whole = "".join(word.text for word in words[start:])
            segments.append(Segment(words[start].start, words[-1].end, whole, who))
            yield segments[-1]
            self.wait(pause)
        return Transcript(segments, words=words if word_timestamps else None, language=language)

    def listen(self, batch: list[Speech]) -> list[Transcript]:
        """The numbers spoken in each utterance."""
        time.sleep(self.pass_seconds)
        return [self.heard(speech) for speech in batch]

    def heard(self, speech: Speech) -> Transcript:
        from hearing import words  # here, since numpy would delay an engine that does not listen

        found = words(speech.samples)
        for trap, how in TRAPS.items():
            if any(word.text == f" {trap}" for word in found):
                time.sleep(3600) if how == "hang" else self.fail(how, "")
        text, language = "".join(word.text for word in found), speech.language or "en"
        segments = [Segment(found[0].start, found[-1].end, text)] if found else []
        return Transcript(segments, found if speech.words else None, language=language)

    def wait(self, seconds: float) -> None:
        """Report progress until the time is over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(STEP_S, left))
            self.progress(1 - left / seconds)

    def fail(self, how: str | None, text: str) -> None:
        """Go wrong as the script says."""
        match how:
            case "bad_input":
                raise BadInput("The script says that this recording is bad.")
            case "retry":
                raise Retry("The script says to try again.")
            case "error":
                raise RuntimeError(text)
            case "crash":
                os._exit(1)


def said(word: str, start: float, seconds: float, speaker: str | None, characters: bool) -> Word:
    """A word with its space, which counts as its first character."""
    text, step = f" {word}", seconds / (len(word) + 1)
    each = [Character(c, start + n * step, start + (n + 1) * step) for n, c in enumerate(text)]
    return Word(text, start, start + seconds, 1.0, speaker, None, each if characters else None)


if __name__ == "__main__":
    serve(Fake)
