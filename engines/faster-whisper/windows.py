"""Which stretches of a recording are decoded together, and what tells a decoding gone wrong.

Positions are samples at 16 kHz, `FRAME` of them to one frame of the model's input (10 ms).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

RATE = 16_000
FRAME = 160
LONGEST = 24 * RATE
"""Speech in one window. Above 25 s the encoder's cost doubles: its attention no longer fits the cache."""
MOST_PADDING = (30 * RATE - LONGEST) // 2 - FRAME
"""More around it, and the model would not hear all of a window."""
JOIN = 5 * RATE
"""A shorter pause stays inside a window: the model hears the sentence go on."""
UTTERANCE = 12 * RATE
"""A window up to that long is decoded without timestamps: fewer tokens, and it loops less."""
TOKENS_PER_SECOND, TOKENS_MORE = 10, 24
PHRASE = 6
"""So many tokens said twice look like a loop; fewer must come more often."""


@dataclass(frozen=True)
class Window:
    """A stretch to decode at once, with the silence around its speech."""

    start: int
    end: int
    spans: tuple[tuple[int, int], ...]
    """Start and end of each stretch of speech in it, in order."""

    @property
    def speech_start(self) -> int:
        return self.spans[0][0]

    @property
    def speech_end(self) -> int:
        return self.spans[-1][1]

    def speech(self, start: int, end: int) -> int:
        """How much of what lies between two positions is speech."""
        return sum(max(0, min(end, stop) - max(start, begin)) for begin, stop in self.spans)

    def between(self, first: int, last: int) -> Window | None:
        """The part of it from one position to another, if there is speech in it."""
        cut = [(max(start, first), min(end, last)) for start, end in self.spans]
        spans = tuple((start, end) for start, end in cut if start < end)
        return Window(first // FRAME * FRAME, last, spans) if spans else None

    def halves(self) -> tuple[Window, Window] | None:
        """It cut in its longest pause, if there is one."""
        pauses = [(after[0] - before[1], before[1]) for before, after in pairwise(self.spans)]
        if not pauses:
            return None
        length, start = max(pauses)
        first = self.between(self.start, start + length // 2)
        second = self.between(start + length // 2, self.end)
        return (first, second) if first and second else None

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / RATE

    @property
    def short(self) -> bool:
        """Whether it is one utterance, whose times are those of its speech."""
        return self.end - self.start <= UTTERANCE

    @property
    def most_tokens(self) -> int:
        """Nobody speaks in more tokens than that: it is a loop."""
        return int(self.seconds * TOKENS_PER_SECOND) + TOKENS_MORE


def joined(spans: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Neighbouring spans of speech put together, up to LONGEST."""
    held: list[tuple[int, int]] = []
    for start, end in spans:
        if held and (start - held[-1][1] > JOIN or end - held[0][0] > LONGEST):
            yield held
            held = []
        held.append((start, end))
    if held:
        yield held


def windows(spans: Iterable[tuple[int, int]], padding: int, total: int) -> Iterator[Window]:
    """Spans of speech in order as windows with `padding` on each side, none over another."""
    padding = min(padding, MOST_PADDING)
    before, held = 0, list[tuple[int, int]]()
    for found in chain(joined(spans), [[(2 * total + padding, 0)]]):
        if held:
            end = held[-1][1]
            after = min(end + padding, (end + found[0][0]) // 2, total)
            yield Window(max(held[0][0] - padding, before) // FRAME * FRAME, after, tuple(held))
            before = after
        held = found


def loop(tokens: list[int]) -> int | None:
    """Where the same tokens come again: a whole phrase once, or a shorter one more often."""
    for period in range(1, len(tokens) // 2 + 1):
        again, more = 0, 1 if period >= PHRASE else 2 if period > 1 else 5
        for at, (earlier, later) in enumerate(zip(tokens, tokens[period:], strict=False)):
            again = again + 1 if earlier == later else 0
            if again >= period * more:
                return at + 1 - again + period
    return None


def pieces(tokens: list[int], first_timestamp: int) -> Iterator[tuple[int | None, int | None, list[int]]]:
    """Tokens cut at their timestamps: start and end in steps of 20 ms, where told, and the tokens."""
    start: int | None = None
    current: list[int] = []
    for token in tokens:
        if token < first_timestamp:
            current.append(token)
        elif current:
            marks = [] if start is None else [start + first_timestamp]
            yield start, token - first_timestamp, [*marks, *current, token]
            start, current = None, []
        else:
            start = token - first_timestamp
    if current:
        marks = [] if start is None else [start + first_timestamp]
        yield start, None, [*marks, *current]
