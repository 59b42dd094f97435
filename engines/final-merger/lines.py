"""Segments with the words they are made of: what stitching, channels and speakers work on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dalston_engine import Segment, Transcript, Word
from msgspec import Struct
from msgspec.structs import replace


class Line(Struct):
    """A segment and its words; joined they are its text."""

    segment: Segment
    words: list[Word]
    timed: bool = True
    """False: its words were not told by an engine; their times are guessed, to find places by."""


def lines_of(transcript: Transcript) -> list[Line]:
    """The segments with their words; where the engine gave none, their times are only guessed at."""
    left, lines = list(reversed(transcript.words or [])), list[Line]()
    for segment in transcript.segments:
        text, said, mine = _bare(segment.text), "", list[Word]()
        while left and said != text:
            more = _bare(left[-1].text)
            if not text.startswith(said + more) and middle(left[-1]) > segment.end:
                break
            said += more
            mine.append(left.pop())
        lines.append(Line(segment, mine or guessed(segment), timed=bool(mine) or not text))
    if lines:
        lines[-1].words += reversed(left)
    return lines


def guessed(segment: Segment) -> list[Word]:
    """A segment's words spread evenly over it: for finding places in it, never for an answer."""
    texts = re.findall(r"\s*[^\W\u0e00-\u9fff\uac00-\ud7af]\S*|\s*\S", segment.text)
    step = (segment.end - segment.start) / max(len(texts), 1)
    return [
        Word(text, segment.start + n * step, segment.start + (n + 1) * step) for n, text in enumerate(texts)
    ]


def part_of(line: Line, words: Sequence[Word]) -> Line:
    """A line with some of its words alone; what the model measured of all its tokens goes."""
    if len(words) == len(line.words):
        return line
    text = "".join(word.text for word in words)
    start, end = words[0].start, max(word.end for word in words)
    segment = replace(line.segment, start=start, end=end, text=text, tokens=None)
    return Line(segment, list(words), line.timed)


def transcript_of(lines: Sequence[Line], like: Transcript, timed: bool) -> Transcript:
    """The lines as a transcript; with the words that an engine has told, if it is `timed`."""
    words = [word for line in lines if line.timed for word in line.words] if timed else None
    return replace(like, segments=[line.segment for line in lines], words=words)


def middle(word: Word) -> float:
    """Seconds."""
    return (word.start + word.end) / 2


def plain(word: Word) -> str:
    """What of a word is spoken, for comparing."""
    return "".join(letter for letter in word.text.casefold() if letter.isalnum())


def _bare(text: str) -> str:
    return "".join(text.split())
