"""Words to segments of a bounded length, cut where a reader would pause.

Pauses and changes of speaker cut always. In between, the cheapest way to cut is found: after
sentences rather than after clauses, after clauses rather than anywhere, and never so that a word
stands alone if that can be helped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from dalston_engine.types import Segment, Transcript, Word
from msgspec import Struct

from dalston.exports.options import ExportOptions

SENTENCE, CLAUSE = tuple(".!?…。！？"), tuple(",;:—–、，；：")  # noqa: RUF001
PIECE, INSIDE, AFTER_CLAUSE, ANYWHERE, ALONE = 1.0, 1.5, 1.0, 4.0, 6.0
"""What it costs to have one more segment, a sentence's end within one, to cut after a clause, to cut
anywhere, and a word alone that does not end what was said."""
WITHIN = 400
"""How many words a segment without a limit is searched for."""


class Passage(Struct):
    """A stretch of what one speaker says."""

    text: str
    start: float
    end: float
    speaker: str | None = None
    words: Sequence[Word] = ()


def passages(
    transcript: Transcript, options: ExportOptions, fits: Callable[[str], bool] = lambda text: True
) -> list[Passage]:
    """The transcript cut as the options say; as the model cut it where they do not, or without words."""
    limits = (
        options.segment_on_silence_longer_than_s,
        options.max_segment_duration_s,
        options.max_segment_chars,
    )
    if not transcript.words or limits == (None, None, None):
        return [_whole(segment, transcript.words or ()) for segment in transcript.segments]
    found = []
    for run in _runs(transcript.words, options.segment_on_silence_longer_than_s):
        found += [_passage(piece) for piece in _pieces(run, options, fits)]
    return found


def width(text: str) -> int:
    """Columns of a text: characters of a wide script count for two, marks on others for none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def joined(words: Sequence[Word]) -> str:
    """The words' text on one line."""
    return " ".join("".join(word.text for word in words).split())


def _whole(segment: Segment, words: Sequence[Word]) -> Passage:
    own = [
        word for word in words
        if word.channel == segment.channel and segment.start <= (word.start + word.end) / 2 < segment.end
    ]  # fmt: skip
    return Passage(" ".join(segment.text.split()), segment.start, segment.end, segment.speaker, own)


def _passage(words: Sequence[Word]) -> Passage:
    return Passage(joined(words), words[0].start, max(word.end for word in words), words[0].speaker, words)


def _runs(words: Sequence[Word], silence: float | None) -> Iterator[list[Word]]:
    """Words that nothing but length parts."""
    run = [words[0]]
    for word, after in pairwise(words):
        if word.speaker != after.speaker or (silence is not None and after.start - word.end > silence):
            yield run
            run = []
        run.append(after)
    yield run


def _pieces(run: list[Word], options: ExportOptions, fits: Callable[[str], bool]) -> list[list[Word]]:
    """The cheapest cut of a run into pieces within the limits; a word that is too long stands alone."""
    if options.max_segment_duration_s is None and options.max_segment_chars is None:
        return [run]
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(run) + 1):
        choices = []
        for start in range(end - 1, max(-1, end - 1 - WITHIN), -1):
            piece = run[start:end]
            if len(piece) > 1 and not _allowed(piece, options, fits):
                break
            choices.append((best[start][0] + _cost(piece, end == len(run)), start))
        best.append(min(choices))
    cuts = [len(run)]
    while cuts[-1]:
        cuts.append(best[cuts[-1]][1])
    return [run[start:end] for end, start in pairwise(cuts)][::-1]


def _allowed(piece: Sequence[Word], options: ExportOptions, fits: Callable[[str], bool]) -> bool:
    if options.max_segment_duration_s and piece[-1].end - piece[0].start > options.max_segment_duration_s:
        return False
    text = joined(piece)
    return (not options.max_segment_chars or width(text) <= options.max_segment_chars) and fits(text)


def _cost(piece: Sequence[Word], last: bool) -> float:
    """Of one piece and of the cut after it."""
    inside = sum(word.text.rstrip().endswith(SENTENCE) for word in piece[:-1])
    alone = ALONE if len(piece) == 1 and not (last and piece[0].text.rstrip().endswith(SENTENCE)) else 0.0
    return PIECE + INSIDE * inside + alone + (0.0 if last else _cut(piece[-1].text.rstrip()))


def _cut(text: str) -> float:
    """Of a cut after a word."""
    if text.endswith(SENTENCE):
        return 0.0
    return AFTER_CLAUSE if text.endswith(CLAUSE) else ANYWHERE
