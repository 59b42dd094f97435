"""From a transcript to the vendor's answer in its many formats."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from dalston_engine.types import Segment, Transcript, Word

from dalston.dialects.base import Answer, Finished
from dalston.dialects.languages import spoken
from dalston.exports import render

TEXT = "text/plain; charset=utf-8"
MEASURES = ("avg_logprob", "compression_ratio", "no_speech_prob", "temperature", "tokens", "seek")
"""What Whisper tells of a segment."""


def answer(finished: Finished) -> Answer:
    """The finished transcript in the format that was asked for; texts are sent bare."""
    format = finished.asked.get("format", "json")
    if format == "text":
        return Answer(f"{text_of(finished.transcript)}\n".encode(), TEXT)
    if format in ("srt", "vtt"):
        return Answer(render(finished.transcript, format).content, TEXT)
    shape = {"json": _json, "verbose_json": _verbose, "diarized_json": _diarized}[format]
    return Answer(msgspec.json.encode(shape(finished.transcript, finished.asked)))


def text_of(transcript: Transcript) -> str:
    """The whole text."""
    return transcript.text or ""


def usage(transcript: Transcript) -> dict[str, Any]:
    """What was transcribed: seconds are measured, tokens of a vendor's model would not be."""
    return {"type": "duration", "seconds": transcript.duration or 0.0}


def logprob(word: Word) -> dict[str, Any]:
    """A word as the vendor tells a token."""
    probability = word.probability or 0.0
    return {
        "token": word.text,
        "logprob": math.log(probability) if probability > 0 else -100.0,
        "bytes": list(word.text.encode()),
    }


def speaker_names(transcript: Transcript) -> dict[str, str]:
    """The vendor's names of speakers, A, B, …, by first appearance."""
    found = dict.fromkeys(segment.speaker for segment in transcript.segments if segment.speaker)
    return {speaker: _letters(number) for number, speaker in enumerate(found)}


def turn(number: int, segment: Segment, names: dict[str, str]) -> dict[str, Any]:
    """A segment as `diarized_json` and its events tell it."""
    told = {"type": "transcript.text.segment", "id": f"seg_{number}", "start": segment.start,
            "end": segment.end, "text": segment.text}  # fmt: skip
    return told | ({"speaker": names[segment.speaker]} if segment.speaker else {})


def _json(transcript: Transcript, asked: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"text": text_of(transcript), "usage": usage(transcript)}
    if asked.get("logprobs"):
        told["logprobs"] = [logprob(word) for word in transcript.words or () if word.probability is not None]
    return told


def _verbose(transcript: Transcript, asked: dict[str, Any]) -> dict[str, Any]:
    translated = asked.get("task") == "translate"
    language = "en" if translated else transcript.language
    told: dict[str, Any] = {
        "task": "translate" if translated else "transcribe",
        "duration": transcript.duration,
        "text": text_of(transcript),
        "usage": usage(transcript),
    }
    if language:
        told["language"] = spoken(language)
    if asked.get("segments", True):
        told["segments"] = [_segment(number, one) for number, one in enumerate(transcript.segments)]
    if asked.get("words"):
        told["words"] = [
            {"word": word.text.strip(), "start": word.start, "end": word.end}
            for word in transcript.words or ()
        ]
    return told


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    measured = {name: value for name in MEASURES if (value := getattr(segment, name)) is not None}
    return {"id": number, "start": segment.start, "end": segment.end, "text": segment.text} | measured


def _diarized(transcript: Transcript, asked: dict[str, Any]) -> dict[str, Any]:
    names = speaker_names(transcript)
    return {
        "task": "transcribe",
        "duration": transcript.duration,
        "text": text_of(transcript),
        "segments": [turn(number, one, names) for number, one in enumerate(transcript.segments)],
        "usage": usage(transcript),
    }


def _letters(number: int) -> str:
    """A, B, … Z, AA, AB, …"""
    letters = ""
    while number >= 0:
        letters = chr(ord("A") + number % 26) + letters
        number = number // 26 - 1
    return letters
