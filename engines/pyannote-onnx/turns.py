"""From who speaks in each window to turns: votes of overlapping windows, frame by frame."""

from __future__ import annotations

import numpy as np
from dalston_engine import Turn

FRAME, FIRST = 270, 495
"""Samples from one frame to the next, and to the middle of the first."""
RATE = 16_000
GAP, MARGIN, BLIP = 30, 3, 4
"""Frames of silence (0.5 s) that do not end a turn; that a turn may take at both ends, where speech is soft
and the network late; of speech that are too few to be any."""
SHORTEST = 0.1
"""Seconds a turn lasts at least."""
ONSET = 0.55
"""What the mean probability comes to at least where somebody speaks, or one more."""

Piece = tuple[int, int, int]
"""First frame, first after the last, and speaker."""
Span = tuple[float, float, int]
"""Start, end and speaker."""


class Votes:
    """What all windows say of each frame of a recording."""

    def __init__(self, frames: int, speakers: int) -> None:
        self.weight = np.zeros(frames, np.float32)
        self.count = np.zeros(frames, np.float32)
        self.speech = np.zeros((frames, speakers), np.float32)

    def add(self, first: int, probabilities: np.ndarray, owners: list[int | None]) -> None:
        """A window's (frame, local speaker) from frame `first` on; `owners` are the speakers they are."""
        weight = np.hamming(len(probabilities)).astype(np.float32)  # a window knows least at its ends
        frames = slice(first, first + len(probabilities))
        self.weight[frames] += weight
        self.count[frames] += weight * probabilities.sum(axis=1, dtype=np.float32)
        for local, speaker in enumerate(owners):
            if speaker is not None:
                self.speech[frames, speaker] += weight * probabilities[:, local]

    def ranked(self, at_once: int) -> np.ndarray:
        """(frame, rank): the speakers of each frame, the surest first, -1 where nobody else speaks."""
        count = np.floor(self.count / np.maximum(self.weight, 1e-6) + 1 - ONSET)
        ranks = np.full((len(count), at_once), -1, np.int16)
        rest = self.speech.copy()
        rows = np.arange(len(count))
        for rank in range(min(at_once, rest.shape[1])):
            best = rest.argmax(axis=1)
            speaks = (count > rank) & (rest[rows, best] > 0)
            ranks[speaks, rank] = best[speaks]
            rest[rows, best] = 0
        return ranks


def runs(active: np.ndarray) -> list[tuple[int, int]]:
    """The stretches of true values, as indices of their first and of the first after them."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def pieces(ranks: np.ndarray) -> list[Piece]:
    """Who speaks without a break, in order: blips left out, margins taken and pauses closed in silence."""
    everyone = range(int(ranks.max(initial=-1)) + 1)
    found = [(a, b, who) for who in everyone for a, b in runs((ranks == who).any(axis=1)) if b - a > BLIP]
    silent = np.ones(len(ranks), bool)
    for begin, end, _ in found:
        silent[begin:end] = False
    whole: list[Piece] = []
    for begin, end, who in found:
        begin -= int(silent[max(begin - MARGIN, 0) : begin][::-1].cumprod().sum())
        end += int(silent[end : end + MARGIN].cumprod().sum())
        if (
            whole
            and whole[-1][2] == who
            and begin - whole[-1][1] < GAP
            and silent[whole[-1][1] : begin].all()
        ):
            begin = whole.pop()[0]
        whole.append((begin, end, who))
    return sorted(whole)


def spans(found: list[Piece], frames: int, duration: float) -> list[Span]:
    """Pieces in seconds; what reaches an end of the frames reaches that end of the recording."""
    timed = [
        (seconds(begin) if begin else 0.0, min(seconds(end), duration) if end < frames else duration, who)
        for begin, end, who in found
    ]
    return [span for span in timed if span[1] - span[0] >= SHORTEST]


def seconds(frame: int) -> float:
    """The middle of a frame."""
    return (FIRST + FRAME * frame) / RATE


def overlapping(ranks: np.ndarray, duration: float) -> list[Span]:
    """Each speaker's turns, by their start; those of different speakers may overlap."""
    return spans(pieces(ranks), len(ranks), duration)


def exclusive(ranks: np.ndarray, duration: float) -> list[Span]:
    """Turns of the surest speaker alone; where margins meet, they end half-way."""
    apart: list[Piece] = []
    for begin, end, who in pieces(ranks[:, :1]):
        if apart and apart[-1][1] > begin:
            before = apart[-1]
            begin = (before[1] + begin) // 2
            apart[-1] = (before[0], begin, before[2])
        apart.append((begin, end, who))
    return spans(apart, len(ranks), duration)


def named(spans: list[Span], names: dict[int, str]) -> list[Turn]:
    """Turns of the speakers that have a name."""
    return [Turn(floored(a), floored(b), names[speaker]) for a, b, speaker in spans if speaker in names]


def floored(time: float) -> float:
    """Whole milliseconds, never after the recording's end."""
    return int(time * 1000) / 1000
