"""Cancelling, deleting, retrying and looking into jobs over HTTP."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.chaos.cluster import recording
from tests.e2e.conftest import DALSTON, Server

PATH = "/v1/audio/transcriptions"


def submitted(server: Server, **options: str) -> str:
    """The id of an accepted job of the scripted engine."""
    answer = server.submit(recording(), model="fake", **options)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def refusal(answer: Any) -> tuple[int, str]:
    """Status and code of an error."""
    return answer.status_code, answer.json()["error"]["code"]


def running(server: Server, job: str) -> None:
    """Wait until the scripted engine works at the job; it may still be leaving another one."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        stages = server.job(job, wait=0)["stages"]
        if len(stages) > 1 and stages[1]["state"] == "running":
            return
        time.sleep(0.02)
    pytest.fail("it does not start")


def test_a_running_job_is_cancelled_and_kept(server: Server) -> None:
    job = submitted(server, seconds="600")
    running(server, job)
    told = server.client.post(f"{PATH}/{job}/cancel")
    assert (told.status_code, told.json()["state"]) == (200, "cancelled")
    assert server.client.post(f"{PATH}/{job}/cancel").json() == told.json()
    assert server.job(job) == told.json()
    assert [stage["state"] for stage in told.json()["stages"]] == ["completed", "cancelled", "cancelled"]


def test_a_waiting_caller_is_told_of_the_cancel(server: Server) -> None:
    job = submitted(server, seconds="600")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.job, job, 60)
        running(server, job)
        server.client.post(f"{PATH}/{job}/cancel")
        assert waiting.result(10)["state"] == "cancelled"


def test_a_deleted_job_is_gone_with_its_files(server: Server) -> None:
    for seconds in ("0", "600"):
        job = submitted(server, seconds=seconds)
        if seconds == "0":
            server.job(job)
        assert server.client.delete(f"{PATH}/{job}").status_code == 204
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")):
            assert refusal(server.client.request(method, f"{PATH}/{job}{path}")) == (404, "not_found")
        assert job not in server.folders()


def test_every_stage_can_be_read_by_itself(server: Server) -> None:
    job = submitted(server, text="looked into")
    server.job(job)
    for stage, field in (("prepare", "codec"), ("transcribe", "segments"), ("merge", "text")):
        found = server.client.get(f"{PATH}/{job}", params={"stage": stage}).json()
        assert found["id"] == job
        (task,) = found["tasks"]
        assert (task["stage"], task["state"], field in task["result"]) == (stage, "completed", True)
    unknown = server.client.get(f"{PATH}/{job}", params={"stage": "align"})
    assert refusal(unknown) == (404, "not_found")
    assert "prepare, transcribe, merge" in unknown.json()["error"]["message"]


def test_finished_stages_of_a_failed_job_stay_readable(server: Server) -> None:
    job = submitted(server, fail="bad_input")
    assert server.job(job)["error"]["code"] == "invalid_input"
    (prepare,) = server.client.get(f"{PATH}/{job}?stage=prepare").json()["tasks"]
    (transcribe,) = server.client.get(f"{PATH}/{job}?stage=transcribe").json()["tasks"]
    assert prepare["result"]["codec"] == "pcm_s16le"
    assert "result" not in transcribe


def test_what_cannot_be_done_in_a_jobs_state_is_a_conflict(server: Server) -> None:
    done, busy = submitted(server), submitted(server, seconds="600")
    server.job(done)
    assert refusal(server.client.post(f"{PATH}/{done}/cancel")) == (409, "job_ended")
    for job in (done, busy):
        assert refusal(server.client.post(f"{PATH}/{job}/retry")) == (409, "nothing_to_retry")
    server.client.delete(f"{PATH}/{busy}")


def test_a_given_up_task_is_a_dead_letter_and_can_be_tried_again(server: Server) -> None:
    job = submitted(server, fail="retry")
    assert server.job(job)["state"] == "failed"
    letters = server.client.get("/v1/dead-letters").json()["dead_letters"]
    assert [(one["engine"], one["error"]["code"]) for one in letters if one["job"] == job] == [
        ("fake", "engine_error")
    ]
    listed = subprocess.run(
        [*DALSTON, "dead", "list", "--data", str(server.data)], capture_output=True, text=True, check=True
    )
    assert job in listed.stdout
    again = server.client.post(f"{PATH}/{job}/retry")
    assert again.status_code == 202
    assert again.json()["state"] in ("queued", "running")
    assert server.job(job)["stages"][1]["attempt"] == 3
    assert server.client.delete(f"{PATH}/{job}").status_code == 204
    assert job not in {one["job"] for one in server.client.get("/v1/dead-letters").json()["dead_letters"]}


def test_a_high_job_overtakes_normal_ones(server: Server) -> None:
    first = submitted(server, seconds="1")
    running(server, first)
    normal = [submitted(server, seconds="0.2") for _ in range(3)]
    high = submitted(server, priority="high")
    assert server.job(high)["state"] == "completed"
    assert server.job(normal[-1], wait=0)["state"] != "completed"
    for job in normal:
        server.job(job)
    assert refusal(server.submit(recording(), priority="urgent")) == (400, "invalid_option")


def test_jobs_are_changed_from_the_command_line(server: Server) -> None:
    job = submitted(server, seconds="600")
    for command, said in (("cancel", "cancelled"), ("delete", "deleted")):
        done = subprocess.run(
            [*DALSTON, command, job, "--data", str(server.data)], capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{job}  {said}\n"
    gone = subprocess.run(
        [*DALSTON, "cancel", job, "--data", str(server.data)], capture_output=True, text=True, check=False
    )
    assert (gone.returncode, gone.stderr) == (1, f"dalston: There is no job {job}.\n")
