"""Runs an engine's own `engine.py` in its own interpreter, and stops it where a check needs it to stand.

    inside.py hold start FOLDER engine.py        every task waits before the engine's method is called
    inside.py hold progress FOLDER engine.py     every task waits at its first progress call
    inside.py alone engine.py recording …        prints, last on stderr, the longest pause of a thread
    inside.py hear MODEL FOLDER engine.py        hears the recordings in FOLDER as live sessions' utterances

While a task waits there is a file `held` in FOLDER. It waits until it is cancelled, or its process is
asked to stop. An engine that goes on in spite of that leaves a file `swallowed`. Nothing but the time
of the call is changed: leases, signals and the engine's code are what they always are. This file
imports the SDK alone, as an engine does.
"""

from __future__ import annotations

import runpy
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from dalston_engine.host import Host
from dalston_engine.live.speech import utterance
from dalston_engine.testing import longest_pause
from dalston_engine.types import Audio, Task, Transcript
from dalston_engine.worker import Keeper, Outcome, Worker

TICK_S = 0.01
HELD, SWALLOWED = "held", "swallowed"


class Heard(msgspec.Struct):
    """What an engine heard in the same utterances, in order."""

    together: list[Transcript]
    alone: list[Transcript]
    """One pass for each."""
    partly: list[Transcript]
    """Soon to be replaced."""
    twice: list[list[Transcript]]
    """Together again, in two threads at the same time."""


def hold(place: str, folder: Path) -> None:
    """Let every task wait at `place`."""
    perform, report = Worker.perform, Keeper.report
    stopped: list[bool] = []

    def wait(keeper: Keeper) -> None:
        if not keeper.draining and keeper._hold.word not in ("CANCELLED", "LOST"):
            (folder / HELD).touch()
        while not keeper.draining and keeper._hold.word not in ("CANCELLED", "LOST"):
            time.sleep(TICK_S)

    def held_report(self: Keeper, fraction: float) -> None:
        wait(self)
        stopped.append(True)
        report(self, fraction)

    def held_perform(self: Worker, task: Task) -> Outcome:
        stopped.clear()
        if place == "start":
            wait(self.keeper)
        outcome = perform(self, task)
        if stopped and outcome.word not in ("cancelled", "released"):
            (folder / SWALLOWED).touch()
        return outcome

    Worker.perform = held_perform  # type: ignore[method-assign]
    if place == "progress":
        Keeper.report = held_report  # type: ignore[method-assign]


def hear(model: str, folder: Path) -> None:
    """Let the engine hear utterances, in place of working for a server; prints a `Heard`."""

    def heard(host: Host, *_: object) -> None:
        recordings = [Audio(path) for path in sorted(folder.glob("*.wav"))]
        batch = [utterance(one, words=True) for one in recordings]
        partly = [utterance(one, final=False) for one in recordings]
        name = model or None
        told = Heard(
            host.listen(name, batch),
            [host.listen(name, [one])[0] for one in batch],
            host.listen(name, partly),
            [],
        )
        with ThreadPoolExecutor(2) as threads:
            told.twice = list(threads.map(lambda _: host.listen(name, batch), range(2)))
        print(msgspec.json.encode(told, enc_hook=lambda number: number.item()).decode())

    sys.modules["dalston_engine.serve"]._work = heard  # type: ignore[attr-defined]


def run(path: str) -> None:
    """As `python engine.py` does it."""
    sys.path[0] = str(Path(path).parent)
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["hold", place, folder, engine]:
            sys.argv = [engine]
            hold(place, Path(folder))
            run(engine)
        case ["hear", model, folder, engine]:
            sys.argv = [engine]
            hear(model, Path(folder))
            run(engine)
        case ["alone", engine, *arguments]:
            sys.argv = [engine, *arguments]
            print(longest_pause(lambda: run(engine)), file=sys.stderr)
