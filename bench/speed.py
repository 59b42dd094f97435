"""What the server adds to a short clip, and how its engine compares with the bare library.

All three take turns on the same 11 s clip in a new order every round, so that a busy moment of the
machine hits each alike; who is not asked sleeps. The server is warm and the connection kept open.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from statistics import median
from typing import Any

from bench import recordings
from bench.figure import Figure
from bench.library import Library, library
from bench.server import Connection, Failed, seconds_of, serving, temporary, waited

ROUNDS, QUICK_ROUNDS = 45, 8
WARM_UPS = 3
ALIKE = 0.8
"""The share of words that transcripts have in common at least."""


@dataclass
class Times:
    """Seconds, one entry a round."""

    wall: list[float] = field(default_factory=list)
    prepare: list[float] = field(default_factory=list)
    transcribe: list[float] = field(default_factory=list)
    merge: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    """The library with the engine's settings."""
    default: list[float] = field(default_factory=list)
    """The library as it comes."""

    @property
    def overhead(self) -> list[float]:
        """What each waited call took beyond its own transcription."""
        return [wall - own for wall, own in zip(self.wall, self.transcribe, strict=True)]

    @property
    def rest(self) -> list[float]:
        """The part of the overhead that no engine's method accounts for."""
        parts = zip(self.overhead, self.prepare, self.merge, strict=True)
        return [whole - prepare - merge for whole, prepare, merge in parts]


def run(quick: bool) -> Iterator[Figure]:
    """Overhead of a waited call; the engine's time against the library's."""
    times = _measured(QUICK_ROUNDS if quick else ROUNDS)
    yield _ms("overhead: waited call - its transcription", times.overhead, 30, 20)
    yield _ms("overhead: of which decoding (prepare)", times.prepare)
    yield _ms("overhead: of which merging", times.merge)
    yield _ms("overhead: of which all else (HTTP, disk, hops)", times.rest)
    yield _ms("overhead: between queued and claimed, all stages", times.queued)
    yield from _method(times)


def _method(times: Times) -> Iterator[Figure]:
    own, same, default = times.transcribe, times.same, times.default
    yield _ms("method: the engine's transcription", own)
    yield _ms("method: bare library, same settings", same)
    yield _ms("method: bare library, its defaults", default)
    yield Figure("method: engine ÷ library, same settings", median(own) / median(same), "x", 1.02)
    yield Figure("method: same, median of the rounds' ratios", _paired(own, same), "x")
    yield Figure("method: library's defaults ÷ engine", median(default) / median(own), "x", 1.25, least=True)
    yield Figure("method: same, median of the rounds' ratios", _paired(default, own), "x")


def _measured(rounds: int) -> Times:
    times = Times()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary())
        clip = recordings.clip(folder)
        wav = recordings.prepared(clip, folder)
        same = stack.enter_context(library(wav, like_the_engine=True))
        default = stack.enter_context(library(wav, like_the_engine=False))
        connection = stack.enter_context(stack.enter_context(serving()).connect())
        body = waited(clip)
        turns: list[Callable[[Times], str]] = [
            lambda times: _call(connection, body, times),
            lambda times: _ask(same, times.same),
            lambda times: _ask(default, times.default),
        ]
        for _ in range(WARM_UPS):
            _round(turns, Times())
        for n in range(rounds):
            _round(turns[n % 3 :] + turns[: n % 3], times)
    return times


def _round(turns: list[Callable[[Times], str]], times: Times) -> None:
    """One turn of each; they must have said nearly the same words, or their times mean nothing.

    The engine decodes in windows of its own, and a word or two may differ.
    """
    texts = [re.findall(r"\w+", turn(times).lower()) for turn in turns]
    if any(SequenceMatcher(None, texts[0], one).ratio() < ALIKE for one in texts):
        raise Failed(f"the transcripts differ: {texts}")


def _call(connection: Connection, body: bytes, times: Times) -> str:
    job: Any
    job, wall = connection.post(body)
    times.wall.append(wall)
    for stage in ("prepare", "transcribe", "merge"):
        getattr(times, stage).append(seconds_of(job, stage))
    times.queued.append(sum(stage["queued_seconds"] for stage in job["stages"]))
    return str(job["text"])


def _ask(bare: Library, seconds: list[float]) -> str:
    text, took = bare.transcribe()
    seconds.append(took)
    return text


def _ms(name: str, seconds: list[float], limit: float | None = None, aim: float | None = None) -> Figure:
    return Figure(name, median(seconds) * 1000, "ms", limit, aim)


def _paired(above: list[float], below: list[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))
