"""Forced alignment with a CTC model: the most probable way through its frames that says given words.

Between two labels of a word lies the blank, as CTC has it. Before, between and after words lies either
the blank or something that the words do not cover, which costs EXTRA a frame: transcripts leave words out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dalston_engine.alignment import Found

STAR = -1
"""A label for what the model has no label for: it fits every frame."""
ANYTHING = 0.5
"""What a frame of it costs in log probability, lest it take those of other labels."""
EXTRA = 2.0
"""What a frame outside the words costs."""
INSIDE, BETWEEN = -1, -2
"""Whose a blank is when it is no word's: between labels of one, or between words."""

Frames = tuple[int, int, float]
"""A word's first frame, its last one, and the mean log probability of its labels there."""


class Clock(NamedTuple):
    """How a model's frames tell time; all in seconds."""

    frame: float
    lag: float = 0.0
    """By how much labels come after the sounds they stand for."""
    join: float = 0.0
    """From one word's last label to the next one's first: up to here there is no pause between them."""
    tail: float = 0.0
    """From the last label of a word before a pause to the word's end."""

    def words(self, frames: list[Frames], first: int, end: float) -> list[Found]:
        """The times of words in frames counted from the recording's frame `first`, none after `end`."""
        starts = [min((first + begin) * self.frame - self.lag, end) for begin, _, _ in frames]
        found = []
        for (_, last, score), start, after in zip(frames, starts, [*starts, None][1:], strict=True):
            stop = (first + last + 1) * self.frame - self.lag
            limit = end if after is None else after
            joined = after is not None and after - stop < self.join
            found.append(Found(start, max(start, limit if joined else min(stop + self.tail, limit)), score))
        return found


def align(log_probs: NDArray[np.float32], words: list[list[int]], blank: int) -> list[Frames]:
    """The frames of each word, none of which may be without labels; none when there are too few frames.

    `log_probs` has a row a frame and a column a label.
    """
    states, owners = [blank], [BETWEEN]
    for number, word in enumerate(words):
        for label in word:
            states += [label, blank]
            owners += [number, INSIDE]
        owners[-1] = BETWEEN
    labels, owner = np.array(states), np.array(owners)
    frames, columns = _extended(log_probs, blank), np.where(owner == BETWEEN, -2, labels)
    path = _best_path(frames, columns, _skips(labels))
    if path is None:
        return []
    scores, said, found = frames[np.arange(len(path)), columns[path]], owner[path], []
    for number in range(len(words)):
        (where,) = np.nonzero(said == number)
        found.append((int(where[0]), int(where[-1]), float(scores[where].mean())))
    return found


def _extended(log_probs: NDArray[np.float32], blank: int) -> NDArray[np.float32]:
    """Two columns more: the last but one for what lies between words, the last one for STAR."""
    silence, sounds = log_probs[:, blank], np.delete(log_probs, blank, axis=1).max(axis=1)
    between, anything = np.maximum(silence, sounds - EXTRA), np.maximum(silence, sounds) - ANYTHING
    return np.column_stack((log_probs, between, anything))


def _skips(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """For each state whether the blank before it can be left out: 0, or minus infinity."""
    skips = np.full(len(labels), -np.inf, np.float32)
    skips[3::2] = np.where(labels[3::2] == labels[1:-2:2], -np.inf, 0.0)
    return skips


def _best_path(
    frames: NDArray[np.float32], columns: NDArray[np.int64], skips: NDArray[np.float32]
) -> NDArray[np.int64] | None:
    """The state of each frame on the most probable way (Viterbi), or None."""
    states, everywhere = len(columns), np.arange(len(columns))
    back = np.zeros((len(frames), states), np.int8)
    padded = np.full(states + 2, -np.inf, np.float32)
    padded[2] = 0.0  # one state before the first frame, from which the first two can be reached
    for t, frame in enumerate(frames):
        ways = np.stack((padded[2:], padded[1:-1], padded[:-2] + skips))
        back[t] = ways.argmax(axis=0)
        padded[2:] = ways[back[t], everywhere] + frame[columns]
    state = states - 1 if padded[-1] >= padded[-2] else states - 2
    if states < 3 or not np.isfinite(padded[2 + state]):
        return None
    path = np.empty(len(frames), np.int64)
    for t in range(len(frames) - 1, -1, -1):
        path[t] = state
        state -= int(back[t, state])
    return path
