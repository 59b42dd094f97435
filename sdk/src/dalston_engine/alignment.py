"""What every aligner does beside its model: which words are looked for where, and their times put back.

A transcript is cut into runs: words that follow each other, with the stretch of the recording in which
they must lie. A run is as long as memory allows, since times inside it need not be right; it is cut at
pauses, and before a segment that begins while another one is spoken. Its words come back with times
and scores; a segment that scores too low keeps the times it came with.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from dalston_engine.types import Segment, Transcript, Word

WORD = re.compile(r"\s*\S+(?:\s+$)?")
PAUSE = 1.0
"""Seconds without speech that part two runs."""
MARGIN = 0.5
"""Seconds by which a run may lie outside the times of its segments."""
OVERLAP = 0.3
"""Seconds by which segments overlap because their times are rough; from there on people talk at once."""
HOPELESS = 300.0
"""Seconds of a segment without word times that are too many for one run."""


class Found(NamedTuple):
    """When a word is spoken, and how well it fits there."""

    start: float
    end: float
    score: float
    """The higher, the better the word fits there."""


class Run(NamedTuple):
    """Words to be looked for together."""

    start: float
    end: float
    words: list[int]
    """Which of the transcript's words, in the order they are spoken."""


class Unit(NamedTuple):
    """What is never cut: a segment, or a word of a segment that is too long for one run."""

    start: float
    end: float
    words: list[int]


class Words:
    """The words of a transcript, told by segment; made from the texts if it has none."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.given = bool(transcript.words)
        if transcript.words:
            self.words = transcript.words
            self.of = _by_text(transcript.segments, self.words) or _by_time(transcript.segments, self.words)
        else:
            made = [_spread(segment) for segment in transcript.segments]
            self.words = [word for words in made for word in words]
            indices = iter(range(len(self.words)))
            self.of = [[next(indices) for _ in words] for words in made]

    def runs(self, duration: float, longest: float = 30.0) -> list[Run]:
        """All words in runs of at most `longest` seconds, for a recording of `duration` seconds."""
        found = [part for stretch in _stretches(self._units(longest)) for part in _cut(stretch, longest)]
        spans = [(min(unit.start for unit in part), max(unit.end for unit in part)) for part in found]
        starts, ends = sorted(start for start, _ in spans), sorted(end for _, end in spans)
        runs = []
        for part, (start, end) in zip(found, spans, strict=True):
            before = bisect_left(ends, min(start + OVERLAP, (start + end) / 2)) - 1
            after = bisect_right(starts, max(end - OVERLAP, (start + end) / 2))
            first = max(start - MARGIN, (start + ends[before]) / 2 if before >= 0 else 0.0, 0.0)
            last = min(end + MARGIN, (end + starts[after]) / 2 if after < len(starts) else duration, duration)
            if first < last:
                runs.append(Run(first, last, [index for unit in part for index in unit.words]))
        return runs

    def aligned(self, spans: list[Found | None], least: float) -> Transcript:
        """The transcript with the words' times; segments that score less than `least` keep theirs."""
        words, kept = list(self.words), 0
        for own in filter(None, self.of):
            if _score([spans[index] for index in own]) >= least:
                _place(words, own, spans)
            else:
                kept += 1
        _untangle(self.words, words)
        pairs = zip(self.transcript.segments, self.of, strict=True)
        segments = [_around(segment, [words[i] for i in own]) for segment, own in pairs]
        warnings = list(self.transcript.warnings)
        if kept:
            times = "as they were given" if self.given else "spread evenly"
            warnings.append(
                f"{kept} of {len(segments)} segments were not found: the times of their words are {times}."
            )
        return replace(self.transcript, segments=segments, words=words, warnings=warnings)

    def _units(self, longest: float) -> list[Unit]:
        units = []
        for segment, own in zip(self.transcript.segments, self.of, strict=True):
            if segment.end - segment.start <= longest or not self.given:
                if own and segment.end - segment.start <= HOPELESS:
                    units.append(Unit(segment.start, segment.end, own))
            else:
                units += [Unit(self.words[i].start, self.words[i].end, [i]) for i in own]
        return units


