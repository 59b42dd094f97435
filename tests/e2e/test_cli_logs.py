"""`dalston logs` shows what the server's processes wrote."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from dalston.local.logbook import NAME, OLD
from tests.e2e.conftest import DALSTON, Server
from tests.e2e.test_cli import dalston
from tests.waiting import until


def test_logs_of_all_processes_and_of_one(server: Server, meeting: Path) -> None:
    job = server.transcribed(meeting, model="fake", text="a secret of mine")
    until(lambda: job["id"] in dalston("logs", "fake", "--data", server.data).stdout)
    everything = dalston("logs", "--data", server.data, "-n", "1000").stdout
    assert {"fake", "prepare", "final-merger"} <= {line.split()[0] for line in everything.splitlines()}
    assert "secret" not in everything
    assert "meeting" not in everything
    one = dalston("logs", "fake", "--data", server.data, "-n", "1000").stdout.splitlines()
    assert any(line.endswith("fake is ready") for line in one)
    assert one[0][:2].isdigit()
    assert len(dalston("logs", "-n", "2", "--data", server.data).stdout.splitlines()) == 2
    missing = dalston("logs", "nobody", "--data", server.data)
    assert missing.returncode == 1
    assert "Nothing has been written by nobody. There are: " in missing.stderr


def test_logs_are_followed_into_the_next_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / OLD).write_text("fake  zero\n")
    log = (folder / NAME).open("a", buffering=1)
    log.write("fake  one\n")
    command = [*DALSTON, "logs", "-f", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["fake  zero\n", "fake  one\n"]
        log.write("fake  two\n")
        assert process.stdout.readline() == "fake  two\n"
        (folder / NAME).replace(folder / OLD)
        log.write("fake  three\n")
        log.close()
        with (folder / NAME).open("a") as following:
            following.write("fake  four\n")
        assert [process.stdout.readline() for _ in range(2)] == ["fake  three\n", "fake  four\n"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_no_log_is_one_sentence(tmp_path: Path) -> None:
    done = dalston("logs", "--data", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "`dalston up` writes one" in done.stderr


def test_whatever_an_engine_writes_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / OLD).write_bytes(b"fake           a\x0cb\n")
    (folder / NAME).write_bytes(
        "fake           10%\r20%\rdone\n\nfake           \u2028\n".encode() + b"fake \xff"
    )
    shown = dalston("logs", "--data", tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "done" in shown.stdout
    assert dalston("logs", "-n", "-1", "--data", tmp_path).returncode == 2
