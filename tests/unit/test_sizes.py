"""The code stays within its budgets."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_the_code_is_within_its_budgets(capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parents[2] / "scripts" / "sizes.py"
    assert runpy.run_path(str(script))["main"]() == 0, capsys.readouterr().out
