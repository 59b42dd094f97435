"""How much there is to read: lines of code against the budgets of `scripts/sizes.py`."""

from __future__ import annotations

import runpy
from collections.abc import Iterator

from bench.figure import Figure
from bench.server import ROOT


def run(quick: bool) -> Iterator[Figure]:
    """Lines of code of the SDK and of the largest engine."""
    sizes = runpy.run_path(str(ROOT / "scripts" / "sizes.py"))
    for folder, budget in sizes["BUDGETS"].items():
        yield Figure(f"sdk: code in {folder}", sizes["total"](folder), "lines", budget)
