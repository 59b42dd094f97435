"""The shell completes commands, engines and jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SCRIPT = """
eval "$(dalston --show-completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_dalston_completion dalston
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(*words: str, **env: str) -> list[str]:
    """What bash offers for the last word of a command line."""
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", *words],
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | env,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["eng"], {"engine", "engines"}),
        (["engine", ""], {"new", "install", "test", "start"}),
        (["engine", "test", "fa"], {"fake", "faster-whisper"}),
        (["logs", "--fol"], {"--follow"}),
    ],
)
def test_bash_completes_commands_and_engines(words: list[str], wanted: set[str]) -> None:
    assert set(completed("dalston", *words)) == wanted


def test_bash_completes_jobs_of_the_data_folder(tmp_path: Path) -> None:
    job = "0" * 31 + "a"
    (tmp_path / "jobs" / job).mkdir(parents=True)
    assert completed("dalston", "cancel", "00", DALSTON_DATA=str(tmp_path)) == [job]
    assert completed("dalston", "cancel", "--data", str(tmp_path), "0") == [job]
    assert completed("dalston", "job", "", DALSTON_DATA=str(tmp_path / "none")) == []
