"""A small file system in place of a folder, and what fills it up."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.cluster import PATH, recording
from tests.e2e.conftest import Server


class SmallDisk:
    """A mounted file system, which a file of ballast can fill."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Leave no space, or so many bytes."""
        with self._ballast.open("ab", buffering=0) as file:
            for block in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * block) == block:
                        pass
        os.truncate(self._ballast, self._ballast.stat().st_size - leave)

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink()

    @property
    def left(self) -> int:
        """Bytes that can still be written."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_bsize


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A file system of so many bytes at this place; skips the test where that is not permitted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "dalston-test", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def submitted(server: Server, text: str, seconds: float = 0) -> str:
    """The id of an accepted job."""
    answer = server.submit(recording(), model="fake", text=text, seconds=str(seconds))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def stages(server: Server, job: str) -> list[Any]:
    """A job's stages as they are now."""
    found: list[Any] = server.client.get(f"{PATH}/{job}").json()["stages"]
    return found


def completed(server: Server, jobs: dict[str, str], within: float) -> float:
    """How long it took until all jobs had completed, each with its text and at first attempts."""
    began = time.monotonic()
    for job, text in jobs.items():
        found = server.job(job, wait=within)
        assert (found["state"], found.get("text")) == ("completed", text), found
        assert {stage["attempt"] for stage in found["stages"]} == {1}, found
    return time.monotonic() - began
