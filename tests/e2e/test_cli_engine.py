"""`dalston engine`: made, found, started and drained as an author does it; see also the tutorial's test."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from dalston.local import environments, valkey
from tests.e2e.conftest import DALSTON, Server
from tests.e2e.test_cli import dalston
from tests.waiting import until

MANIFEST = '[project]\nname = "x"\nversion = "1"\n'


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["Loud"], "cannot be an engine's id"),
        (["../loud"], "cannot be an engine's id"),
        (
            ["loud", "--stage", "sing"],
            "There is no stage 'sing'. There are: align, diarize, listen, merge, prepare, transcribe.",
        ),
        (["loud", "--folder", "."], "is there already"),
    ],
)
def test_new_says_why_it_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    (tmp_path / "mine").touch()
    monkeypatch.chdir(tmp_path)
    done = dalston("engine", "new", *args)
    assert done.returncode == 1
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["audio", "engine", "my-2nd-try"])
def test_a_new_engine_may_have_any_name(tmp_path: Path, name: str) -> None:
    assert dalston("engine", "new", name, "--folder", tmp_path / "x" / "y").returncode == 0
    found = environments.at(str(tmp_path / "x" / "y"), "")
    assert found.manifest.id == name
    assert "MyEngine" not in (found.folder / "engine.py").read_text()
    assert (
        dalston("engine", "test", tmp_path / "x" / "y", "-o", "step=no").stdout.count("✗ card: --option") == 1
    )


def test_an_engine_is_found_by_id_by_folder_and_among_other_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dalston("engine", "new", "loud")
    dalston("engine", "new", "fake")
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "pyproject.toml").write_text(MANIFEST)
    mine = tmp_path / "loud"
    for name, extra in (("loud", ""), ("./loud", ""), (str(mine), ""), ("loud", str(tmp_path))):
        assert environments.at(name, extra).folder == mine
    assert environments.at("fake", "").folder == environments.builtin() / "fake"
    assert environments.at("./fake", "").folder == tmp_path / "fake"
    for name in ("library", "./library", "nowhere", "./nowhere"):
        done = dalston("engine", "install", name)
        assert done.returncode == 1
        assert done.stderr.startswith("dalston: ")
    broken = dalston("engine", "test", "./library")
    assert (broken.returncode, broken.stdout[:11]) == (1, "✗ manifest:")


def test_start_without_a_server_is_one_sentence(tmp_path: Path) -> None:
    done = dalston("engine", "start", "fake", "--data", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Start one with `dalston up`" in done.stderr


@pytest.mark.parametrize("by_url", [False, True])
def test_one_more_instance_joins_the_server_and_leaves_it(
    server: Server, tmp_path: Path, by_url: bool
) -> None:
    def instances() -> int:
        engines = server.client.get("/v1/engines").json()["engines"]
        return sum(len(engine["instances"]) for engine in engines if engine["id"] == "fake")

    until(lambda: instances() == 1)
    where = ["--redis-url", valkey.url(server.data)] if by_url else []
    command = [*DALSTON, "engine", "start", "fake", "--data", str(server.data), *where]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stderr=log, env=os.environ) as process,
    ):
        try:
            until(lambda: instances() == 2)
            until(lambda: "fake is ready" in (tmp_path / "log").read_text())
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    until(lambda: instances() == 1)
