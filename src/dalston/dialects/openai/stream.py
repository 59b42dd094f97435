"""The answer as server-sent events, as the words are found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from dalston_engine.errors import DalstonError

from dalston.dialects.base import Finished
from dalston.dialects.openai.answer import logprob, speaker_names, text_of, turn
from dalston.dialects.openai.errors import error


def delta(text: str) -> bytes:
    """More of the text; all deltas together are the text."""
    return _event({"type": "transcript.text.delta", "delta": text})


def last(finished: Finished) -> Iterator[bytes]:
    """What follows when all is known: who spoke when, if that was asked for, and the whole text."""
    transcript, asked = finished.transcript, finished.asked
    if asked.get("format") == "diarized_json":
        names = speaker_names(transcript)
        yield from (_event(turn(number, one, names)) for number, one in enumerate(transcript.segments))
    done: dict[str, Any] = {"type": "transcript.text.done", "text": text_of(transcript)}
    if asked.get("logprobs"):
        done["logprobs"] = [logprob(word) for word in transcript.words or () if word.probability is not None]
    yield _event(done)


def broken(why: DalstonError, request: str) -> bytes:
    """An error when the answer has begun."""
    return b"data: " + error(why, request).content + b"\n\n"


def _event(told: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(told) + b"\n\n"
