"""Channels that were transcribed each by itself, as one transcript; each is a speaker.

What leaks from one channel into another is heard there too, only softer: such words are left out.
"""

from __future__ import annotations

import wave
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import permutations
from statistics import median

from dalston_engine import Audio, ChannelInfo, Transcript, Word
from dalston_engine.types import SAMPLE_RATE
from lines import Line, lines_of, part_of, plain, transcript_of
from msgspec.structs import replace

SOFTER = 0.5
"""A word that another channel has too, at the same time, has leaked when it is softer by 6 dB."""
FAINT = 0.125
"""And anything that is softer by 18 dB, both than what is said on the other channel meanwhile, and than its
own channel's usual words."""

EVERY = 5
"""Of how many samples one is looked at: enough to tell how loud a word is."""
SOME = 50
"""Words that tell how loud a channel usually is."""
LONGEST_S = 10.0
"""How long a word may be."""


def joined(channels: Sequence[Transcript], audio: Sequence[Audio]) -> Transcript:
    """The channels' transcripts on one clock."""
    every = [_named(lines_of(channel), number) for number, channel in enumerate(channels)]
    timed = all(channel.words is not None for channel in channels)
    if timed and len(audio) == len(channels) > 1:
        with ExitStack() as files:
            loudness = [Loudness(files.enter_context(wave.open(str(one.path), "rb"))) for one in audio]
            every = _without_leaks(every, loudness)
    lines = sorted((line for lines in every for line in lines), key=lambda line: line.segment.start)
    languages = {one.language: one.language_probability for one in channels if one.language and one.segments}
    (language, probability), *others = languages.items() or [(None, None)]
    like = Transcript(
        segments=[],
        language=None if others else language,
        language_probability=probability if len(channels) == 1 else None,
        model=next((one.model for one in channels if one.model), None),
        channels=[ChannelInfo(n, c.language, c.language_probability) for n, c in enumerate(channels)],
        warnings=list(dict.fromkeys(warning for one in channels for warning in one.warnings)),
    )
    whole = transcript_of(lines, like, timed)
    whole.words = sorted(whole.words, key=lambda word: word.start) if whole.words is not None else None
    return whole


class Loudness:
    """How loud a channel is at a time."""

    def __init__(self, wav: wave.Wave_read) -> None:
        self.wav, self.known = wav, dict[tuple[int, int], float]()

    def of(self, word: Word) -> float:
        """The mean amplitude while a word is said, in steps of 16 bits."""
        span = int(word.start * SAMPLE_RATE), int(word.end * SAMPLE_RATE)
        if span not in self.known:
            self.known[span] = self._mean(*span)
        return self.known[span]

    def _mean(self, first: int, last: int) -> float:
        first = min(first, self.wav.getnframes())
        self.wav.setpos(first)
        samples = array("h", self.wav.readframes(max(last - first, 0)))[::EVERY]
        return sum(map(abs, samples)) / max(len(samples), 1)


def _named(lines: Sequence[Line], number: int) -> list[Line]:
    who = {"channel": number, "speaker": f"channel_{number}"}
    return [
        Line(replace(line.segment, **who), [replace(word, **who) for word in line.words]) for line in lines
    ]


def _without_leaks(channels: Sequence[Sequence[Line]], loudness: Sequence[Loudness]) -> list[list[Line]]:
    said = [[word for line in lines for word in line.words] for lines in channels]
    usual = [_usual(words, loud) for words, loud in zip(said, loudness, strict=True)]
    leaked = set[int]()
    for here, there in permutations(range(len(said)), 2):
        for word, others in _crossing(said[here], said[there]):
            own, other = loudness[here].of(word), loudness[there].of(word)
            same = any(plain(word) == plain(one) for one in others)
            if (same and own < SOFTER * other) or own < FAINT * min(other, usual[here]):
                leaked.add(id(word))
    return [
        [
            part_of(line, words)
            for line in lines
            if (words := [w for w in line.words if id(w) not in leaked]) or not line.words
        ]
        for lines in channels
    ]


def _usual(words: Sequence[Word], loudness: Loudness) -> float:
    """How loud the words of a channel are, by some of them."""
    return median(map(loudness.of, words[:: len(words) // SOME + 1])) if words else 0.0


def _crossing(words: Sequence[Word], others: Sequence[Word]) -> Iterator[tuple[Word, list[Word]]]:
    """Those words during which something is said on another channel, each with what it is."""
    for word in words:
        first = bisect_left(others, word.start - LONGEST_S, key=lambda one: one.start)
        last = bisect_left(others, word.end, key=lambda one: one.start)
        during = [one for one in others[first:last] if one.end > word.start]
        if during:
            yield word, during
