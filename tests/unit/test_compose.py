"""The compose file is what the engine folders and the settings make of it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from dalston_engine.manifest import Manifest, Model, WeightFile

from dalston.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What `scripts/compose.py` defines."""
    return runpy.run_path(str(ROOT / "scripts" / "compose.py"))


def service(text: str, name: str) -> str:
    """The lines of one service."""
    return text.split(f"\n  {name}:\n")[1].split("\n\n")[0]


def test_the_committed_files_are_what_is_written(script: dict[str, Any]) -> None:
    for path, text in script["files"]().items():
        assert path.read_text() == text, f"run `.venv/bin/python scripts/compose.py`: {path.name} is old"


def test_every_setting_is_decided_or_passed_on(script: dict[str, Any]) -> None:
    text = script["compose"]([])
    assert script["FIXED"] < set(Settings.__struct_fields__)
    passed = {name for name in Settings.__struct_fields__ if f"\n  DALSTON_{name.upper()}:\n" in text}
    assert passed == set(Settings.__struct_fields__) - script["FIXED"]


def test_only_the_gateway_is_published_and_only_on_loopback(script: dict[str, Any]) -> None:
    main, gpu = script["files"]().values()
    (ports,) = (line.strip() for line in main.splitlines() if "ports:" in line)
    assert ports == 'ports: ["127.0.0.1:${DALSTON_PORT:-8765}:8765"]'
    assert ports in service(main, "gateway")
    assert "ports" not in gpu


def test_an_engine_that_the_server_does_not_start_has_a_profile(script: dict[str, Any]) -> None:
    plain = Manifest(id="diarizer", stage="transcribe", version="1")
    text = script["compose"]([("speakers", plain)])
    added = service(text, "diarizer")
    assert "profiles: [diarizer]" in added
    assert "ENGINE: speakers" in added
    assert "models" not in added
    assert "WEIGHTS" not in added
    assert "outside" not in added


def test_an_engine_with_models_has_their_folder_and_a_gpu_if_it_can_use_one(script: dict[str, Any]) -> None:
    weights = {"tiny": Model(files={"model.bin": WeightFile(["a/b"], "00")})}
    able = Manifest(id="able", stage="transcribe", version="1", models=weights, hub=True, gpu="optional")
    added = service(script["compose"]([("able", able)]), "able")
    assert "models:/models" in added
    assert "WEIGHTS: '${DALSTON_WEIGHTS:-1}'" in added
    assert "networks: [inside, outside]" in added
    assert "able:" in script["gpu"]([("able", able)])
    assert "faster" not in script["gpu"]([("able", able)])
