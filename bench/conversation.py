"""Speech as in conversations, clips with pauses, about 60 % of the time; and live sessions of it."""

from __future__ import annotations

import asyncio
import time
import wave
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from bench import recordings
from dalston.live import Event, FinalTranscript, PartialTranscript, SpeechEnded
from dalston.live_client import LiveClient
from dalston.local import environments

RATE, SECOND = 16_000, 32_000
"""Samples, and bytes, of a second."""
SETS = {"lj", "libri", "clips"}
SHORTEST_S, LONGEST_S = 1.5, 12.0
SPEECH = 0.6
PAUSE_S = 0.9
"""The shortest pause: one that ends an utterance."""
PIECE_S = 8.0
SILENCE_S = 0.5
"""What ends an utterance where nothing else was asked for."""
QUERY: dict[str, Any] = {"model": "fast", "language": "en"}


class Turn(Struct):
    """A clip in a conversation, and when it is heard."""

    clip: int
    start: float
    end: float
    """Where the next one begins."""


def clips(folder: Path) -> list[bytes]:
    """The samples of English clips; pieces of the project's own recording where no others are."""
    found = [
        recordings.prepared(one.path, folder).read_bytes()[44:]
        for one in recordings.known()
        if one.language == "en" and one.text and not one.constructed and one.set in SETS
    ]
    fitting = [one for one in found if SHORTEST_S <= len(one) / SECOND <= LONGEST_S]
    if fitting:
        return fitting
    with wave.open(str(recordings.prepared(environments.sample(), folder)), "rb") as wav:
        whole = wav.readframes(wav.getnframes())
    step = int(PIECE_S * SECOND)
    return [whole[begin : begin + step] for begin in range(0, len(whole) - step, step)]


def conversation(said: Sequence[bytes], first: int = 0, rounds: int = 1) -> tuple[bytes, list[Turn]]:
    """Every clip so many times, beginning with one of them, and a pause after each."""
    samples, turns = bytearray(), list[Turn]()
    for n in range(len(said) * rounds):
        clip = (first + n) % len(said)
        spoken, start = said[clip], len(samples) / SECOND
        pause = max(PAUSE_S, len(spoken) / SECOND * (1 - SPEECH) / SPEECH)
        samples += spoken + bytes(round(pause * RATE) * 2)
        turns.append(Turn(clip, start, len(samples) / SECOND))
    return bytes(samples), turns


class Told(Struct):
    """What a session was told, and when its audio began, by this machine's clock."""

    began: float = 0.0
    events: list[tuple[float, Event]] = field(default_factory=list)

    def finals(self) -> list[tuple[float, float]]:
        """When each final came that a silence brought about, and how many seconds after that silence."""
        found, stopped = [], 0.0
        for at, event in self.events:
            if isinstance(event, SpeechEnded):
                stopped = event.at
            elif isinstance(event, FinalTranscript) and event.cause == "silence":
                found.append((at, at - self.began - stopped - SILENCE_S))
        return found

    def partials(self) -> list[tuple[float, float]]:
        """When each partial came, and how many seconds the audio was ahead of it."""
        return [(at, at - self.began - event.end) for at, event in self.events
                if isinstance(event, PartialTranscript)]  # fmt: skip

    def texts(self) -> list[tuple[float, str]]:
        """The middle of what is final, which surely lies in its turn, and what it is."""
        return [
            ((event.start + event.end) / 2, event.text)
            for _, event in self.events
            if isinstance(event, FinalTranscript)
        ]


async def hold(live: LiveClient, samples: bytes, step: float, told: Told, speed: float = 1.0) -> None:
    """Send audio in real time, or `speed` as fast, in pieces of `step` seconds; end; note what is told."""

    async def listen() -> None:
        async for event in live:
            told.events.append((time.monotonic(), event))

    size = round(step * RATE) * 2
    listening = asyncio.create_task(listen())
    try:
        told.began = time.monotonic()
        for begin in range(0, len(samples), size):
            piece = samples[begin : begin + size]
            due = told.began + (begin + len(piece)) / SECOND / speed
            await asyncio.sleep(max(due - time.monotonic(), 0))
            await live.send(piece)
        live.end()
        await listening
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which that share lies; NaN of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")
