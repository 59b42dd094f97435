"""Breaking a text into lines: balanced, after a clause where that is near, never with a word alone."""

from __future__ import annotations

from collections.abc import Sequence

from dalston.exports.cutting import CLAUSE, SENTENCE, width

ALONE, UNMARKED = 0.8, 0.4
"""What a word alone on a line, and a break in the middle of a clause, weigh beside uneven lines."""


def lines(text: str, limit: int) -> list[str]:
    """The text in as few lines of at most `limit` columns as possible; a longer word has its own."""
    words = _words(text)
    needed = len(_greedy(words, limit))
    if needed != 2:
        return [_text(line) for line in _greedy(words, limit)]
    cuts = [n for n in range(1, len(words)) if max(width(_text(words[:n])), width(_text(words[n:]))) <= limit]
    best = min(cuts, key=lambda n: _badness(words[:n], words[n:])) if cuts else len(_greedy(words, limit)[0])
    return [_text(words[:best]), _text(words[best:])]


def _words(text: str) -> list[str]:
    """What may not be broken: words with the space before them, or single characters of a wide script."""
    found: list[str] = []
    for word in text.split():
        pieces = list(word) if any(width(one) == 2 for one in word) else [word]
        found += [f" {pieces[0]}", *pieces[1:]]
    return found


def _text(words: Sequence[str]) -> str:
    return "".join(words).strip()


def _greedy(words: Sequence[str], limit: int) -> list[list[str]]:
    made: list[list[str]] = []
    left = 0
    for word in words:
        if made and width(word) <= left:
            made[-1].append(word)
            left -= width(word)
        else:
            made.append([word])
            left = limit - width(word.strip())
    return made


def _badness(first: Sequence[str], second: Sequence[str]) -> float:
    above, below = width(_text(first)), width(_text(second))
    uneven = abs(above - below) / max(above + below, 1)
    marked = first[-1].endswith((*SENTENCE, *CLAUSE))
    return uneven + ALONE * (1 in (len(first), len(second))) + (0 if marked else UNMARKED)
