"""The disk is full: a clear error or a wait, nothing corrupt, and all goes on when there is space again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.cluster import recording
from tests.e2e.conftest import SCRIPTED, Server, serving

PATH = "/v1/audio/transcriptions"
SIZE = 48 << 20

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "dalston-test", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Ballast:
    """A file that takes what space is left."""

    def __init__(self, disk: Path) -> None:
        self.path = disk / "ballast"

    def fill(self) -> None:
        """Leave nothing."""
        with self.path.open("ab", buffering=0) as file:
            for block in (1 << 20, 4096, 1):
                try:
                    while file.write(b"\0" * block) == block:
                        pass
                except OSError:
                    pass

    def drop(self) -> None:
        """Give it back."""
        self.path.unlink(missing_ok=True)


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true answer of `what`."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return answer


def submitted(server: Server, text: str, seconds: float = 0) -> str:
    """The id of an accepted job."""
    answer = server.submit(recording(), model="fake", text=text, seconds=str(seconds))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_an_upload_that_does_not_fit_is_refused_and_leaves_nothing(disk: Path) -> None:
    with serving(disk / "data", SCRIPTED) as server:
        answer = server.submit(os.urandom(SIZE), model="fake", text="too large")
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full"), answer.text
        assert server.folders() == set()
        assert server.client.get("/health").status_code == 200
        assert server.job(submitted(server, "fits"))["text"] == "fits"


def test_work_waits_for_space_and_goes_on_when_there_is_some(disk: Path) -> None:
    ballast = Ballast(disk)
    with serving(disk / "data", SCRIPTED) as server:
        jobs = {submitted(server, f"text {n}", seconds=2): f"text {n}" for n in range(3)}
        first = next(iter(jobs))

        def stages(job: str) -> Any:
            return server.client.get(f"{PATH}/{job}").json()["stages"]

        until(lambda: stages(first)[1]["state"] == "running")
        ballast.fill()
        refused = server.submit(recording(), model="fake", text="no room")
        assert refused.status_code in (503, 507), refused.text
        assert "disk is full" in refused.json()["error"]["message"] or "no writes" in refused.text
        assert server.client.get("/health").status_code == 200
        time.sleep(6)  # the engine ends its task, and Redis notices that it cannot write
        assert {server.client.get(f"{PATH}/{job}").json()["state"] for job in jobs} <= {"queued", "running"}
        ballast.drop()
        began = time.monotonic()
        for job, text in jobs.items():
            found = server.job(job)
            assert (found["state"], found.get("text")) == ("completed", text), found
            assert all(stage["attempt"] == 1 for stage in found["stages"]), found["stages"]
        print(f"three jobs complete {time.monotonic() - began:.1f} s after there was space")
        assert server.job(submitted(server, "as before"))["text"] == "as before"
    with serving(disk / "data", SCRIPTED) as server:
        assert all(server.job(job)["text"] == text for job, text in jobs.items())


def test_a_decoded_recording_that_does_not_fit_waits_visibly(disk: Path) -> None:
    ballast, samples = Ballast(disk), bytes(4_000_000)
    with serving(disk / "data", SCRIPTED) as server:
        ballast.fill()
        os.truncate(ballast.path, ballast.path.stat().st_size - 6_000_000)
        wav = recording()[:40] + len(samples).to_bytes(4, "little") + samples
        answer = server.submit(wav, model="fake", text="long")
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]

        def waiting() -> Any:
            return server.client.get(f"{PATH}/{job}").json()["stages"][0].get("error")

        assert until(waiting)["code"] == "disk_full"
        ballast.drop()
        found = server.job(job)
        assert (found["text"], [stage["attempt"] for stage in found["stages"]]) == ("long", [1, 1, 1])
