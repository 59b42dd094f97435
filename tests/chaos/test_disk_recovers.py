"""One part's disk is full: that part waits, the others go on, and a server started on it says why."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.chaos.cluster import PATH
from tests.chaos.small_disk import completed, small_disk, stages, submitted
from tests.e2e.conftest import DALSTON, SCRIPTED, serving
from tests.waiting import until

MB = 1 << 20
LATE_S = 15 + 15 / 5 + 2
"""A lease, until the orchestrator looks again, and some."""

pytestmark = pytest.mark.timeout(180)


def test_a_transcript_that_cannot_be_published_waits_for_space(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data / "jobs", 8 * MB) as disk, serving(data, SCRIPTED) as server:
        orchestrator = server.child("orchestrator")
        orchestrator.send_signal(signal.SIGSTOP)
        job = submitted(server, "published late")
        until(lambda: stages(server, job)[2]["state"] == "completed")
        disk.fill()
        orchestrator.send_signal(signal.SIGCONT)
        until(
            lambda: f"job {job} cannot be read or written, trying again: No space" in server.log.read_text()
        )
        assert server.client.get("/health").status_code == 200
        assert server.client.get(f"{PATH}/{job}").json()["state"] == "running"
        assert not list((data / "jobs" / job).glob("*.part"))
        assert json.loads((data / "jobs" / job / "job.json").read_bytes()).get("outcome") is None
        disk.free()
        took = completed(server, {job: "published late"}, LATE_S)
        print(f"published {took:.1f} s after there was space")
        assert orchestrator.is_running()


def test_a_job_that_is_cancelled_on_a_full_disk_is_cancelled_when_there_is_space(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data / "jobs", 8 * MB) as disk, serving(data, SCRIPTED) as server:
        job = submitted(server, "never", seconds=600)
        until(lambda: stages(server, job)[1]["state"] == "running")
        disk.fill()
        answer = server.client.post(f"{PATH}/{job}/cancel")
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        until(lambda: "⊘" in server.log.read_text())
        disk.free()
        assert server.job(job, wait=LATE_S)["state"] == "cancelled"


def test_a_redis_that_cannot_write_is_waited_for(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data / "redis", 8 * MB) as disk:
        with serving(data, SCRIPTED) as server:
            jobs = {submitted(server, f"before {n}", seconds=4): f"before {n}" for n in range(3)}
            first = next(iter(jobs))
            until(lambda: stages(server, first)[1]["state"] == "running")
            pids = {p.pid for p in map(server.child, ("gateway", "orchestrator", "fake"))}
            disk.fill()
            until(lambda: "still trying" in server.log.read_text())
            jobs |= {submitted(server, f"meanwhile {n}"): f"meanwhile {n}" for n in range(2)}
            assert server.client.get("/health").status_code == 200
            for job in jobs:
                assert server.job(job, wait=0.5)["state"] in {"queued", "running"}
            disk.free()
            took = completed(server, jobs, 45)
            print(f"five jobs complete {took:.1f} s after there was space")
            assert pids == {p.pid for p in map(server.child, ("gateway", "orchestrator", "fake"))}
            assert "Traceback" not in server.log.read_text()
        with serving(data, SCRIPTED) as server:
            completed(server, jobs, 10)
            completed(server, {submitted(server, "as before"): "as before"}, 10)


def test_a_redis_that_is_killed_on_a_full_disk_comes_back_with_what_it_had(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data / "redis", 8 * MB) as disk, serving(data, SCRIPTED) as server:
        jobs = {submitted(server, f"before {n}", seconds=1): f"before {n}" for n in range(3)}
        disk.fill()
        until(lambda: "still trying" in server.log.read_text())
        jobs |= {submitted(server, f"meanwhile {n}"): f"meanwhile {n}" for n in range(2)}
        server.child("valkey").kill()
        until(lambda: "starting it again" in server.log.read_text())
        until(lambda: server.client.get("/health").status_code == 200)
        disk.free()
        for job, text in jobs.items():
            assert server.job(job, wait=60).get("text") == text


def test_a_server_that_is_started_on_a_full_disk_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data, 16 * MB) as disk:
        with serving(data, SCRIPTED) as server:
            jobs = {submitted(server, "kept"): "kept"}
            completed(server, jobs, 10)
        version = (data / "redis" / "server.txt").read_text()
        disk.fill()
        command = [*DALSTON, "up", "--port", "0", "--data", str(data), "--engines", SCRIPTED]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr, done.stderr[-500:]
        assert "space" in done.stderr.splitlines()[-1] or "disk" in done.stderr.splitlines()[-1]
        assert (data / "redis" / "server.txt").read_text() == version
        disk.free()
        with serving(data, SCRIPTED) as server:
            completed(server, jobs, 10)
            completed(server, {submitted(server, "as before"): "as before"}, 10)


def test_deleting_jobs_makes_space_on_a_full_disk(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with small_disk(data, 32 * MB) as disk, serving(data, SCRIPTED) as server:
        jobs = {submitted(server, f"text {n}"): f"text {n}" for n in range(2)}
        completed(server, jobs, 10)
        first, second = jobs
        (data / "jobs" / first / "source.wav").write_bytes(bytes(8 * MB))
        disk.fill()
        waiting = server.submit(bytes(100_000), model="fake")
        assert waiting.status_code == 507
        until(lambda: "still trying" in server.log.read_text() or disk.left)
        assert server.client.delete(f"{PATH}/{first}").status_code == 204
        until(lambda: disk.left > 4 * MB, 100)
        completed(server, {second: jobs[second], submitted(server, "as before"): "as before"}, 30)
