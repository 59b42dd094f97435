"""The diarizer beside pyannote.audio's own pipeline with the same networks, each alone, on one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench import recordings
from bench.figure import Figure
from bench.server import Failed, temporary
from dalston import settings
from dalston.evaluation import bare
from dalston.evaluation.bare import Process
from dalston.local import environments

OURS = "pyannote-onnx"
SECONDS = 60
"""How long the sample is made where there are no recordings with known speakers."""


class Cost(NamedTuple):
    """Seconds of CPU and of wall time."""

    cpu: float
    wall: float


def run(quick: bool) -> Iterator[Figure]:
    """How many times as long the pipeline takes for recordings with known speakers; models are loaded.

    They are decoded beforehand, and heard by both in turn.
    """
    engine = environments.find(bare.DIARIZER, "")
    if not engine.installed:
        raise Failed(f"{bare.DIARIZER} is not installed: `make engines` does that")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary())
        decode = stack.enter_context(bare.decoder(settings.load(), lambda _: None))
        found = [one.path for one in recordings.known() if one.turns and not one.channels]
        ours = stack.enter_context(_running(OURS))
        real = stack.enter_context(_running(bare.DIARIZER, bare.OFFLINE))
        audio, own, its = 0.0, list[Cost](), list[Cost]()
        for path in found[:: 3 if quick else 1] or [recordings.fitted(folder / "talk.flac", SECONDS)]:
            prepared = decode(path)
            own.append(_cost(ours, prepared))
            its.append(_cost(real, prepared))
            audio += recordings.seconds(prepared)
    ours_cpu, ours_wall = map(sum, zip(*own, strict=True))
    real_cpu, real_wall = map(sum, zip(*its, strict=True))
    yield Figure("diarizer: pyannote.audio ÷ pyannote-onnx, wall", real_wall / ours_wall, "x", 3, least=True)
    yield Figure("diarizer: same, CPU", real_cpu / ours_cpu, "x")
    yield Figure("diarizer: pyannote-onnx, CPU s a second", ours_cpu / audio, "s/s")
    yield Figure("diarizer: pyannote.audio, CPU s a second", real_cpu / audio, "s/s")
    yield Figure(f"diarizer: audio, in {len(own)} recordings", audio, "s")


@contextlib.contextmanager
def _running(name: str, model: str | None = None) -> Iterator[Process]:
    """An engine's library in a process of its own, its model loaded."""
    engine = environments.find(name, "")
    model = model or engine.manifest.default_model
    assert model is not None
    with temporary() as cache:
        env = engine.manifest.env | bare.ONE_THREAD
        process = Process(engine, "diarizer.py", model, str(cache), env=env)
        try:
            yield process
        finally:
            process.end()


def _cost(process: Process, prepared: Path) -> Cost:
    told = process.ask(path=str(prepared))
    if "failure" in told:
        raise Failed(f"a diarizer failed: {told['failure']}")
    return Cost(told["cpu"], told["seconds"])
