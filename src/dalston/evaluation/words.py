"""Errors in words: how many are wrong, and how far their times are off.

Texts are compared as Whisper's normaliser leaves them: the English one for English, else the basic one.
Languages that do not write spaces, or use them freely, are counted by characters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import jiwer
from dalston_engine.types import Word
from msgspec import Struct
from scipy.optimize import linear_sum_assignment
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

BY_CHARACTERS = {"ja", "ko", "yue", "zh"}


class Rate(Struct, frozen=True):
    """Errors out of so many words or characters of the truth."""

    errors: int
    length: int

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.errors + other.errors, self.length + other.length)

    @property
    def value(self) -> float:
        """The error rate; 1 is as many errors as the truth has words."""
        return self.errors / self.length


class Offsets(Struct):
    """By how many seconds the starts and the ends of matched words differ, absolutely."""

    starts: list[float]
    ends: list[float]
    words: int
    """How many words the truth has, matched or not."""
    places: list[int]
    """Which of the truth's words were matched."""

    def of(self, places: Collection[int]) -> Offsets:
        """Those of some of the truth's words alone."""
        kept = [
            (place, start, end)
            for place, start, end in zip(self.places, self.starts, self.ends, strict=True)
            if place in places
        ]
        return Offsets([start for _, start, _ in kept], [end for *_, end in kept], self.words,
                       [place for place, *_ in kept])  # fmt: skip


def unit(language: str | None) -> str:
    """What is counted in a language."""
    return "characters" if language in BY_CHARACTERS else "words"


def tokens(text: str, language: str | None) -> list[str]:
    """The normalised words, or characters, of a text."""
    plain: str = _normaliser(language == "en")(text)
    return list("".join(plain.split())) if unit(language) == "characters" else plain.split()


@cache
def _normaliser(english: bool) -> Any:
    return EnglishTextNormalizer() if english else BasicTextNormalizer()


def error_rate(truth: str, heard: str, language: str | None) -> Rate:
    """Word error rate, or character error rate: the least insertions, deletions and substitutions."""
    said = tokens(truth, language)
    return Rate(distance(said, tokens(heard, language)), len(said))


def distance(truth: Sequence[str], heard: Sequence[str]) -> int:
    """The edit distance of two lists of tokens without spaces."""
    told = jiwer.process_words(" ".join(truth), " ".join(heard))
    return told.substitutions + told.deletions + told.insertions


def permuted_error_rate(truth: Mapping[str, str], heard: Mapping[str, str], language: str | None) -> Rate:
    """cpWER: each speaker's words joined, and speakers matched so that errors are fewest.

    All words of a speaker with no counterpart are errors.
    """
    said = [tokens(text, language) for text in truth.values()]
    answers = [tokens(text, language) for text in heard.values()]
    size = max(len(said), len(answers))
    for one in (said, answers):
        one += [[] for _ in range(size - len(one))]
    costs = [[distance(one, other) for other in answers] for one in said]
    pairs = zip(*linear_sum_assignment(costs), strict=True) if size else ()
    return Rate(sum(costs[row][column] for row, column in pairs), sum(map(len, said)))


def offsets(truth: Sequence[Word], heard: Sequence[Word]) -> Offsets:
    """How far the times of those words are off that are the same, once both lists are aligned."""
    said, answers = _plain(truth), _plain(heard)
    texts = [" ".join(word for word, _ in one) for one in (said, answers)]
    told = jiwer.process_words(texts[0], texts[1])
    places = [
        (chunk.ref_start_idx + n, chunk.hyp_start_idx + n)
        for chunk in told.alignments[0]
        if chunk.type == "equal"
        for n in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
    pairs = [(said[one][1], answers[other][1]) for one, other in places]
    return Offsets(
        [abs(one.start - other.start) for one, other in pairs],
        [abs(one.end - other.end) for one, other in pairs],
        len(said),
        [one for one, _ in places],
    )


def _plain(words: Sequence[Word]) -> list[tuple[str, Word]]:
    """Words as they are compared: each stays one, so the basic normaliser does for every language."""
    plain = [("".join(_normaliser(False)(word.text).split()), word) for word in words]
    return [(text, word) for text, word in plain if text]
