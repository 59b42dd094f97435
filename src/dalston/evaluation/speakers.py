"""Diarization error rate, by pyannote.metrics: the time that is given to the wrong speaker, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from dalston_engine.types import Turn, Word
from msgspec import Struct
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate

COLLAR_S = 0.25
"""What the forgiving rate leaves out on each side of every start and end of a turn in the truth."""
PAUSE_S = 0.5
"""Words of one speaker with a shorter pause between them are one turn."""


class Diarized(Struct, frozen=True):
    """Seconds of speech, and of the errors in it; where two speak at once, each counts."""

    total: float
    missed: float
    false_alarm: float
    confusion: float

    def __add__(self, other: Diarized) -> Diarized:
        pairs = zip(_values(self), _values(other), strict=True)
        return Diarized(*(one + another for one, another in pairs))

    @property
    def value(self) -> float:
        """The diarization error rate."""
        return (self.missed + self.false_alarm + self.confusion) / self.total


def _values(one: Diarized) -> list[float]:
    return [one.total, one.missed, one.false_alarm, one.confusion]


def diarization(
    truth: Sequence[Turn], heard: Sequence[Turn], seconds: float, collar: float = 0.0
) -> Diarized:
    """The errors in a recording of so many seconds, overlaps included, with the best match of speakers.

    `collar` is what is left out on each side of the truth's starts and ends, as NIST's md-eval has it;
    pyannote.metrics means both sides together.
    """
    metric = DiarizationErrorRate(collar=2 * collar)
    told: Mapping[str, Any] = metric.compute_components(
        _annotation(truth), _annotation(heard), uem=Timeline([Segment(0, seconds)])
    )
    names = ("total", "missed detection", "false alarm", "confusion")
    return Diarized(*(float(told[name]) for name in names))


def _annotation(turns: Iterable[Turn]) -> Any:
    """Turns as pyannote has them; those of one speaker that overlap are one."""
    annotation = Annotation()
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start, turn.end), number] = turn.speaker
    return annotation.support()


def count(turns: Iterable[Turn]) -> int:
    """How many speakers there are."""
    return len({turn.speaker for turn in turns})


def turns_by_words(words: Iterable[Word]) -> list[Turn]:
    """Turns from words that have speakers, for engines that tell speakers but no turns."""
    turns: list[Turn] = []
    last: dict[str, Turn] = {}
    for word in words:
        if word.speaker is None:
            continue
        turn = last.get(word.speaker)
        if turn is not None and word.start - turn.end < PAUSE_S:
            turn.end = max(turn.end, word.end)
        else:
            last[word.speaker] = Turn(word.start, word.end, word.speaker)
            turns.append(last[word.speaker])
    return turns


def by_turns(words: Iterable[Word], turns: Sequence[Turn]) -> list[Word]:
    """Words given to whoever speaks most while they last, or else is nearest: the plainest way."""
    return [msgspec.structs.replace(word, speaker=_speaker(word, turns)) for word in words]


def _speaker(word: Word, turns: Sequence[Turn]) -> str | None:
    shared = [(min(word.end, turn.end) - max(word.start, turn.start), turn.speaker) for turn in turns]
    return max(shared)[1] if shared else None
