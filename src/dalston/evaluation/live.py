"""Recordings spoken into live sessions, and what came of it beside what the same model makes of the files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median
from typing import Any

import jiwer
from dalston_engine.errors import DalstonError
from dalston_engine.types import SAMPLE_RATE, Word
from msgspec import Struct

from dalston.client import Client
from dalston.evaluation.recordings import Recording
from dalston.evaluation.scores import Heard
from dalston.evaluation.words import Offsets, Rate, error_rate, offsets, tokens
from dalston.live import FinalTranscript, SessionEnded, SessionStarted, Trouble
from dalston.live_client import LiveClient, paced, pieces

SECOND = 2 * SAMPLE_RATE
PIECE = SECOND // 10
FULL = "at_capacity"
AGAIN_S, LOOK_S = 0.5, 0.25
COLUMNS = ("set", "recordings", "failed", "audio s", "word errors %", "live", "last words %", "live",
           "made up words", "live", "starts differ ms", "95 %", "ends differ ms", "95 %")  # fmt: skip


class Manner(Struct, frozen=True):
    """How recordings are spoken."""

    model: str
    """Or a variant."""
    pace: float = 1.0
    """1: as they were spoken; 0: as fast as the server takes them."""
    vanish: bool = False
    """Whether the connection is lost with the last sample, for good; what was kept of the session counts."""
    at_once: int = 8
    """Sessions at a time, if the server lets so many in."""


class Pair(Struct, omit_defaults=True):
    """One recording, heard as a file and live."""

    audio: str
    set: str
    text: str | None
    """What is said."""
    live: Heard
    batch: Heard
    live_errors: Rate | None = None
    batch_errors: Rate | None = None
    live_last: bool | None = None
    """Whether the last word that is said was heard."""
    batch_last: bool | None = None
    times: Offsets | None = None
    """How far the times of words that both heard are apart."""


class Sum(Struct, omit_defaults=True):
    """A set of recordings; rates are errors in all by words in all."""

    set: str
    recordings: int
    failed: int
    """Of the live ones."""
    seconds: float
    live_error_rate: float | None
    batch_error_rate: float | None
    live_last: float | None
    """Share of the recordings whose last word was heard."""
    batch_last: float | None
    live_made_up: int
    batch_made_up: int
    start_difference: float | None = None
    """Median seconds."""
    start_difference_95: float | None = None
    end_difference: float | None = None
    end_difference_95: float | None = None
    words: int = 0
    """How many words those are of."""


class Speaker:
    """Speaks recordings into sessions of one server."""

    def __init__(self, client: Client, url: str, api_key: str, manner: Manner) -> None:
        self._client, self._url, self._api_key, self._manner = client, url, api_key, manner
        self._turn = asyncio.Semaphore(manner.at_once)

    async def speak(self, samples: bytes, language: str | None) -> Heard:
        """What a session makes of a recording's samples, 16 kHz mono 16-bit."""
        async with self._turn:
            while True:
                live = LiveClient(
                    self._url, self._api_key, model=self._manner.model, language=language,
                    word_timestamps=True, interim_results=False,
                )  # fmt: skip
                try:
                    async with live:
                        return await self._spoken(live, samples)
                except DalstonError as error:
                    if error.code != FULL:
                        return Heard(text="", words=[], failure=error.code)
                await asyncio.sleep(AGAIN_S)

    async def _spoken(self, live: LiveClient, samples: bytes) -> Heard:
        began = time.monotonic()
        telling = asyncio.create_task(_told(live))
        try:
            async for piece in paced(pieces(samples, PIECE), SECOND, self._manner.pace):
                await live.send(piece)
            if self._manner.vanish:
                await live.sent()
                await live.vanish()
                heard = await self._kept(live.session_id)
            else:
                live.end()
                heard = await telling
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        heard.seconds = round(time.monotonic() - began, 3)
        return heard

    async def _kept(self, session: str) -> Heard:
        """What the server keeps of a session whose client has vanished, once it has given it up."""
        while True:
            found = await self._client.live_session(session)
            if found["state"] == "ended":
                break
            await asyncio.sleep(LOOK_S)
        words = [Word(one["text"], one["start"], one["end"]) for one in found.get("words") or []]
        return Heard(found["text"], words, duration=found.get("duration"), model=found["model"])


async def _told(live: LiveClient) -> Heard:
    """A session's finals together."""
    heard, texts = Heard(words=[]), list[str]()
    async for event in live:
        match event:
            case SessionStarted():
                heard.model = event.model
            case FinalTranscript():
                texts.append(event.text)
                heard.words = [*(heard.words or []), *(event.words or [])]
            case SessionEnded():
                heard.duration = event.audio
            case Trouble() if event.fatal:
                heard.failure = event.code
    heard.text = " ".join(filter(None, texts))
    return heard


