"""The command line as a person or a script uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from dalston.client import Client, NoServer
from tests.e2e.conftest import DALSTON, SCRIPTED, Server, serving
from tests.waiting import until


def dalston(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [*DALSTON, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | env, check=False)


def test_transcribe_starts_a_server_of_its_own_and_takes_it_away(tmp_path: Path, meeting: Path) -> None:
    done = dalston("transcribe", "--data", tmp_path, "--model", "tiny.en", meeting)
    assert done.returncode == 0, done.stderr
    assert "release notes" in done.stdout
    assert "transcribe (faster-whisper)" in done.stderr
    assert "%" not in done.stdout
    assert list((tmp_path / "runs").iterdir()) == []


def test_transcribe_uses_the_running_server(server: Server, tmp_path: Path, meeting: Path) -> None:
    run: list[str | Path] = ["transcribe", "--data", server.data, "--model", "fake"]
    answer = dalston(*run, meeting, "--format", "json")
    assert json.loads(answer.stdout)["text"] == "a scripted answer"
    srt = dalston(*run, meeting, "--format", "srt").stdout
    assert srt.startswith("1\n00:00:00,000 --> 00:00:10,300\na\n")
    assert dalston(*run, meeting, "--format", "vtt").stdout.startswith("WEBVTT\n")
    dalston(*run, meeting, meeting, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "meeting.txt").read_text() == "a scripted answer\n"


def test_a_bad_file_is_one_sentence_and_exit_code_1(server: Server, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"nothing")
    done = dalston("transcribe", "--data", server.data, bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert "bad.wav: The file is not audio" in done.stderr
    assert "Traceback" not in done.stderr


def test_jobs_and_engines_are_shown(server: Server, meeting: Path) -> None:
    job = server.transcribed(meeting, model="fake")
    assert job["id"] in dalston("jobs", "--data", server.data, COLUMNS="200").stdout
    shown = json.loads(dalston("job", job["id"], "--data", server.data).stdout)
    assert shown["text"] == job["text"]
    assert "final-merger" in dalston("engines", "--data", server.data, COLUMNS="200").stdout
    missing = dalston("job", "f00", "--data", server.data)
    assert (missing.returncode, missing.stderr) == (1, "dalston: There is no job f00.\n")


def test_json_is_had_of_every_command(server: Server, meeting: Path) -> None:
    job = server.submit(meeting, model="fake", fail="error", wait="true").json()["error"]["job"]
    where: list[str | Path] = ["--json", "--data", server.data]
    assert json.loads(dalston("jobs", "--limit", "1", "--state", "failed", *where).stdout)[0]["id"] == job
    assert job in {letter["job"] for letter in json.loads(dalston("dead", "list", *where).stdout)}
    fleet = {engine["id"]: engine for engine in json.loads(dalston("engines", *where).stdout)}
    assert fleet["fake"]["load"]["capacity"] == 1
    (retried,) = json.loads(dalston("retry", job, *where).stdout)
    assert retried["id"] == job
    looks = [json.loads(line) for line in dalston("watch", job, *where).stdout.splitlines()]
    assert looks[-1]["state"] == "failed"
    refused = dalston("cancel", job, "f00", *where)
    assert (refused.returncode, json.loads(refused.stdout)) == (1, [])
    assert "There is no job f00." in refused.stderr
    assert json.loads(dalston("delete", job, *where).stdout) == [{"id": job, "state": "deleted"}]
    assert json.loads(dalston("config", "--json").stdout)["port"]["source"]
    assert json.loads(dalston("doctor", *where).stdout)["server"] == server.url


def test_a_transcript_is_exported(server: Server, tmp_path: Path, meeting: Path) -> None:
    job = server.transcribed(meeting, model="fake", text="some words")["id"]
    export: list[str | Path] = ["export", job, "--data", server.data]
    assert dalston(*export).stdout == "some words\n"
    assert dalston(*export, "--format", "vtt").stdout.startswith("WEBVTT\n")
    assert json.loads(dalston(*export, "--format", "verbose").stdout)["media"]["codec"] == "flac"
    dalston(*export, "--format", "srt", "-o", tmp_path / "talk.srt")
    assert (tmp_path / "talk.srt").read_text().startswith("1\n")
    missing = dalston("export", "f00", "--data", server.data)
    assert (missing.returncode, missing.stderr) == (1, "dalston: There is no job f00.\n")


def test_a_job_is_watched_to_its_end(server: Server, meeting: Path) -> None:
    job = server.submit(meeting, model="fake", seconds="1").json()["id"]
    done = dalston("watch", job, "--data", server.data)
    told = done.stdout.splitlines()
    assert done.returncode == 0
    assert [line.split()[1] for line in told if line.startswith("✓")] == ["prepare", "transcribe", "merge"]
    assert told[-1] == f"{job}  completed"


def test_folders_and_several_files_are_transcribed_in_their_order(
    server: Server, tmp_path: Path, meeting: Path
) -> None:
    talks = tmp_path / "talks"
    (talks / "more").mkdir(parents=True)
    for name in ("b.flac", "a.flac", "more/c.flac", ".hidden.flac", "notes.txt"):
        (talks / name).write_bytes(meeting.read_bytes())
    (talks / "a.wav").write_bytes(b"nothing")
    run: list[str | Path] = ["transcribe", "--data", server.data, "--model", "fake"]
    done = dalston(*run, talks, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "a.wav: The file is not audio" in done.stderr
    assert "merge" in done.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a.flac.txt", "b.txt", "c.txt"}
    (talks / "more" / "b.flac").write_bytes(meeting.read_bytes())
    twice = dalston(*run, talks, "-o", tmp_path / "out")
    assert (twice.returncode, twice.stdout) == (1, "")
    assert "Several recordings are named b.flac" in twice.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no recording" in dalston(*run, empty).stderr


def test_a_server_elsewhere_is_named_by_its_url(server: Server, tmp_path: Path, meeting: Path) -> None:
    run: list[str | Path] = ["transcribe", "--data", tmp_path, "--model", "fake", meeting]
    assert dalston(*run, DALSTON_URL=server.url).stdout == "a scripted answer\n"
    assert not list(tmp_path.iterdir())
    assert "fake" in dalston("engines", "--data", tmp_path, DALSTON_URL=server.url).stdout


def test_a_file_that_cannot_be_read_ends_no_others(server: Server, tmp_path: Path, meeting: Path) -> None:
    run: list[str | Path] = ["transcribe", "--data", server.data, "--model", "fake"]
    done = dalston(*run, meeting, "/proc/self/mem", tmp_path / "nothing.wav", meeting)
    assert done.returncode == 2  # one is not there at all
    done = dalston(*run, meeting, "/proc/self/mem", meeting)
    assert (done.returncode, done.stdout) == (1, "a scripted answer\n" * 2)
    assert "mem: " in done.stderr
    both = dalston(*run, "--format", "json", meeting, meeting).stdout.splitlines()
    assert [json.loads(line)["text"] for line in both] == ["a scripted answer"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_transcribe_leaves_nothing_at_work(
    server: Server, meeting: Path, number: signal.Signals
) -> None:
    before = {job["id"] for job in server.client.get("/v1/audio/transcriptions").json()["jobs"]}
    command = [*DALSTON, "transcribe", "--data", str(server.data), "--model", "fake", str(meeting)]

    def mine() -> list[dict[str, str]]:
        jobs = server.client.get("/v1/audio/transcriptions").json()["jobs"]
        return [job for job in jobs if job["id"] not in before and job["state"] == "running"]

    slow = [server.submit(meeting, model="fake", seconds="3").json()["id"] for _ in range(2)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: len(mine()) == 3)
        process.send_signal(number)
        assert process.wait(20) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    states = {job["id"]: job["state"] for job in server.client.get("/v1/audio/transcriptions").json()["jobs"]}
    (given_up,) = set(states) - before - set(slow)
    assert states[given_up] == "cancelled"
    for job in slow:
        server.client.delete(f"/v1/audio/transcriptions/{job}")


def test_config_tells_values_and_sources(tmp_path: Path) -> None:
    shown = dalston("config", DALSTON_PORT="9999", DALSTON_REDIS_URL="redis://me:secret@host").stdout
    assert "9999" in shown
    assert "DALSTON_PORT" in shown
    assert "secret" not in shown


def test_doctor_finds_this_machine_fit(tmp_path: Path) -> None:
    done = dalston("doctor", "--data", tmp_path)
    assert done.returncode == 0, done.stdout
    assert "✓ engine faster-whisper" in done.stdout


def test_a_second_server_for_the_same_folder_is_refused(server: Server) -> None:
    done = dalston("up", "--data", server.data, "--port", "0")
    assert done.returncode == 1
    assert "Another `dalston up`" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", "0.0.0.0"], "dalston key create"),
        (["--engines", "nope"], "There is no engine 'nope'"),
        (["--port", "99999"], "port (command line) = 99999"),
    ],
)
def test_up_says_why_it_cannot_start(tmp_path: Path, args: list[str], said: str) -> None:
    done = dalston("up", "--data", tmp_path, *args)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(server: Server, tmp_path: Path) -> None:
    port = server.url.rsplit(":", 1)[1]
    done = dalston("up", "--data", tmp_path, "--port", port)
    assert done.returncode == 1
    assert f"Port {port}" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_server(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "data", SCRIPTED) as server:
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert len(family) >= 6
        os.kill(server.process.pid, number)
        server.process.wait(20)
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []


@pytest.mark.timeout(120)
def test_a_job_survives_its_engine_being_killed(tmp_path: Path, meeting: Path) -> None:
    with serving(tmp_path / "data", SCRIPTED) as server:
        job = server.submit(meeting, model="fake", text="still here", seconds="3").json()["id"]
        while server.job(job, wait=0.1)["stages"][1]["state"] != "running":
            pass
        server.child("fake").kill()
        ended = server.job(job, wait=60)
        assert (ended["state"], ended["text"]) == ("completed", "still here")
        assert ended["stages"][1]["attempt"] == 2


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_whoever_follows_a_job_hardly_notices_that_the_gateway_is_killed(
    tmp_path: Path, meeting: Path
) -> None:
    with serving(tmp_path / "data", SCRIPTED) as server:
        killed: list[int] = []

        def seen(job: Any) -> None:
            if not killed and job["stages"][1]["state"] == "running":
                gateway = server.child("dalston.gateway")
                gateway.kill()
                killed.append(gateway.pid)

        async with Client(server.url) as client:
            job = await client.submit(meeting, model="fake", text="still told", seconds=2)
            ended = await client.follow(job["id"], seen)
        assert (ended["state"], ended["text"]) == ("completed", "still told")
        assert killed != [server.child("dalston.gateway").pid]


@pytest.mark.anyio
async def test_a_server_that_ends_meanwhile_is_one_sentence(tmp_path: Path, meeting: Path) -> None:
    with serving(tmp_path / "data", SCRIPTED) as server:
        job = server.submit(meeting, model="fake", seconds="600").json()["id"]
    async with Client(server.url) as client:
        with pytest.raises(NoServer, match=f"No server listens at {server.url}"):
            await client.follow(job, print)
