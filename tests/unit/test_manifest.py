"""Every engine folder declares itself; what is wrong with a manifest is said in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dalston_engine.manifest import BadManifest, read
from dalston_engine.stages import STAGES

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[2] / "engines").glob("*/pyproject.toml"))
PROJECT = '[project]\nname = "engine-x"\nversion = "1.2"\n'
DALSTON = '[tool.dalston]\nid = "x"\nstage = "merge"\n'


def written(folder: Path, text: str) -> Path:
    """A folder with this manifest."""
    (folder / "pyproject.toml").write_text(text)
    return folder


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_engine_folder_has_a_good_manifest(folder: Path) -> None:
    manifest = read(folder)
    assert manifest.id == folder.name
    assert manifest.stage in STAGES
    if manifest.stage != "align":  # which takes a model for each language
        assert (manifest.default_model is None) == (not manifest.models)
    assert manifest.default_model is None or manifest.default_model in manifest.models
    for name, model in manifest.models.items():
        assert model.hub or model.files, name
        for file in model.files.values():
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert not [part for part in file.parts if ".." in part or part.startswith("/")]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_engine_folder_locks_versions_by_hash_and_names_no_address(folder: Path) -> None:
    assert (folder / "engine.py").is_file()
    lock = (folder / "requirements.lock").read_text()
    assert "://" not in lock
    assert " @ " not in lock
    for requirement in lock.replace("\\\n", " ").splitlines():
        if requirement.strip() and not requirement.startswith("#"):
            assert re.match(r"[\w.\[\]-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement


def test_the_projects_version_is_the_engines(tmp_path: Path) -> None:
    manifest = read(written(tmp_path, PROJECT + DALSTON))
    assert (manifest.id, manifest.stage, manifest.version) == ("x", "merge", "1.2")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no 'project'"),
        (PROJECT, "no 'tool'"),
        (PROJECT + "[tool.other]\n", "no 'dalston'"),
        (DALSTON, "no 'project'"),
        (PROJECT + "[tool.dalston]\nid = 'x'\n", "missing required field `stage`"),
        (PROJECT + "[tool.dalston]\nid = 1\nstage = 'merge'\n", "Expected `str`, got `int`"),
        (PROJECT + DALSTON + "colour = 'red'\n", "unknown field `colour`"),
        (
            PROJECT + DALSTON.replace("merge", "sing"),
            "stage 'sing' is none of prepare, transcribe, align, diarize, merge",
        ),
        (
            PROJECT + DALSTON + "[tool.dalston.models.m.files.f]\nparts = []\n",
            "missing required field `sha256`",
        ),
        ("[project", "pyproject.toml: "),
    ],
)
def test_a_bad_manifest_is_one_sentence(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(BadManifest) as refusal:
        read(written(tmp_path, text))
    assert fault in refusal.value.message
    assert str(tmp_path / "pyproject.toml") in refusal.value.message
    assert "\n" not in refusal.value.message


def test_a_folder_without_a_manifest_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match=r"pyproject\.toml"):
        read(tmp_path)
