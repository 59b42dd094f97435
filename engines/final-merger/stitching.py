"""The parts of a recording that was cut in time, as one transcript on the recording's clock.

Neighbours have heard the same seconds around their cut. Where both understood the same words, the seam is
between two of these, so that no word is lost or doubled however their times differ; where they agree on
nothing, it is at the cut, which is in a silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from dalston_engine import Span, Transcript, Word
from lines import Line, lines_of, middle, part_of, plain, transcript_of
from msgspec.structs import replace

APART_S = 0.7
"""How far apart two parts may put the same word."""


def stitched(parts: Sequence[Transcript], spans: Sequence[Span]) -> Transcript:
    """One transcript of all parts; `spans` says where each lies."""
    every = [
        [_moved(line, span.start) for line in lines_of(part)] for part, span in zip(parts, spans, strict=True)
    ]
    for (left, right), (span, following) in zip(pairwise(every), pairwise(spans), strict=True):
        _seam(left, right, following.start, span.cut, span.end)
    lines = [line for part in every for line in part]
    languages = _languages(parts, spans)
    like = Transcript(
        segments=[],
        language=languages[0] if languages else None,
        language_probability=parts[0].language_probability if len(languages) == 1 else None,
        model=next((part.model for part in parts if part.model), None),
        warnings=list(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )
    return transcript_of(lines, like, all(part.words is not None for part in parts))


def _languages(parts: Sequence[Transcript], spans: Sequence[Span]) -> list[str]:
    """The languages of parts in which anything was said, that of most time first."""
    seconds: dict[str, float] = defaultdict(float)
    for part, span in zip(parts, spans, strict=True):
        if part.language and part.segments:
            seconds[part.language] += span.end - span.start
    return sorted(seconds, key=lambda language: -seconds[language])


def _moved(line: Line, by: float) -> Line:
    """A line on the recording's clock."""
    seek = line.segment.seek
    segment = replace(
        line.segment,
        start=line.segment.start + by,
        end=line.segment.end + by,
        seek=None if seek is None else seek + round(by * 100),
    )
    return Line(segment, [_word_moved(word, by) for word in line.words])


def _word_moved(word: Word, by: float) -> Word:
    characters = word.characters and [
        replace(one, start=one.start + by, end=one.end + by) for one in word.characters
    ]
    return replace(word, start=word.start + by, end=word.end + by, characters=characters)


def _seam(left: list[Line], right: list[Line], first: float, cut: float, last: float) -> None:
    """Take what both parts have heard between `first` and `last` out of one of them."""
    before = [word for line in left for word in line.words if middle(word) >= first]
    after = [word for line in right for word in line.words if middle(word) <= last]
    pair = _agreed(before, after, cut)
    if pair is None:
        gone = {id(word) for word in before if middle(word) >= cut}
        gone |= {id(word) for word in after if middle(word) < cut}
    else:
        gone = {id(word) for word in before[pair[0] + 1 :]}
        gone |= {id(word) for word in after[: pair[1] + 1]}
    for lines in (left, right):
        kept = [(line, [word for word in line.words if id(word) not in gone]) for line in lines]
        lines[:] = [part_of(line, words) for line, words in kept if words or not line.words]


def _agreed(before: Sequence[Word], after: Sequence[Word], cut: float) -> tuple[int, int] | None:
    """The places of the word on which both agree that is nearest to the cut, if there is one."""
    pairs = _common(before, after)
    return min(pairs, key=lambda pair: abs(before[pair[0]].end - cut), default=None)


def _common(before: Sequence[Word], after: Sequence[Word]) -> list[tuple[int, int]]:
    """The longest common subsequence of words said at the same time; of those as long, the one whose times
    agree best."""
    best: list[tuple[int, float, list[tuple[int, int]]]] = [(0, 0.0, [])] * (len(after) + 1)
    for n, left in enumerate(before):
        row = best[:1]
        for m, right in enumerate(after):
            candidates = [row[m], best[m + 1]]
            apart = min(abs(left.start - right.start), abs(left.end - right.end))
            if apart < APART_S and plain(left) == plain(right) != "":
                length, agreement, pairs = best[m]
                candidates.append((length + 1, agreement - apart, [*pairs, (n, m)]))
            row.append(max(candidates, key=lambda one: one[:2]))
        best = row
    return best[-1][2]
