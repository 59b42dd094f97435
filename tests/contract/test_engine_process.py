"""An engine's process ends when its method does not; what engines must do is in test_conformance."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dalston_engine import keys
from dalston_engine.testing import longest_pause

from dalston.local import environments
from dalston.store.files import PlanTask
from dalston.store.scripts import SUBMIT
from tests.contract.model import ASKED
from tests.contract.wire import Scripted
from tests.waiting import until

ROOT = Path(__file__).parents[2]

HOG = """
from pathlib import Path
from dalston_engine import Engine, Media, serve

class Hog(Engine):
    def prepare(self, source: Path, folder: Path) -> Media:
        while True:
            pass

serve(Hog)
"""
PYPROJECT = """
[project]
name = "engine-hog"
version = "1"

[tool.dalston]
id = "hog"
stage = "prepare"
deadline = 1
"""


@contextlib.contextmanager
def engine(
    folder: Path, python: str, valkey: str, data: Path, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """An instance at work on the server's queue."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("DALSTON_")} | env
    env |= {"DALSTON_REDIS_URL": valkey, "DALSTON_DATA": str(data)}
    with subprocess.Popen([python, str(folder / "engine.py")], env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def submit(redis: Any, data: Path, engine: str, stage: str) -> str:
    """A job of one task, with its folder; returns the task's key."""
    (data / "jobs" / "j").mkdir(parents=True)
    (data / "jobs" / "j" / "source.wav").write_bytes(b"RIFF")
    plan = msgspec.json.encode([PlanTask(f"j.{stage}", stage, engine, [], "{}")]).decode()
    assert SUBMIT(redis, job="j", run=1, **ASKED, plan=plan, high=None) == "OK"
    return keys.TASK(task=f"j.{stage}")


@pytest.fixture
def hog(tmp_path: Path) -> Path:
    """An engine whose method never returns and never reports."""
    folder = tmp_path / "hog"
    folder.mkdir()
    (folder / "engine.py").write_text(HOG)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


def fake_python() -> str:
    """An interpreter with the SDK and nothing else."""
    found = environments.find("fake", "")
    found.install(print)
    return found.command[0]


def test_a_method_that_does_not_return_ends_with_its_process_at_the_deadline(
    hog: Path, redis: Any, valkey: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    task = submit(redis, data, "hog", "prepare")
    with engine(hog, fake_python(), valkey, data) as process:
        assert process.wait(20) == 70
    assert redis.hget(task, "state") == "retrying"
    assert json.loads(redis.hget(task, "error"))["code"] == "deadline"


def test_a_load_that_does_not_return_ends_with_its_process_at_the_deadline(
    hog: Path, redis: Any, valkey: str, tmp_path: Path
) -> None:
    """Else it would count as one that loads, and its tasks would wait for it for ever."""
    (hog / "engine.py").write_text(
        HOG.replace(
            "def prepare",
            "def load(self) -> None:\n        "
            + """while True:
            pass

    def prepare""",
        )
    )
    with engine(hog, fake_python(), valkey, tmp_path / "data", DALSTON_PRELOAD="") as process:
        assert process.wait(20) == 70
    assert "loading" in {redis.hget(key, "state") for key in redis.scan_iter("dalston:engine:hog:*")}


def test_a_pause_is_noticed() -> None:
    def hog() -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass

    before = sys.getswitchinterval()
    sys.setswitchinterval(1)
    try:
        assert longest_pause(hog) > 0.3
    finally:
        sys.setswitchinterval(before)
    assert longest_pause(lambda: time.sleep(0.5)) < 0.3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_engine_ends_when_it_is_asked_to_while_redis_is_away(
    hog: Path, tmp_path: Path, number: signal.Signals
) -> None:
    python, socket = fake_python(), tmp_path / "s"
    with Scripted(socket, closes=True) as away, engine(hog, python, f"unix://{socket}", tmp_path) as process:
        until(lambda: away.connections > 3)
        process.send_signal(number)
        assert process.wait(10) == 0
