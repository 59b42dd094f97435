"""The job's results joined into the one transcript that is published."""

from __future__ import annotations

from channels import joined
from dalston_engine import Diarization, Engine, Parts, Transcript, serve
from lines import lines_of, transcript_of, unbroken
from speakers import attributed
from stitching import stitched


class FinalMerger(Engine):
    """Joins parts, gives words to speakers, sets text, duration and warnings; times stay as measured."""

    def merge(self, parts: Parts, words: bool = True) -> Transcript:
        """`words`: whether they stay in the transcript."""
        media = parts.media
        if media.split == "channels":
            transcript = joined(parts.transcripts, parts.audio)
        elif media.split == "time" and media.spans and len(parts.transcripts) == len(media.spans):
            transcript = stitched(parts.transcripts, media.spans)
        else:
            (transcript,) = parts.transcripts
        if parts.diarization is not None:
            transcript = with_speakers(transcript, parts.diarization)
        transcript.text = "".join(one.text for one in transcript.words or transcript.segments).strip()
        transcript.duration = media.duration
        transcript.warnings = media.warnings + transcript.warnings
        transcript.words = transcript.words if words else None
        return transcript


def with_speakers(transcript: Transcript, spoke: Diarization) -> Transcript:
    """The transcript with who said each word, as far as its engine gave words."""
    timed = transcript.words is not None
    lines, turns = attributed(lines_of(transcript) if timed else unbroken(transcript), spoke)
    whole = transcript_of(lines, transcript, timed)
    whole.turns, whole.warnings = turns, transcript.warnings + spoke.warnings
    return whole


if __name__ == "__main__":
    serve(FinalMerger)
