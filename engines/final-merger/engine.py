"""The job's results joined into the one transcript that is published."""

from __future__ import annotations

from channels import joined
from dalston_engine import Diarization, Engine, Parts, Transcript, serve
from lines import lines_of, transcript_of
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
        transcript.words = transcript.words if words else None
        transcript.text = text_of(transcript)
        transcript.duration = media.duration
        transcript.warnings = media.warnings + transcript.warnings
        return transcript


def text_of(transcript: Transcript) -> str:
    """The words, if there is one for all that was said; where people talk at once, in their order."""
    whole = "".join(segment.text for segment in transcript.segments)
    words = "".join(word.text for word in transcript.words or ())
    return (words if len("".join(words.split())) == len("".join(whole.split())) else whole).strip()


def with_speakers(transcript: Transcript, spoke: Diarization) -> Transcript:
    """The transcript with who said each word, as far as its engine gave words."""
    lines, turns = attributed(lines_of(transcript), spoke)
    whole = transcript_of(lines, transcript, transcript.words is not None)
    whole.turns, whole.warnings = turns, transcript.warnings + spoke.warnings
    return whole


if __name__ == "__main__":
    serve(FinalMerger)
