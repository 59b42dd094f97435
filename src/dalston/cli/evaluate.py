"""`dalston eval`: how well the whole server transcribes recordings whose truth is known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.types import Audio
from msgspec import Struct

from dalston import settings as settings_
from dalston.cli.board import board
from dalston.cli.output import as_json, say, table
from dalston.cli.show import put
from dalston.cli.transcribe import START_S, serving
from dalston.client import Client
from dalston.local.server import holder
from dalston.settings import Settings

if TYPE_CHECKING:
    from dalston.evaluation.bare import Bare
    from dalston.evaluation.ours import Server
    from dalston.evaluation.recordings import Recording
    from dalston.evaluation.scores import Result


class Wish(Struct, frozen=True):
    """What is to be evaluated, and how."""

    folder: Path
    model: str | None = None
    options: dict[str, str] = {}
    """Further fields of every request."""
    detect: bool = False
    """Whether languages are detected rather than told."""
    only: list[str] = []
    """Sets of recordings; all when empty. `joined` alone: only what is joined of all."""
    without: list[str] = []
    """Sets that are left out, also of what is joined."""
    limit: int | None = None
    """How many of each set."""
    joined: float | None = None
    """Minutes of a long recording that is made of the English ones."""
    bare: bool = False
    bare_vad: bool = False
    texts: bool = False
    """Whether the report has what was said."""


async def evaluate(wish: Wish, json: Path | None, engines: str | None, data: str | None) -> None:
    """Send the recordings one at a time; print tables, and write everything to the file `json`."""
    here = asyncio.current_task()
    assert here is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    try:
        from dalston.evaluation import bare, ours, recordings, report
    except ImportError as error:
        raise DalstonError(
            f"This needs libraries that the server does not ({error.name}): pip install 'dalston[eval]'"
        ) from None
    settings = settings_.load(data=data, engines=engines)
    _make_place(json)
    sets = [name for name in wish.only if name != recordings.JOINED or not wish.joined]
    found = recordings.chosen(recordings.read(wish.folder), sets, wish.limit, wish.without)
    told = msgspec.to_builtins(msgspec.structs.replace(wish, folder=Path(wish.folder.name)), enc_hook=str)
    with contextlib.ExitStack() as stack:
        decode = stack.enter_context(bare.decoder(settings, say))
        if wish.joined:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            long = recordings.joined(found, wish.joined, folder, lambda path: Audio(decode(path)).pcm())
            found = [long] if wish.only and not sets else [*found, long]
        libraries = None
        if wish.bare:
            speakers = any(recording.turns is not None for recording in found)
            libraries = stack.enter_context(
                bare.libraries(settings, wish.model, wish.bare_vad, speakers, decode, say)
            )
            told["bare_libraries"] = libraries.about
        async with _client(settings, wish.model) as (client, parent):
            told["server_engines"] = {e["id"]: e["version"] for e in await client.engines()}
            fields = wish.options | ({"model": wish.model} if wish.model else {})
            server = ours.Server(client, parent, fields)
            results = [result async for result in _results(found, wish.detect, server, libraries)]
    whole = report.report(results, told, wish.texts)
    table(report.WORDS, report.word_rows(whole.summaries))
    for head, rows in (
        (report.TIMES, report.time_rows(whole.summaries)),
        (report.SPEAKERS, report.speaker_rows(whole.summaries)),
    ):
        if rows:
            print()
            table(head, rows)
    if not server.tells_speakers:
        say("No running engine tells speakers apart, so that was not measured.")
    if json is not None:
        put(as_json(whole) + "\n", json)


@contextlib.asynccontextmanager
async def _client(settings: Settings, model: str | None) -> AsyncIterator[tuple[Client, int | None]]:
    """Of the server that runs, or of one of our own; and the parent of its processes, if that is known."""
    running = None if settings.url else holder(settings.folder)
    async with serving(settings, model or "") as (url, engines), Client(url, settings.api_key) as client:
        await client.ready(wait=START_S, engines=",".join(engines), loading=True)
        yield client, running.pid if running else os.getpid() if engines else None


async def _results(
    found: list[Recording], detect: bool, server: Server, libraries: Bare | None
) -> AsyncIterator[Result]:
    """Each recording by the server, then by the bare libraries, so that a busy hour hits both."""
    from dalston.evaluation.scores import result

    with board(len(found)) as show:
        for recording in found:
            language = None if detect else recording.language
            detection, ours = await server.hear(recording, language, show(recording.name))
            bare = None
            if libraries is not None:
                bare = await asyncio.to_thread(libraries.hear, recording, language)
            yield result(recording, detection, ours, bare)


def _make_place(target: Path | None) -> None:
    """Make the folder of a file at once: what takes an hour to find must not have nowhere to go."""
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
