"""Where an engine's environment is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dalston.local import environments
from dalston.local.environments import EngineFolder

MANIFEST = """
[project]
version = "1"
[tool.dalston]
id = "loudness"
stage = "transcribe"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An engine's folder."""
    made = tmp_path / "server" / "engines" / "mine"
    made.mkdir(parents=True)
    (made / "pyproject.toml").write_text(MANIFEST)
    return made


def test_an_environment_is_in_its_engines_folder(folder: Path) -> None:
    assert EngineFolder(folder, "/elsewhere").environment == folder / ".venv"


def test_an_installed_server_keeps_environments_out_of_its_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "PACKAGE", tmp_path / "server")
    made = EngineFolder(folder, str(tmp_path / "there")).environment
    assert made.parent == tmp_path / "there"
    assert made.name.startswith("loudness-")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EngineFolder(folder).environment.parent == tmp_path / ".local/share/dalston/environments"


def test_a_folder_that_cannot_be_written_is_left_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert EngineFolder(folder, str(tmp_path / "there")).environment.parent == tmp_path / "there"


def test_two_engines_of_one_name_do_not_share_an_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text(MANIFEST)
    assert EngineFolder(folder).environment != EngineFolder(other).environment


def test_weights_have_a_lock_of_their_own(folder: Path) -> None:
    for name in ("requirements.lock", "weights.lock"):
        (folder / name).write_text("")
    assert [path.name for path in EngineFolder(folder).locks] == ["requirements.lock", "weights.lock"]
