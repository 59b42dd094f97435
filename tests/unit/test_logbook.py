"""The server's log file: everything a process writes is in it and on the terminal, and it stays small."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from dalston.local.logbook import NAME, OLD, Logbook
from tests.waiting import until


def write(book: Logbook, name: str, text: bytes) -> None:
    with book.output(name) as descriptor:
        os.write(descriptor, text)


def test_what_a_process_writes_is_shown_as_it_is_and_kept_line_by_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    book = Logbook(tmp_path)
    write(book, "gateway", b"12:00:00 one\n12:00:01 two\nhalf a line")
    book.end()
    assert capfd.readouterr().err == "12:00:00 one\n12:00:01 two\nhalf a line"
    kept = (tmp_path / NAME).read_text().splitlines()
    assert [line.split(maxsplit=1) for line in kept] == [
        ["gateway", "12:00:00 one"], ["gateway", "12:00:01 two"], ["gateway", "half a line"]
    ]  # fmt: skip


def test_the_terminal_does_not_wait_for_the_end_of_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    book = Logbook(tmp_path)
    with book.output("engine") as descriptor:
        os.write(descriptor, b"10 %")
        until(lambda: "10 %" in capfd.readouterr().err)
    book.end()


def test_the_supervisor_writes_into_it_too(tmp_path: Path) -> None:
    book = Logbook(tmp_path)
    book.handle(logging.LogRecord("dalston", logging.WARNING, "", 0, "%s ended", ("fake",), None))
    book.end()
    line = (tmp_path / NAME).read_text()
    assert line.startswith("supervisor ")
    assert line.endswith("warning: fake ended\n")


def test_two_files_hold_the_latest_lines_and_grow_no_further(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    book = Logbook(tmp_path, limit=1000)
    for n in range(200):
        write(book, "fake", b"line %d\n" % n)
        until(lambda n=n: f"line {n}\n" in (tmp_path / NAME).read_text())  # type: ignore[misc]
    write(book, "fake", b"x" * 40_000)
    book.end()
    old, now = (tmp_path / OLD).read_text(), (tmp_path / NAME).read_text()
    assert len(old) < 1100
    assert len(now) < 45_000
    lines = [line for line in (old + now).splitlines() if "line" in line]
    numbers = [int(line.split()[-1]) for line in lines]
    assert numbers == list(range(numbers[0], 200))


def test_a_file_that_takes_nothing_costs_the_terminal_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).symlink_to("/dev/full")
    book = Logbook(tmp_path)
    write(book, "fake", b"still shown\n")
    book.end()
    assert capfd.readouterr().err == "still shown\n"
