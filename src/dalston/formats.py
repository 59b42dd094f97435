"""A transcript as text, SubRip (srt) or WebVTT (vtt)."""

from __future__ import annotations

from collections.abc import Callable

from dalston_engine.types import Segment, Transcript


def text(transcript: Transcript) -> str:
    """The text, a line per segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def srt(transcript: Transcript) -> str:
    """SubRip: numbered cues with a comma before the milliseconds."""
    cues = enumerate(transcript.segments, 1)
    return "\n".join(f"{number}\n{_cue(segment, ',')}" for number, segment in cues)


def vtt(transcript: Transcript) -> str:
    """WebVTT."""
    return "\n".join(["WEBVTT\n", *(_cue(segment, ".") for segment in transcript.segments)])


FORMATS: dict[str, Callable[[Transcript], str]] = {"text": text, "srt": srt, "vtt": vtt}


def _cue(segment: Segment, mark: str) -> str:
    body = " ".join(segment.text.split()).replace("-->", "→")
    if mark == ".":
        body = body.replace("&", "&amp;").replace("<", "&lt;")
    return f"{clock(segment.start, mark)} --> {clock(segment.end, mark)}\n{body}\n"


def clock(seconds: float, mark: str) -> str:
    """`HH:MM:SS` and milliseconds after `mark`."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
