"""SubRip (srt) and WebVTT: cues that can be read, and that never overlap."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec
from dalston_engine.types import Transcript

from dalston.exports.cutting import Passage, Rows, label, passages, width
from dalston.exports.lines import lines
from dalston.exports.options import ExportOptions

CHARACTERS_PER_S, LEAST_S, ROWS = 20.0, 0.85, 2


def srt(transcript: Transcript, options: ExportOptions) -> str:
    """SubRip: numbered cues with a comma before the milliseconds."""
    return "\n".join(f"{n}\n{_cue(cue, options, ',')}" for n, cue in enumerate(cues(transcript, options), 1))


def vtt(transcript: Transcript, options: ExportOptions) -> str:
    """WebVTT."""
    return "\n".join(["WEBVTT\n", *(_cue(cue, options, ".") for cue in cues(transcript, options))])


def cues(transcript: Transcript, options: ExportOptions) -> list[Passage]:
    """What is shown when: each long enough to be read where the speech allows, none before the last ends."""
    rows = Rows(ROWS, options.max_characters_per_line or 10**6)
    found = [one for one in passages(transcript, options, rows) if one.text]
    return list(_timed(sorted(found, key=lambda one: one.start)))


def _timed(found: list[Passage]) -> Iterator[Passage]:
    last = 0.0
    for cue, after in pairwise([*found, Passage("", float("inf"), float("inf"))]):
        start = max(cue.start, last)
        wanted = start + max(LEAST_S, width(cue.text) / CHARACTERS_PER_S)
        least = start + min(LEAST_S, cue.end - cue.start)  # where several speak at once, one after the other
        last = max(least, min(max(cue.end, wanted), after.start))
        yield msgspec.structs.replace(cue, start=start, end=last)


def _cue(cue: Passage, options: ExportOptions, mark: str) -> str:
    text = label(cue.speaker, options) + cue.text
    text = "\n".join(lines(text, options.max_characters_per_line or 10**6)).replace("-->", "→")
    if mark == ".":
        text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"{clock(cue.start, mark)} --> {clock(cue.end, mark)}\n{text}\n"


def clock(seconds: float, mark: str) -> str:
    """`HH:MM:SS` and milliseconds after `mark`."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
