"""Joins what the other stages left into the transcript that is published: put your own rules in `tidy`."""

from __future__ import annotations

from dalston_engine import BadInput, Engine, Parts, Transcript, serve


class MyEngine(Engine):
    """Sets the text and the duration; times stay as they were measured."""

    def merge(self, parts: Parts) -> Transcript:
        if len(parts.transcripts) != 1:
            raise BadInput("This engine joins no channels: ask for the recording as a whole.")
        (transcript,) = parts.transcripts
        transcript.text = tidy("".join(segment.text for segment in transcript.segments))
        transcript.duration = parts.media.duration
        transcript.warnings = parts.media.warnings + transcript.warnings
        return transcript


def tidy(text: str) -> str:
    """The whole text as it is published."""
    return text.strip()


if __name__ == "__main__":
    serve(MyEngine)
