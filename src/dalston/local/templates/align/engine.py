"""Gives words their times: put your model where `measured` is."""

from __future__ import annotations

from dalston_engine import Audio, Engine, Segment, Transcript, Word, serve


class MyEngine(Engine):
    """Leaves the text as it is, and says when each of its words is spoken."""

    def load(self) -> None:
        """Runs once, before the first recording: open your model here."""

    def align(self, audio: Audio, transcript: Transcript) -> Transcript:
        words: list[Word] = []
        for segment in transcript.segments:
            words += measured(audio, segment)
            self.progress(min(segment.end / max(audio.duration, 1e-3), 1.0))
        transcript.words = words
        return transcript


def measured(audio: Audio, segment: Segment) -> list[Word]:
    """The words of a segment, each with its leading space, so that joined they are its text."""
    texts = [f" {text}" for text in segment.text.split()]
    step = (min(segment.end, audio.duration) - segment.start) / max(len(texts), 1)
    return [Word(t, segment.start + n * step, segment.start + (n + 1) * step) for n, t in enumerate(texts)]


if __name__ == "__main__":
    serve(MyEngine)
