"""A measured figure, what it must reach, and how a set of them is shown."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

DIGITS = {
    "ms": 1,
    "s": 2,
    "MB": 1,
    "%": 2,
    "x": 3,
    "lines": 0,
    "parts": 0,
    "tasks/s": 0,
    "kB": 2,
    "s/s": 3,
    "sessions": 0,
}
"""Decimals shown of each unit."""


@dataclass(frozen=True)
class Figure:
    """One measurement; without a limit it only explains another one."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    aim: float | None = None
    """What would be better still."""
    least: bool = False
    """True when the limit is the lowest good value instead of the highest."""

    @property
    def missed(self) -> bool:
        """True when the value is not known or beyond the limit."""
        if self.limit is None:
            return False
        return not (self.value >= self.limit if self.least else self.value <= self.limit)

    @property
    def columns(self) -> tuple[str, str, str, str]:
        """Name, value, target and verdict as texts."""
        measured = f"{self.value:.{DIGITS[self.unit]}f} {self.unit}"
        if self.limit is None:
            return self.name, measured, "", ""
        aim = "" if self.aim is None else f" (aim {self.aim:g})"
        target = f"{'≥' if self.least else '≤'} {self.limit:g} {self.unit}{aim}"
        return self.name, measured, target, "MISSED" if self.missed else "ok"

    @property
    def line(self) -> str:
        """The figure as a line for a terminal."""
        name, measured, target, verdict = self.columns
        return f"{name:<52} {measured:>12}   {target:<20} {verdict}".rstrip()


def table(figures: Sequence[Figure], quick: bool) -> str:
    """The figures as a markdown table, with when and on what they were measured."""
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    where = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    head = f"{when}; {where}; Python {platform.python_version()}{'; --quick' if quick else ''}"
    rows = [("figure", "measured", "target", ""), ("---", "---:", "---", "---")]
    rows += [figure.columns for figure in figures]
    return "\n".join([head, "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
