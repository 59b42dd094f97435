"""`dalston rebuild`: whatever happened to Redis, the files bring every job back."""

from __future__ import annotations

import json
import subprocess
import wave
from io import BytesIO
from pathlib import Path

import pytest

from tests.e2e.conftest import DALSTON, SCRIPTED, Server, serving


def tone() -> bytes:
    """Half a second of something."""
    file = BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(bytes(range(256)) * 60)
    return file.getvalue()


def submitted(server: Server, text: str, seconds: str = "0") -> str:
    """The id of an accepted job."""
    answer = server.submit(tone(), model="fake", text=text, seconds=seconds)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def rebuild(data: Path) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [*DALSTON, "rebuild", "--data", str(data)], capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("harm", ["none", "corrupt", "gone"])
def test_a_rebuilt_server_knows_all_jobs_and_runs_those_that_had_not_ended(tmp_path: Path, harm: str) -> None:
    data = tmp_path / "data"
    with serving(data, SCRIPTED) as server:
        done = submitted(server, "was done")
        before = server.job(done)
        assert before["state"] == "completed"
        running = submitted(server, "was running", seconds="3600")
        server.client.get(f"/v1/audio/transcriptions/{running}", params={"wait": 0.5})
        assert rebuild(data).returncode == 1, "a running server is not rebuilt below its feet"
    (job,) = (data / "jobs").glob(f"{running}/job.json")
    file = json.loads(job.read_bytes())
    (transcribe,) = (task for task in file["plan"] if task["stage"] == "transcribe")
    transcribe["params"] = json.dumps(json.loads(transcribe["params"]) | {"seconds": 0})
    job.write_text(json.dumps(file))
    if harm == "corrupt":
        for part in (data / "redis").glob("appendonlydir/*.aof"):
            part.write_bytes(b"this is no append-only file\r\n" * 100)
    elif harm == "gone":
        subprocess.run(["rm", "-r", str(data / "redis")], check=True)
    ended = rebuild(data)
    assert ended.returncode == 0, ended.stderr
    assert "1 jobs will run when the server starts, 1 have ended" in ended.stdout
    with serving(data, SCRIPTED) as server:
        assert server.job(running)["text"] == "was running"
        assert server.job(done) == before
        listed = server.client.get("/v1/audio/transcriptions").json()["jobs"]
        assert [one["id"] for one in listed] == [running, done]
