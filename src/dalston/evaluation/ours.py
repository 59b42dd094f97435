"""Recordings sent to a running server, as any client sends them, one at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.types import Transcript

from dalston.client import Client, ServerSaid
from dalston.evaluation.processes import Processes
from dalston.evaluation.recordings import Recording
from dalston.evaluation.scores import Heard
from dalston.evaluation.speakers import turns_by_words

UNABLE = "unsupported_option"
"""The code by which a server refuses what none of its engines can do."""


class Server:
    """The server that is evaluated."""

    def __init__(self, client: Client, parent: int | None, fields: dict[str, str]) -> None:
        """`parent`: the id of the process that started the server's, if that is on this machine;
        `fields`: what every request has."""
        self._client, self._fields = client, fields
        self._processes = None if parent is None else Processes(parent)
        self.tells_speakers = True
        """False once it has refused to diarize."""

    async def hear(
        self, recording: Recording, language: str | None, seen: Callable[[Any], None]
    ) -> tuple[str, Heard]:
        """The `speaker_detection` it was sent with, and what came of it.

        Where no engine diarizes, it is sent again without.
        """
        detection = recording.detection
        if detection == "diarize" and not self.tells_speakers:
            detection = "none"
        heard = await self._hear(recording.path, language, detection, seen)
        if detection == "diarize" and heard.failure == UNABLE:
            self.tells_speakers, detection = False, "none"
            heard = await self._hear(recording.path, language, detection, seen)
        return detection, heard

    async def _hear(
        self, path: Path, language: str | None, detection: str, seen: Callable[[Any], None]
    ) -> Heard:
        fields = {"language": language, "speaker_detection": detection} | self._fields
        if self._processes:
            self._processes.lap()
        began = time.monotonic()
        try:
            id = (await self._client.submit(path, **fields))["id"]
        except ServerSaid as refusal:
            return _nothing(refusal.code, detection)
        try:
            job = await self._client.follow(id, seen)
            heard = _read(job, detection)
            heard.seconds = round(time.monotonic() - began, 3)
            heard.cpu = self._processes.lap() if self._processes else None
        finally:
            with contextlib.suppress(DalstonError):
                await self._client.delete(id)
        return heard


def _read(job: Any, detection: str) -> Heard:
    """What a job came to; turns are by its words where channels or the transcribing engine tell speakers."""
    if job["state"] != "completed":
        return _nothing(job.get("error", {}).get("code", job["state"]), detection)
    told = msgspec.convert(job, Transcript)
    return Heard(
        text=told.text,
        words=told.words,
        turns=None if detection == "none" else told.turns or turns_by_words(told.words or []),
        language=told.language,
        duration=told.duration,
        model=told.model,
    )


def _nothing(code: str, detection: str) -> Heard:
    return Heard(text="", words=[], turns=None if detection == "none" else [], failure=code)
