"""From a transcript to the vendor's answer: one chunk, or one for each channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from dalston_engine.types import ChannelInfo, Character, Transcript, Word

from dalston.dialects.base import Answer, Finished
from dalston.dialects.elevenlabs.formats import rendered
from dalston.dialects.languages import long

LEAST = -100.0
"""The logarithm of a probability that the model rounds to zero."""


def answer(finished: Finished) -> Answer:
    """The finished transcript as `GET` and `POST` answer it."""
    return Answer(msgspec.json.encode(body(finished)))


def body(finished: Finished) -> dict[str, Any]:
    """The answer's fields; what was not measured is absent."""
    transcript, asked = finished.transcript, finished.asked
    channels = transcript.channels or []
    if len(channels) > 1 and not asked.get("combined"):
        told: dict[str, Any] = {"transcripts": [_channel(transcript, one, asked) for one in channels]}
    else:
        told = _chunk(transcript, asked)
    notes = [*transcript.warnings, *asked.get("warnings", [])]
    if "formats" in asked:
        for part, whole in _parts(told, transcript):
            part["additional_formats"] = rendered(whole, asked["formats"], notes)
    told["transcription_id"] = finished.id
    if transcript.duration is not None:
        told["audio_duration_secs"] = transcript.duration
    if notes:
        told["warnings"] = notes
    return told


def _parts(told: dict[str, Any], transcript: Transcript) -> Iterator[tuple[dict[str, Any], Transcript]]:
    """What is exported: each channel's transcript by itself, or the whole."""
    if "transcripts" not in told:
        yield told, transcript
    for part in told.get("transcripts", ()):
        yield part, _of_channel(transcript, part["channel_index"])


def _of_channel(transcript: Transcript, number: int) -> Transcript:
    words = None if transcript.words is None else [one for one in transcript.words if one.channel == number]
    segments = [one for one in transcript.segments if one.channel == number]
    return Transcript(segments, words)


def _channel(transcript: Transcript, channel: ChannelInfo, asked: dict[str, Any]) -> dict[str, Any]:
    """What was said on one channel."""
    part = _of_channel(transcript, channel.channel)
    part.language, part.language_probability = channel.language, channel.language_probability
    return _chunk(part, asked) | {"channel_index": channel.channel}


def _chunk(transcript: Transcript, asked: dict[str, Any]) -> dict[str, Any]:
    """One transcript's fields."""
    words = words_of(transcript, asked.get("timestamps", "word"))
    return {
        "language_code": long(transcript.language),
        "language_probability": _probability(transcript),
        "text": "".join(word["text"] for word in words),
        "words": words,
    }


def _probability(transcript: Transcript) -> float:
    """Of the language; one that was given is certain, one that nobody knows has no chance."""
    if transcript.language is None:
        return 0.0
    each = [transcript.language_probability, *(one.language_probability for one in transcript.channels or ())]
    return min((known for known in each if known is not None), default=1.0)


def words_of(transcript: Transcript, granularity: str) -> list[dict[str, Any]]:
    """Words with spacing between them, so that their texts joined are the text."""
    if granularity == "none" or transcript.words is None:
        return list(_untimed(transcript))
    return list(_timed(transcript, transcript.words, granularity == "character"))


def _timed(transcript: Transcript, words: Sequence[Word], characters: bool) -> Iterator[dict[str, Any]]:
    """Words in order; channels may overlap, words of one channel do not."""
    last, speakers = None, Speakers()
    for word in words:
        text, start = word.text.strip(), word.start
        space = word.text[: len(word.text) - len(word.text.lstrip())]
        if last is not None:
            start = max(start, last["end"] if word.channel == last.get("channel_index") else last["start"])
            if space:
                yield _spacing(space, last, start)
        item = _item(text, "word", start, max(start, word.end), _logprob(word, transcript))
        item |= {"speaker_id": who} if (who := speakers.of(word)) else {}
        item |= {} if word.channel is None else {"channel_index": word.channel}
        if characters and word.characters is not None:
            item["characters"] = [msgspec.structs.asdict(one) for one in _spoken(word.characters)]
        last = item
        yield item


def _spacing(space: str, last: dict[str, Any], start: float) -> dict[str, Any]:
    """What lies between a word and the next, which belongs to whoever spoke the former."""
    whose = {name: last[name] for name in ("speaker_id", "channel_index") if name in last}
    return _item(space, "spacing", min(last["end"], start), start, 0.0) | whose


def _spoken(characters: Sequence[Character]) -> list[Character]:
    """A word's characters without the space before it."""
    return [one for one in characters if one.text.strip()]


def _untimed(transcript: Transcript) -> Iterator[dict[str, Any]]:
    first = True
    for segment in transcript.segments:
        known = None if segment.avg_logprob is None else min(segment.avg_logprob, 0.0)
        for text in segment.text.split():
            if not first:
                yield _item(" ", "spacing", None, None, 0.0)
            first = False
            yield _item(text, "word", None, None, known)


def _item(
    text: str, kind: str, start: float | None, end: float | None, logprob: float | None
) -> dict[str, Any]:
    item = {"text": text, "type": kind, "start": start, "end": end}
    return item if logprob is None else item | {"logprob": logprob}


def _logprob(word: Word, transcript: Transcript) -> float | None:
    """The model's, of the word; or the mean of its segment, where it gives none for words."""
    if word.probability is not None:
        return max(math.log(word.probability), LEAST) if word.probability > 0 else LEAST
    segment = next((one for one in transcript.segments if one.start <= word.start <= one.end), None)
    return None if segment is None or segment.avg_logprob is None else min(segment.avg_logprob, 0.0)


class Speakers:
    """The vendor's names of speakers: by channel, or by first appearance."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def of(self, word: Word) -> str | None:
        """The speaker of a word, if it has one."""
        if word.channel is not None:
            return f"speaker_{word.channel}"
        if word.speaker is None:
            return None
        return self.known.setdefault(word.speaker, f"speaker_{len(self.known)}")
