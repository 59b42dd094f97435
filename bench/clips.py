"""CPU time of recordings with known words: the whole server's, and the bare library's with its own defaults.

Both have one thread and loaded models, hear the same files one at a time and in turn, are told their
language and give words with times. All of the server's processes count, what decodes and writes too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dalston_engine.types import Audio

from bench import recordings
from bench.figure import Figure
from bench.server import MODEL, REAL, Connection, Failed, body, serving, temporary
from dalston import settings
from dalston.evaluation import bare
from dalston.evaluation.bare import Bare
from dalston.evaluation.processes import Processes
from dalston.evaluation.recordings import Recording, joined

LARGER = "base"
SHORT_S = 15.0
LONG_S = 21 * 60
QUICK_EVERY = 6
"""Of how many recordings one is taken to be quick."""
ONE_THREAD = {"DALSTON_FASTER_WHISPER_THREADS": "1"}


class Cost(NamedTuple):
    """Seconds: of audio, and of CPU for it."""

    audio: float
    server: float
    engine: float
    """Of the server's, what its transcribing engine took."""
    library: float


def run(quick: bool) -> Iterator[Figure]:
    """How many times the server's CPU time the bare library takes: short clips, the rest, a long one.

    The shorter a clip, the more the server saves, so the target holds for the known ones together alone.
    """
    known = [one for one in recordings.known() if one.text and not one.constructed]
    some = known[:: QUICK_EVERY if quick else 1]
    english = [one for one in some if one.language == "en"]
    with temporary() as folder:
        long = [] if quick else [_long(known, folder)]
        for model, found in ((MODEL, english), (LARGER, [*some, *long])):
            costs = _measured(model, found or [Recording(recordings.clip(folder), "clip", "en")])
            short = [cost for cost in costs if cost.audio < SHORT_S]
            whole = [cost for cost in costs if cost.audio >= LONG_S]
            rest = [cost for cost in costs if SHORT_S <= cost.audio < LONG_S]
            yield from figures(f"{model}, under 15 s", short, 2.5 if found else None)
            yield from figures(f"{model}, longer", rest)
            yield from figures(f"{model}, joined", whole, 1.3)


def _long(known: Sequence[Recording], folder: Path) -> Recording:
    with bare.decoder(settings.load(), _quietly) as decode:
        if any(one.language == "en" for one in known):
            return joined(known, LONG_S / 60, folder, lambda path: Audio(decode(path)).pcm())
    return Recording(recordings.fitted(folder / "long.flac", LONG_S), "long.flac", "en")


def _measured(model: str, found: Sequence[Recording]) -> list[Cost]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary())
        server = stack.enter_context(serving(REAL, **ONE_THREAD))
        connection = stack.enter_context(server.connect())
        library = stack.enter_context(
            bare.libraries(settings.load(), model, vad=False, speakers=False, decode=_as_it_is, say=_quietly)
        )
        processes = Processes(server.pid)
        warm_up = Recording(recordings.clip(folder), "clip", "en")
        _cost(warm_up, model, connection, processes, library)
        return [_cost(one, model, connection, processes, library) for one in found]


def _cost(
    recording: Recording, model: str, connection: Connection, processes: Processes, library: Bare
) -> Cost:
    language = recording.language or "en"
    asked = body(recording.path, model=model, language=language, wait="true")
    processes.lap()
    connection.post(asked)
    spent = processes.lap()
    heard = library.hear(recording, language)
    if heard.failure or not heard.cpu or not heard.duration:
        raise Failed(f"the bare library cannot hear a recording: {heard.failure}")
    return Cost(heard.duration, sum(spent.values()), spent.get(bare.WHISPER, 0.0), sum(heard.cpu.values()))


def figures(name: str, costs: Sequence[Cost], least: float | None = None) -> Iterator[Figure]:
    """The ratio, and what either takes for a second of audio."""
    if not costs:
        return
    audio, server, engine, library = map(sum, zip(*costs, strict=True))
    yield Figure(f"clips: {name}: bare library ÷ server, CPU", library / server, "x", least, least=True)
    yield Figure(f"clips: {name}: server, CPU s a second", server / audio, "s/s")
    yield Figure(f"clips: {name}: of which the engine", engine / audio, "s/s")
    yield Figure(f"clips: {name}: bare library", library / audio, "s/s")
    yield Figure(f"clips: {name}: audio, in {len(costs)} recordings", audio, "s")


def _as_it_is(path: Path) -> Path:
    return path


def _quietly(_: str) -> None:
    """What is installed needs no word here."""
