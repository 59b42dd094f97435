"""From a model's name to its weights, and to nowhere else."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import BadInput, ModelUnavailable
from dalston_engine.manifest import Manifest, Model, WeightFile
from dalston_engine.models import Models

PARTS = {"part1/model.bin.1": b"first ", "part2/model.bin.2": b"second", "part1/config.json": b"{}"}


def weights(parts: list[str], content: bytes) -> WeightFile:
    """A file of a model as its manifest declares it."""
    return WeightFile(parts, hashlib.sha256(content).hexdigest())


FILES = {
    "model.bin": weights(["part1/model.bin.1", "part2/model.bin.2"], b"first second"),
    "config.json": weights(["part1/config.json"], b"{}"),
}
DECLARED = {
    "packaged": Model(["en"], "org/packaged", FILES),
    "remote": Model(["*"], "org/remote"),
    "mangled": Model(files={"model.bin": weights(["part1/model.bin.1"], b"other")}),
    "absent": Model(hub="org/absent", files={"model.bin": weights(["part3/model.bin"], b"")}),
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages folder with weights."""
    for name, content in PARTS.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "site"


def models(site: Path, offline: bool = False, **manifest: Any) -> Models:
    """The models of an engine whose environment is around `site`."""
    about = Manifest("whisper", "transcribe", hub=True, models=DECLARED)
    for name, value in manifest.items():
        setattr(about, name, value)
    found = Models(about, site.parent / "models", offline)
    found.cache.mkdir(exist_ok=True)
    found.site, found.installed = site, site.parent / "weights"
    return found


def test_packaged_weights_are_put_together_once(site: Path) -> None:
    found = models(site)
    folder = Path(found.find("packaged"))
    assert folder == found.installed / "packaged"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "model.bin": b"first second", "config.json": b"{}"}  # fmt: skip
    before = folder.stat()
    assert found.find("packaged") == str(folder)
    assert folder.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in found.installed.iterdir()] == ["packaged"]


def test_the_shared_cache_comes_before_packages_and_hub(site: Path) -> None:
    found = models(site)
    for name in ("packaged", "remote", "org/own"):
        (found.cache / name).mkdir(parents=True)
        assert found.find(name) == str(found.cache / name)
    assert not found.installed.exists()


def test_the_hub_comes_last(site: Path) -> None:
    found = models(site)
    assert found.find("remote") == "org/remote"
    assert found.find("some/other") == "some/other"


def test_a_hub_id_needs_an_engine_that_takes_any(site: Path) -> None:
    with pytest.raises(ModelUnavailable, match="some/other"):
        models(site, hub=False).find("some/other")


def test_a_file_with_another_hash_is_refused_and_not_kept(site: Path) -> None:
    found = models(site)
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match=r"model\.bin of whisper is not the file"):
            found.find("mangled")
    assert list(found.installed.iterdir()) == []
    assert (site / "part1/model.bin.1").read_bytes() == PARTS["part1/model.bin.1"]


def test_weights_whose_package_is_missing_come_from_the_hub_or_are_unavailable(site: Path) -> None:
    with contextlib.suppress(ModelUnavailable):
        assert models(site).find("absent") == "org/absent"


def test_weights_that_cannot_be_put_anywhere_come_from_the_hub(site: Path) -> None:
    found = models(site)
    (site.parent / "full").touch()
    found.installed = site.parent / "full" / "weights"  # no folder can be made here, as on a read-only disk
    assert found.find("packaged") == "org/packaged"


@pytest.mark.parametrize("name", ["remote", "some/other"])
def test_nothing_is_fetched_offline(site: Path, name: str) -> None:
    with pytest.raises(ModelUnavailable, match="DALSTON_OFFLINE"):
        models(site, offline=True).find(name)


def test_packages_and_the_cache_serve_offline(site: Path) -> None:
    found = models(site, offline=True)
    (found.cache / "remote").mkdir()
    assert found.find("packaged") == str(found.installed / "packaged")
    assert found.find("remote") == str(found.cache / "remote")


def test_an_unknown_name_is_unavailable(site: Path) -> None:
    with pytest.raises(ModelUnavailable, match="other"):
        models(site).find("other")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../site", "/etc", "a/../b", "a/..", "a/b/c", "a//b", "a/", "/a", ".hidden", "a/.hidden",
     "a b", "a\n", "a\0b", "~root", "-x", "a\\b", "file:///etc", "http://host/model"],
)  # fmt: skip
def test_a_name_that_leaves_the_folder_is_refused(site: Path, name: str) -> None:
    with pytest.raises(BadInput) as refusal:
        models(site).find(name)
    assert refusal.value.code == "invalid_model"


def test_the_card_lists_what_can_be_asked_for(site: Path) -> None:
    found = models(site)
    found.find("packaged")
    (found.cache / "own").mkdir()
    cards = found.cards()
    assert set(cards) == {*DECLARED, "own"}
    assert {name for name, card in cards.items() if card.local} == {"packaged", "own"}
    assert cards["packaged"].languages == ["en"]
    assert cards["own"].languages == ["*"]


def test_the_card_lists_only_what_is_here_when_offline(site: Path) -> None:
    found = models(site, offline=True)
    found.find("packaged")
    assert set(found.cards()) == {"packaged"}
