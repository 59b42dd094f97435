"""The progress of several recordings on stderr: bars on a terminal, a line a stage in a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from dalston.cli.output import say

Seen = Callable[[Any], None]
"""Is told of every look at a job."""
Show = Callable[[str], Seen]
"""Begins to show a recording by its name."""


@contextlib.contextmanager
def board(count: int) -> Iterator[Show]:
    """Shows the jobs of so many recordings; a recording's name gives what its job's looks are told to."""
    if not sys.stderr.isatty():
        yield Lines
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        whole = bars.add_task(f"{count} recordings", total=count, visible=count > 1)

        def show(name: str) -> Seen:
            bar = bars.add_task(name, total=1.0)

            def seen(job: Any) -> None:
                bars.update(bar, completed=job["progress"])
                if job["state"] in {"completed", "failed", "cancelled"}:
                    bars.update(bar, visible=False)
                    bars.advance(whole)

            return seen

        yield show


class Lines:
    """One line for every stage that starts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: set[str] = set()

    def __call__(self, job: Any) -> None:
        for stage in job["stages"]:
            if stage["state"] not in {"waiting", "skipped"} and stage["stage"] not in self.told:
                self.told.add(stage["stage"])
                say(f"{self.name}: {stage['stage']} ({stage['engine']})")
