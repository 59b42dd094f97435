"""The wheel alone, installed outside the project by somebody who has nothing else of it."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.e2e.conftest import ROOT
from tests.e2e.test_transcription import recall


def run(*command: str | Path, home: Path) -> str:
    """What a command prints, run in `home` as the home of its user; packages come from the warm cache."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("DALSTON_", "VIRTUAL_ENV", "PYTHON"))}
    cache = subprocess.run([find_uv_bin(), "cache", "dir"], capture_output=True, text=True, check=True)
    env = mine | {"HOME": str(home), "UV_CACHE_DIR": cache.stdout.strip()}
    done = subprocess.run(
        [*map(str, command)], cwd=home, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_the_wheel_transcribes_where_nothing_else_is(tmp_path: Path) -> None:
    uv, bin = find_uv_bin(), tmp_path / "venv" / "bin"
    run(uv, "build", "--wheel", "--out-dir", tmp_path, ROOT, home=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 2_000_000
    carried = zipfile.ZipFile(wheel).namelist()
    assert [name for name in carried if name.startswith("dalston/_sdk/dalston_engine-")]
    assert not [name for name in carried if ".venv" in name or "__pycache__" in name]

    run(uv, "venv", tmp_path / "venv", home=tmp_path)
    lock = ROOT / "requirements.lock"
    run(uv, "pip", "install", "--python", bin / "python", "-c", lock, wheel, home=tmp_path)
    assert "transcribe" in run(bin / "dalston", "--help", home=tmp_path)
    sample = Path(run(bin / "dalston", "sample", home=tmp_path).strip())
    assert sample.is_relative_to(tmp_path)

    heard = run(bin / "dalston", "transcribe", sample, home=tmp_path)
    truth = json.loads(sample.with_suffix(".json").read_text())
    assert recall(truth["text"], heard) > 0.9
    made = tmp_path / ".local" / "share" / "dalston" / "environments"
    assert len(list(made.iterdir())) == 3
    assert not list((tmp_path / "venv").rglob("dalston/_engines/*/.venv"))
