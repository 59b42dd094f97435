"""The disk is full: a clear error or a wait, nothing corrupt, and all goes on when there is space again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.cluster import PATH, recording
from tests.chaos.small_disk import SmallDisk, completed, small_disk, stages, submitted
from tests.e2e.conftest import SCRIPTED, serving
from tests.waiting import until

SIZE = 48 << 20

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small file system of its own."""
    with small_disk(tmp_path / "disk", SIZE) as made:
        yield made


def test_an_upload_that_does_not_fit_is_refused_and_leaves_nothing(disk: SmallDisk) -> None:
    with serving(disk.folder / "data", SCRIPTED) as server:
        answer = server.submit(os.urandom(SIZE), model="fake", text="too large")
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full"), answer.text
        assert server.folders() == set()
        assert server.client.get("/health").status_code == 200
        assert server.job(submitted(server, "fits"))["text"] == "fits"


def test_work_waits_for_space_and_goes_on_when_there_is_some(disk: SmallDisk) -> None:
    with serving(disk.folder / "data", SCRIPTED) as server:
        jobs = {submitted(server, f"text {n}", seconds=2): f"text {n}" for n in range(3)}
        first = next(iter(jobs))
        until(lambda: stages(server, first)[1]["state"] == "running")
        disk.fill()
        refused = server.submit(recording(), model="fake", text="no room")
        assert refused.status_code in (503, 507), refused.text
        assert "disk is full" in refused.json()["error"]["message"] or "no writes" in refused.text
        assert server.client.get("/health").status_code == 200
        until(lambda: "still trying" in server.log.read_text())
        assert {server.client.get(f"{PATH}/{job}").json()["state"] for job in jobs} <= {"queued", "running"}
        disk.free()
        print(f"three jobs complete {completed(server, jobs, 60):.1f} s after there was space")
        completed(server, {submitted(server, "as before"): "as before"}, 60)
    with serving(disk.folder / "data", SCRIPTED) as server:
        assert all(server.job(job)["text"] == text for job, text in jobs.items())


def test_a_decoded_recording_that_does_not_fit_waits_visibly(disk: SmallDisk) -> None:
    samples = bytes(4_000_000)
    with serving(disk.folder / "data", SCRIPTED) as server:
        disk.fill(leave=6_000_000)
        wav = recording()[:40] + len(samples).to_bytes(4, "little") + samples
        answer = server.submit(wav, model="fake", text="long")
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        assert until(lambda: stages(server, job)[0].get("error"))["code"] == "disk_full"
        disk.free()
        completed(server, {job: "long"}, 60)
