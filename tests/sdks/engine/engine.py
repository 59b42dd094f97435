"""A scripted engine that has all that dialects ask of one: two people speak, the second after a while."""

from __future__ import annotations

import time
from collections.abc import Generator

from dalston_engine import Audio, Character, Engine, Segment, Transcript, Word, serve

TURNS = ("good morning everybody", "thank you Ann")
PAUSE_S, STEP_S, PROBABILITY = 0.2, 0.02, 0.9


class Turns(Engine):
    """Says the same in every recording; `max_speakers` of 1 leaves both turns to one person."""

    def transcribe(
        self,
        audio: Audio,
        language: str = "en",
        temperature: float = 0.0,
        keyterms: list[str] | None = None,
        word_timestamps: bool = True,
        characters: bool = False,
        diarize: bool = False,
        max_speakers: int = 2,
    ) -> Generator[Segment, None, Transcript]:
        """The second turn comes a fifth of a second after the first."""
        lines = [turn.split() for turn in TURNS]
        step = audio.duration / sum(map(len, lines))
        segments: list[Segment] = []
        words: list[Word] = []
        for number, line in enumerate(lines):
            who = f"person_{number % max_speakers}" if diarize else None
            said = [word(text, (len(words) + n) * step, step, who) for n, text in enumerate(line)]
            words += said
            whole = "".join(one.text for one in said)
            segments.append(Segment(said[0].start, said[-1].end, whole, who, avg_logprob=-0.1))
            yield segments[-1]
            if number + 1 < len(lines):
                self.pause()
        if not characters:
            for one in words:
                one.characters = None
        return Transcript(segments, words=words if word_timestamps else None, language=language)

    def pause(self) -> None:
        """Think for a while."""
        end = time.monotonic() + PAUSE_S
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(STEP_S, left))
            self.progress(0.5)


def word(text: str, start: float, seconds: float, speaker: str | None) -> Word:
    """A word with its space, which counts as its first character."""
    whole, step = f" {text}", seconds / (len(text) + 1)
    each = [Character(c, start + n * step, start + (n + 1) * step) for n, c in enumerate(whole)]
    return Word(whole, start, start + seconds, PROBABILITY, speaker, None, each)


if __name__ == "__main__":
    serve(Turns)