async def batch(client: Client, recording: Recording, fields: dict[str, Any]) -> Heard:
    """The same recording as a file; a job that fails has heard nothing."""
    try:
        job = await client.transcribe(recording.path, word_timestamps=True, **fields)
    except DalstonError as error:
        return Heard(text="", words=[], failure=error.code)
    words = [Word(one["text"], one["start"], one["end"]) for one in job.get("words") or []]
    await client.delete(job["id"])
    return Heard(job["text"], words, duration=job.get("duration"), model=job.get("model"))


def pair(recording: Recording, live: Heard, heard: Heard) -> Pair:
    """Both held against the truth, and against each other."""
    found = Pair(recording.name, recording.set, recording.text, live, heard)
    if live.words and heard.words:
        found.times = offsets(heard.words, live.words)
    if recording.text:
        found.live_errors = error_rate(recording.text, live.text or "", recording.language)
        found.batch_errors = error_rate(recording.text, heard.text or "", recording.language)
        found.live_last = last_heard(recording.text, live.text or "", recording.language)
        found.batch_last = last_heard(recording.text, heard.text or "", recording.language)
    return found


def last_heard(truth: str, heard: str, language: str | None) -> bool | None:
    """Whether the last word of the truth was heard, once both are aligned; None of a truth without words."""
    said, told = tokens(truth, language), tokens(heard, language)
    if not said:
        return None
    (chunks,) = jiwer.process_words(" ".join(said), " ".join(told)).alignments
    return any(chunk.type == "equal" and chunk.ref_end_idx == len(said) for chunk in chunks)


def sums(found: Sequence[Pair]) -> list[Sum]:
    """Each set, and all of them."""
    sets: dict[str, list[Pair]] = {}
    for one in found:
        sets.setdefault(one.set, []).append(one)
    return [_sum(name, pairs) for name, pairs in (sets | {"all": list(found)}).items()]


def _sum(name: str, found: Sequence[Pair]) -> Sum:
    starts = [value for one in found if one.times for value in one.times.starts]
    ends = [value for one in found if one.times for value in one.times.ends]
    quiet = [one for one in found if not one.text]
    return Sum(
        set=name,
        recordings=len(found),
        failed=sum(one.live.failure is not None for one in found),
        seconds=round(sum(one.batch.duration or 0 for one in found), 3),
        live_error_rate=_rate([one.live_errors for one in found if one.live_errors]),
        batch_error_rate=_rate([one.batch_errors for one in found if one.batch_errors]),
        live_last=_share([one.live_last for one in found]),
        batch_last=_share([one.batch_last for one in found]),
        live_made_up=sum(len(tokens(one.live.text or "", None)) for one in quiet),
        batch_made_up=sum(len(tokens(one.batch.text or "", None)) for one in quiet),
        start_difference=median(starts) if starts else None,
        start_difference_95=_high(starts),
        end_difference=median(ends) if ends else None,
        end_difference_95=_high(ends),
        words=len(starts),
    )


def _rate(rates: Sequence[Rate]) -> float | None:
    length = sum(one.length for one in rates)
    return sum(one.errors for one in rates) / length if length else None


def _share(found: Sequence[bool | None]) -> float | None:
    known = [one for one in found if one is not None]
    return sum(known) / len(known) if known else None


def _high(values: Sequence[float]) -> float | None:
    return sorted(values)[min(int(len(values) * 0.95), len(values) - 1)] if values else None


def rows(found: Sequence[Sum]) -> list[list[str]]:
    """The table."""
    return [
        [
            one.set, str(one.recordings), str(one.failed or ""), f"{one.seconds:.0f}",
            *(_figure(value, 100, 2) for value in (one.batch_error_rate, one.live_error_rate)),
            *(_figure(value, 100, 1) for value in (one.batch_last, one.live_last)),
            str(one.batch_made_up or ""), str(one.live_made_up or ""),
            *(_figure(value, 1000, 0) for value in (one.start_difference, one.start_difference_95)),
            *(_figure(value, 1000, 0) for value in (one.end_difference, one.end_difference_95)),
        ]
        for one in found
    ]  # fmt: skip


def _figure(value: float | None, factor: float, digits: int) -> str:
    return "" if value is None else f"{value * factor:.{digits}f}"


async def pairs(
    speaker: Speaker,
    client: Client,
    found: Sequence[tuple[Recording, bytes]],
    detect: bool,
    options: dict[str, str],
) -> AsyncIterator[Pair]:
    """Every recording live, several at once; then each as a file, so that neither disturbs the other.

    `options`: further fields of the files' requests.
    """
    languages = [None if detect else one.language for one, _ in found]
    spoken = await asyncio.gather(
        *(speaker.speak(samples, lang) for (_, samples), lang in zip(found, languages, strict=True))
    )
    for (recording, _), language, live in zip(found, languages, spoken, strict=True):
        fields = {"language": language, "model": live.model} | options
        yield pair(recording, live, await batch(client, recording, fields))