def unaligned(transcript: Transcript, known: list[str]) -> Transcript:
    """The transcript as it is, with a warning that its language is none of the `known` ones."""
    language = transcript.language or "not known"
    warning = f"Words were not aligned: the language is {language}, and this engine knows {', '.join(known)}."
    return replace(transcript, warnings=[*transcript.warnings, warning])


def _by_text(segments: list[Segment], words: list[Word]) -> list[list[int]] | None:
    """Each segment's words when joined they are its text, whitespace aside."""
    sizes = [len("".join(word.text.split())) for word in words]
    result, next_word = [], 0
    for segment in segments:
        missing, own = len("".join(segment.text.split())), []
        while missing > 0 and next_word < len(words):
            missing -= sizes[next_word]
            own.append(next_word)
            next_word += 1
        if missing:
            return None
        result.append(own)
    return result if next_word == len(words) else None


def _by_time(segments: list[Segment], words: list[Word]) -> list[list[int]]:
    """Each word with the last segment that begins before its middle."""
    result: list[list[int]] = [[] for _ in segments]
    order = sorted(range(len(segments)), key=lambda i: segments[i].start)
    starts = [segments[i].start for i in order]
    for index, word in enumerate(words):
        place = max(bisect_right(starts, (word.start + word.end) / 2) - 1, 0)
        if order:
            result[order[place]].append(index)
    return result


def _spread(segment: Segment) -> list[Word]:
    """A segment's text as words, its time divided among them by their letters."""
    texts = WORD.findall(segment.text)
    pace = (segment.end - segment.start) / max(sum(map(len, texts)), 1)
    end, words = segment.start, []
    for text in texts:
        start, end = end, end + len(text) * pace
        words.append(Word(text, start, end, speaker=segment.speaker, channel=segment.channel))
    return words


def _stretches(units: list[Unit]) -> list[list[Unit]]:
    """Units that follow each other without a pause, and of which none begins inside the one before."""
    stretches: list[list[Unit]] = []
    for unit in units:
        last = stretches[-1][-1] if stretches else None
        if last is None or not last.end - OVERLAP <= unit.start < last.end + PAUSE:
            stretches.append([])
        stretches[-1].append(unit)
    return stretches


def _cut(stretch: list[Unit], longest: float) -> list[list[Unit]]:
    """The stretch in parts of at most `longest` seconds, or of one unit."""
    parts, rest = [], [stretch]
    while rest:
        part = rest.pop()
        if len(part) == 1 or part[-1].end - part[0].start <= longest:
            parts.append(part)
            continue
        middle = (part[0].start + part[-1].end) / 2
        gaps = [(max(b.start - a.end, 0.0), -abs(a.end - middle)) for a, b in pairwise(part)]
        at = gaps.index(max(gaps)) + 1
        rest += [part[at:], part[:at]]
    return parts


def _around(segment: Segment, words: list[Word]) -> Segment:
    """The segment from its first word to its last."""
    if not words:
        return segment
    return replace(segment, start=words[0].start, end=max(word.end for word in words))


def _score(spans: list[Found | None]) -> float:
    """The mean score of the words found; minus infinity when there are none."""
    scores = [found.score for found in spans if found]
    return sum(scores) / len(scores) if scores else float("-inf")


def _place(words: list[Word], own: list[int], spans: list[Found | None]) -> None:
    """Put a segment's spans into its words; one that was not looked for goes to the end of the one before."""
    edge = next(found.start for index in own if (found := spans[index]))
    for index in own:
        found = spans[index] or Found(edge, edge, 0.0)
        words[index] = replace(words[index], start=found.start, end=found.end, characters=None)
        edge = found.end


def _untangle(given: list[Word], words: list[Word]) -> None:
    """Let words that followed each other still do so: kept times may reach into aligned ones."""
    for i, (before, after) in enumerate(pairwise(given)):
        if before.end > after.start + OVERLAP or before.start > after.start:
            continue
        start = max(words[i + 1].start, words[i].start)
        words[i + 1] = replace(words[i + 1], start=start, end=max(words[i + 1].end, start))
        words[i] = replace(words[i], end=max(min(words[i].end, start), words[i].start))
