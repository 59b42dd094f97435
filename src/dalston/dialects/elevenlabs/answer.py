"""From a transcript to the vendor's answer: one chunk, or one for each channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from dalston_engine.types import Transcript, Word

from dalston.dialects.base import Answer, Finished
from dalston.dialects.languages import long

LEAST = -100.0
"""The logarithm of a probability that the model rounds to zero."""


def answer(finished: Finished) -> Answer:
    """The finished transcript as `GET` and `POST` answer it."""
    return Answer(msgspec.json.encode(body(finished)))


def body(finished: Finished) -> dict[str, Any]:
    """The answer's fields; what was not measured is absent."""
    transcript, asked = finished.transcript, finished.asked
    told = chunk(transcript, words_of(transcript, asked.get("timestamps", "word")))
    told["transcription_id"] = finished.id
    if transcript.duration is not None:
        told["audio_duration_secs"] = transcript.duration
    if warnings := [*transcript.warnings, *asked.get("warnings", [])]:
        told["warnings"] = warnings
    return told


def chunk(transcript: Transcript, words: list[dict[str, Any]]) -> dict[str, Any]:
    """One transcript's fields. A language that was given is certain; one that nobody knows has no chance."""
    given = 0.0 if transcript.language is None else 1.0
    known = transcript.language_probability
    return {
        "language_code": long(transcript.language),
        "language_probability": given if known is None else known,
        "text": "".join(word["text"] for word in words),
        "words": words,
    }


def words_of(transcript: Transcript, granularity: str) -> list[dict[str, Any]]:
    """Words with spacing between them, so that their texts joined are the text."""
    if granularity == "none" or transcript.words is None:
        return list(_untimed(transcript))
    return list(_timed(transcript.words, transcript, granularity == "character"))


def _timed(words: Sequence[Word], transcript: Transcript, characters: bool) -> Iterator[dict[str, Any]]:
    end, speakers = 0.0, Speakers()
    for number, word in enumerate(words):
        text = word.text.strip()
        start, space = max(word.start, end), word.text[: len(word.text) - len(word.text.lstrip())]
        if number and space:
            yield _item(space, "spacing", 0.0, speakers.last) | {"start": end, "end": start}
        end = max(start, word.end)
        item = _item(text, "word", _logprob(word, transcript), speakers.of(word)) | {
            "start": start,
            "end": end,
        }
        if characters and word.characters is not None:
            item["characters"] = [msgspec.structs.asdict(one) for one in word.characters]
        yield item


def _untimed(transcript: Transcript) -> Iterator[dict[str, Any]]:
    first = True
    for segment in transcript.segments:
        for text in segment.text.split():
            if not first:
                yield _item(" ", "spacing", 0.0) | {"start": None, "end": None}
            first = False
            logprob = {} if segment.avg_logprob is None else {"logprob": min(segment.avg_logprob, 0.0)}
            yield {"text": text, "type": "word", "start": None, "end": None} | logprob


def _item(text: str, kind: str, logprob: float | None, speaker: str | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"text": text, "type": kind}
    if logprob is not None:
        item["logprob"] = logprob
    return item | ({"speaker_id": speaker} if speaker else {})


def _logprob(word: Word, transcript: Transcript) -> float | None:
    """The model's, of the word; or the mean of its segment, where it gives none for words."""
    if word.probability is not None:
        return max(math.log(word.probability), LEAST) if word.probability > 0 else LEAST
    segment = next((one for one in transcript.segments if one.start <= word.start <= one.end), None)
    return None if segment is None or segment.avg_logprob is None else min(segment.avg_logprob, 0.0)


class Speakers:
    """The vendor's names of speakers, by first appearance."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.last: str | None = None

    def of(self, word: Word) -> str | None:
        """The speaker of a word, if it has one."""
        if word.speaker is not None:
            self.last = self.known.setdefault(word.speaker, f"speaker_{len(self.known)}")
        return self.last if word.speaker is not None else None
