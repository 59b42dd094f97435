"""The job's results joined into the one transcript that is published."""

from __future__ import annotations

from dalston_engine import Engine, Parts, Transcript, serve


class FinalMerger(Engine):
    """Sets text, duration and warnings; segments and words keep the times they were measured at."""

    def merge(self, parts: Parts) -> Transcript:
        (transcript,) = parts.transcripts
        transcript.text = "".join(segment.text for segment in transcript.segments).strip()
        transcript.duration = parts.media.duration
        transcript.warnings = parts.media.warnings + transcript.warnings
        return transcript


if __name__ == "__main__":
    serve(FinalMerger)
