"""How long the supervisor pauses before it starts a process again, and what may happen meanwhile."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from dalston.local import supervisor
from dalston.local.supervisor import Program, Supervisor
from tests.waiting import soon

pytestmark = pytest.mark.anyio
PAUSES = (0.05, 0.1, 0.2, 0.4)
LONG_S = 600


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", PAUSES)


def falling(marks: Path, seconds: float = 0) -> Program:
    """A process that notes when it starts, and ends after so many seconds."""
    note = f"import time; open({str(marks)!r}, 'a').write(f'{{time.monotonic()}}\\n'); time.sleep({seconds})"
    return Program("falling", [sys.executable, "-S", "-c", note])


def starts(marks: Path) -> list[float]:
    """When it started."""
    return [float(line) for line in marks.read_text().splitlines()] if marks.exists() else []


async def test_pauses_grow_up_to_the_longest(tmp_path: Path) -> None:
    house = Supervisor()
    await house.start(falling(tmp_path / "marks"))
    await soon(lambda: len(starts(tmp_path / "marks")) == 7)
    await house.stop()
    pauses = [late - early for early, late in pairwise(starts(tmp_path / "marks"))]
    expected = [*PAUSES, PAUSES[-1], PAUSES[-1]]
    assert all(pause >= least for pause, least in zip(pauses, expected, strict=True)), pauses
    assert sum(pauses) < sum(expected) + 7 * 0.5


async def test_a_process_that_ran_steadily_is_started_again_after_the_first_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "STEADY_S", 0.3)
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.05, LONG_S))
    house = Supervisor()
    with caplog.at_level(logging.WARNING):
        await house.start(falling(tmp_path / "marks", 0.5))
        try:
            await soon(lambda: len(starts(tmp_path / "marks")) == 3, 10)
        finally:
            await house.stop()
    assert "starting it again in 0.05 s" in caplog.text
    assert "keeps ending" not in caplog.text


async def test_stopping_does_not_wait_for_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", (LONG_S,))
    house = Supervisor()
    await house.start(falling(tmp_path / "marks"))
    await soon(lambda: "starting it again" in caplog.text)
    began = time.monotonic()
    await house.stop()
    assert time.monotonic() - began < 1
    assert len(starts(tmp_path / "marks")) == 1


class Falls(logging.Handler):
    """Notes when the supervisor says that a process has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.told.set()


async def test_stopping_during_a_start_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0,))
    sleeps, before, left = f"import time; time.sleep({LONG_S})", set(psutil.Process().children()), []
    for steps in range(20):
        house, falls = Supervisor(), Falls()
        await house.start(Program("one", [sys.executable, "-S", "-c", sleeps]))
        supervisor.log.addHandler(falls)
        os.kill(house.pids["one"], signal.SIGKILL)
        await falls.told.wait()
        supervisor.log.removeHandler(falls)
        for _ in range(steps):
            await asyncio.sleep(0)
        await house.stop()
        if set(psutil.Process().children()) - before:
            left.append(steps)
            await soon(lambda: set(psutil.Process().children()) <= before)
    assert not left, f"stopped {left} steps after the fall, a process was left for a moment"


async def test_output_goes_into_one_file_for_each_process_over_restarts(tmp_path: Path) -> None:
    house = Supervisor(tmp_path)
    say = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    await house.start(Program("one", [sys.executable, "-S", "-c", say]))
    await soon(lambda: (tmp_path / "one.log").read_text().count("err") >= 2)
    await house.stop()
    assert (tmp_path / "one.log").read_text().startswith("out\nerr\nout\n")


async def test_a_process_gets_its_own_environment_and_no_virtual_one_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    house = Supervisor(tmp_path)
    say = "import os; print(*(f'{k}={v}' for k, v in os.environ.items()), os.nice(0), sep='\\n', flush=True)"
    program = Program("one", [sys.executable, "-S", "-c", f"{say}\nimport time; time.sleep({LONG_S})"])
    program.env, program.nice = {"MINE": "1"}, 3
    await house.start(program)
    await soon(lambda: (tmp_path / "one.log").read_text().endswith(f"{os.nice(0) + 3}\n"))
    await house.stop()
    told = (tmp_path / "one.log").read_text()
    assert "MINE=1" in told
    assert "/ours" not in told
