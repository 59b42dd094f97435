"""Imports flow one way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_no_layer_imports_one_above_it() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
