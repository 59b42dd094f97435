"""Words to segments of a bounded length, cut where a reader would pause.

Pauses and changes of speaker cut always. In between, the cheapest way to cut is found: after
sentences rather than after clauses, after clauses rather than anywhere, and never so that a word
stands alone if that can be helped.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from dalston_engine.types import Segment, Transcript, Word
from msgspec import Struct, field

from dalston.exports.options import ExportOptions

SENTENCE, CLAUSE = tuple(".!?…。！？؟"), tuple(",;:—–、，；：،")  # noqa: RUF001
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
    words: list[Word] = field(default_factory=list)


class Rows(NamedTuple):
    """How much room there is for a segment."""

    most: int
    columns: int
    """Of each."""


def passages(transcript: Transcript, options: ExportOptions, rows: Rows | None = None) -> list[Passage]:
    """The transcript cut as the options say, so that each segment, with its speaker if that is shown, fits
    into `rows`; as the model cut it where the options say nothing, or without words."""
    limits = (
        options.segment_on_silence_longer_than_s,
        options.max_segment_duration_s,
        options.max_segment_chars,
    )
    if not transcript.words or limits == (None, None, None):
        return _as_cut(transcript.segments, transcript.words or ())
    found = []
    for channel in dict.fromkeys(word.channel for word in transcript.words):
        own = [word for word in transcript.words if word.channel == channel]
        for run in _runs(own, options.segment_on_silence_longer_than_s):
            found += [_passage(piece) for piece in Cutter(run, options, rows).pieces()]
    return sorted(found, key=lambda one: one.start)


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


def label(speaker: str | None, options: ExportOptions) -> str:
    """What comes before the words of a speaker where only a line is at hand."""
    return f"[{speaker}] " if options.include_speakers and speaker else ""


def _as_cut(segments: Sequence[Segment], words: Sequence[Word]) -> list[Passage]:
    """The model's segments; a word belongs to the last of its channel that began before its middle."""
    found = [Passage(" ".join(one.text.split()), one.start, one.end, one.speaker, []) for one in segments]
    places: dict[int | None, list[int]] = defaultdict(list)
    for number in sorted(range(len(segments)), key=lambda n: segments[n].start):
        places[segments[number].channel].append(number)
    for word in words:
        if own := places[word.channel]:
            after = bisect_right(own, (word.start + word.end) / 2, key=lambda n: segments[n].start)
            found[own[max(after - 1, 0)]].words.append(word)
    return found


def _passage(words: Sequence[Word]) -> Passage:
    return Passage(
        joined(words), words[0].start, max(word.end for word in words), words[0].speaker, list(words)
    )


def _runs(words: Sequence[Word], silence: float | None) -> Iterator[list[Word]]:
    """Words that nothing but length parts."""
    run = [words[0]]
    for word, after in pairwise(words):
        if word.speaker != after.speaker or (silence is not None and after.start - word.end > silence):
            yield run
            run = []
        run.append(after)
    yield run


class Cutter:
    """Finds the cheapest cut of a run of words into pieces within the limits.

    Widths and sentences are summed up once, so that a piece is judged without looking at its words.
    """

    def __init__(self, run: Sequence[Word], options: ExportOptions, rows: Rows | None) -> None:
        self.run, self.rows = run, rows
        self.seconds = options.max_segment_duration_s or float("inf")
        self.characters = options.max_segment_chars or 10**9
        self.lead = width(label(run[0].speaker, options))
        texts = [word.text.rstrip() for word in run]
        self.spaces = [len(text) - len(text.lstrip()) for text in texts]
        self.widths = [0, *accumulate(map(width, texts))]
        self.sentence = [text.endswith(SENTENCE) for text in texts]
        self.sentences = [0, *accumulate(self.sentence)]
        self.cuts = [_cut(text) for text in texts]

    def pieces(self) -> list[Sequence[Word]]:
        """The pieces in order; a word that is too long stands alone."""
        if self.seconds == float("inf") and self.characters == 10**9:
            return [self.run]
        best: list[tuple[float, int]] = [(0.0, 0)]
        for end in range(1, len(self.run) + 1):
            chosen = (best[end - 1][0] + self.cost(end - 1, end), end - 1)
            for start in range(end - 2, max(-1, end - 1 - WITHIN), -1):
                if not self.allowed(start, end):
                    break
                chosen = min(chosen, (best[start][0] + self.cost(start, end), start))
            best.append(chosen)
        cuts = [len(self.run)]
        while cuts[-1]:
            cuts.append(best[cuts[-1]][1])
        return [self.run[start:end] for end, start in pairwise(cuts)][::-1]

    def columns(self, start: int, end: int) -> int:
        """The width of a piece."""
        return self.widths[end] - self.widths[start] - self.spaces[start]

    def allowed(self, start: int, end: int) -> bool:
        """Whether a piece of several words is within the limits."""
        if self.run[end - 1].end - self.run[start].start > self.seconds:
            return False
        return self.columns(start, end) <= self.characters and (self.rows is None or self.fits(start, end))

    def fits(self, start: int, end: int) -> bool:
        """Whether a piece takes no more rows than there are, broken between words."""
        assert self.rows is not None
        room = self.rows.columns - self.lead
        for _ in range(self.rows.most):
            if self.columns(start, end) <= room:
                return True
            start = bisect_right(self.widths, self.widths[start] + self.spaces[start] + room, start) - 1
            room = self.rows.columns
        return False

    def cost(self, start: int, end: int) -> float:
        """Of one piece and of the cut after it."""
        last = end == len(self.run)
        inside = self.sentences[end - 1] - self.sentences[start]
        alone = ALONE if end - start == 1 and not (last and self.sentence[start]) else 0.0
        return PIECE + INSIDE * inside + alone + (0.0 if last else self.cuts[end - 1])


def _cut(text: str) -> float:
    """Of a cut after a word."""
    if text.endswith(SENTENCE):
        return 0.0
    return AFTER_CLAUSE if text.endswith(CLAUSE) else ANYWHERE
