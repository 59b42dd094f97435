"""Processes are started again, not too fast, and all of them stop."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dalston.local import supervisor as module
from dalston.local.supervisor import Program, Supervisor
from tests.waiting import soon

pytestmark = pytest.mark.anyio
SLEEPS = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses."""
    monkeypatch.setattr(module, "BACKOFF_S", (0.05, 0.1, 0.2, 0.4))
    monkeypatch.setattr(module, "GRACE_S", 0.5)


def program(name: str, code: str, last: bool = False) -> Program:
    """A process that runs some Python."""
    return Program(name, [sys.executable, "-c", code], last=last)


async def test_a_killed_process_is_started_again() -> None:
    house = Supervisor()
    await house.start(program("one", SLEEPS))
    first = house.pids["one"]
    os.kill(first, signal.SIGKILL)
    await soon(lambda: house.pids["one"] != first)
    await house.stop()
    assert not psutil.pid_exists(house.pids["one"])


async def test_a_process_that_keeps_ending_is_reported_and_does_not_spin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marks = tmp_path / "marks"
    house = Supervisor(tmp_path)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        await house.start(program("loop", f"open({str(marks)!r}, 'a').write('x'); raise SystemExit(3)"))
        await soon(lambda: "keeps ending" in caplog.text)
        await soon(lambda: len(marks.read_text()) >= 7)
    took = time.monotonic() - began
    await house.stop()
    assert took > 0.05 + 0.1 + 0.2 + 3 * 0.4, "seven starts have six pauses between them"
    assert "loop keeps ending: 4 times in a row, last with exit code 3" in caplog.text
    assert "dalston doctor" in caplog.text


async def test_what_cannot_be_started_again_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    binary = tmp_path / "binary"
    binary.symlink_to("/bin/sh")
    house = Supervisor()
    await house.start(Program("gone", [str(binary), "-c", "sleep 600"]))
    first = house.pids["gone"]
    binary.unlink()
    os.kill(first, signal.SIGKILL)
    await soon(lambda: "gone cannot be started: No such file or directory" in caplog.text)
    binary.symlink_to("/bin/sh")
    await soon(lambda: house.pids["gone"] != first)
    await house.stop()


async def test_what_others_need_stops_last_and_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    order = tmp_path / "order"
    tells = (
        "import signal, sys, time\n"
        f"def stop(*_):\n    open({str(order)!r}, 'a').write(sys.argv[-1]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('up', flush=True)\ntime.sleep(600)"
    )
    deaf = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    house = Supervisor(tmp_path)
    for name, code, last in (("b", tells, True), ("a", tells, False), ("deaf", deaf, False)):
        await house.start(Program(name, [sys.executable, "-c", code, name], last=last))
    for name in "a", "b", "deaf":
        await soon(lambda name=name: "up" in (tmp_path / f"{name}.log").read_text())  # type: ignore[misc]
    await house.stop()
    assert order.read_text() == "ab"
    assert not [pid for pid in house.pids.values() if psutil.pid_exists(pid)]


async def test_children_die_with_the_process_that_started_them() -> None:
    code = f"""
import asyncio, sys
from dalston.local.supervisor import Program, Supervisor
from tests.waiting import soon
async def main():
    house = Supervisor()
    await house.start(Program("child", [sys.executable, "-c", {SLEEPS!r}]))
    print(house.pids["child"], flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
        await soon(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")
