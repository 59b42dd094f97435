"""Who said what: words given to turns, smoothed over sentences, and segments cut where speakers change."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest

from dalston_engine import Diarization, Turn, Word
from lines import Line, part_of
from msgspec.structs import replace

NEAR_S = 2.0
"""How far from a turn a word may be and still belong to it: diarizers cut turns closely."""
SENTENCE_ENDS = tuple(".?!\u2026\u3002\uff1f\uff01\u0964\u061f\u06d4")
CLOSING = "\"')]\u00bb\u2019\u201d\u300d\u300f"
"""What may follow the end of a sentence."""
PAUSE_S = 0.5
"""A pause ends a sentence, too."""
SHARE = 0.6
"""Whoever says this much of a sentence has said the few words in it that seem another's, too."""
FEW = 3
"""Words."""
BRIEF_S = 1.0


def attributed(lines: Sequence[Line], spoke: Diarization) -> tuple[list[Line], list[Turn]]:
    """The lines cut where speakers change, and the turns; speakers are numbered as they first appear."""
    said = [word for line in lines for word in line.words]
    whose = _smoothed(said, _by_turns(said, spoke))
    order = dict.fromkeys([who for who in whose if who] + [turn.speaker for turn in spoke.turns])
    names = {who: f"speaker_{number}" for number, who in enumerate(order)}
    speaker = {id(word): names.get(who or "") for word, who in zip(said, whose, strict=True)}
    cut = [piece for line in lines for piece in _cut(line, speaker)]
    return cut, [replace(turn, speaker=names[turn.speaker]) for turn in spoke.turns]


def _cut(line: Line, speaker: dict[int, str | None]) -> Iterator[Line]:
    if not line.words:
        yield line
        return
    if not line.timed:  # nobody knows when its words were said
        times = defaultdict[str | None, float](float)
        for word in line.words:
            times[speaker[id(word)]] += word.end - word.start
        who = max(times, key=lambda one: times[one])
        yield replace(line, segment=replace(line.segment, speaker=who))
        return
    for who, words in groupby(line.words, key=lambda word: speaker[id(word)]):
        piece = part_of(line, list(words))
        said = [replace(word, speaker=who) for word in piece.words]
        yield Line(replace(piece.segment, speaker=who), said)


def _by_turns(words: Sequence[Word], spoke: Diarization) -> list[str | None]:
    """Whose each word is: of who speaks most while it is said, or else of who speaks next to it."""
    turns = sorted(spoke.exclusive or spoke.turns, key=lambda turn: turn.start)
    longest = max((turn.end - turn.start for turn in turns), default=0.0)

    def whose(word: Word) -> str | None:
        first = bisect_left(turns, word.start - longest - NEAR_S, key=lambda turn: turn.start)
        last = bisect_right(turns, word.end + NEAR_S, key=lambda turn: turn.start)
        shared = defaultdict[str, float](float)
        for turn in turns[first:last]:
            shared[turn.speaker] += max(min(turn.end, word.end) - max(turn.start, word.start), 0.0)
        if any(shared.values()):
            return max(shared, key=lambda who: shared[who])
        near = [(max(turn.start - word.end, word.start - turn.end), turn) for turn in turns[first:last]]
        if not near:
            return None
        gap, nearest = min(near, key=lambda one: one[0])
        return nearest.speaker if gap <= NEAR_S else None

    return [whose(word) for word in words]


def _smoothed(words: Sequence[Word], whose: Sequence[str | None]) -> list[str | None]:
    """The same with the few words of a sentence that seem another's given to who says the rest of it."""
    smooth, done = list(whose), 0
    for length in _sentences(words):
        span = range(done, done + length)
        done += length
        shares = defaultdict[str | None, float](float)
        for n in span:
            shares[whose[n]] += words[n].end - words[n].start
        most = max(shares, key=lambda who: shares[who])
        if shares[most] < SHARE * sum(shares.values()):
            continue
        for who, group in groupby(span, key=lambda n: whose[n]):
            run = list(group)
            if who != most and len(run) < FEW and words[run[-1]].end - words[run[0]].start < BRIEF_S:
                smooth[run[0] : run[-1] + 1] = [most] * len(run)
    return smooth


def _sentences(words: Sequence[Word]) -> Iterator[int]:
    """How many words each sentence has."""
    length = 0
    for word, following in zip_longest(words, words[1:]):
        length += 1
        paused = following is not None and following.start - word.end >= PAUSE_S
        if paused or word.text.rstrip().rstrip(CLOSING).endswith(SENTENCE_ENDS):
            yield length
            length = 0
    if length:
        yield length
