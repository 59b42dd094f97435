"""From WhisperX's segments and words to ours."""

from __future__ import annotations

from typing import Any

from dalston_engine import Segment, Word

Part = dict[str, Any]
"""A segment or a word as WhisperX has it."""
Names = dict[str | None, str]
"""What we call a speaker of WhisperX."""


def segments(found: list[Part], language: str, names: Names, duration: float) -> list[Segment]:
    """All segments of a recording of `duration` seconds."""
    return [
        Segment(
            *_span(part, duration),
            _before(language) + part["text"].strip(),
            names.get(part.get("speaker")),
            float(part["avg_logprob"]),
        )
        for part in found
    ]


def complete(found: list[Part]) -> bool:
    """Whether every word has its times."""
    return all(part["words"] and all(map(_timed, part["words"])) for part in found)


def words(found: list[Part], language: str, names: Names, duration: float) -> list[Word]:
    """All words that have times."""
    return [
        Word(_before(language) + word["word"], *_span(word, duration), None, names.get(word.get("speaker")))
        for part in found
        for word in part["words"]
        if _timed(word)
    ]


def _timed(word: Part) -> bool:
    return "start" in word and "end" in word


def _before(language: str) -> str:
    """What parts words, which WhisperX leaves out; in Japanese and Chinese its words are characters."""
    return "" if language in {"ja", "zh"} else " "


def _span(part: Part, duration: float) -> tuple[float, float]:
    return min(float(part["start"]), duration), min(float(part["end"]), duration)
