"""A long recording is cut in its silences, transcribed by whoever is free, and put together again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import DALSTON, SCRIPTED, Server, serving
from tests.e2e.test_transcription import assert_well_formed, recall, spoken
from tests.waiting import until

CUT = {"DALSTON_PREPARE_SPLIT_AFTER": "20", "DALSTON_PREPARE_PART_SECONDS": "30"}


@pytest.fixture(scope="module")
def cutting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that cuts all that is longer than 20 s."""
    with serving(tmp_path_factory.mktemp("long"), f"{SCRIPTED},faster-whisper", **CUT) as running:
        yield running


def parts(job: Any) -> list[Any]:
    """Its transcribe tasks."""
    return [stage for stage in job["stages"] if stage["stage"] == "transcribe"]


@pytest.mark.timeout(180)
def test_parts_say_what_the_whole_says(server: Server, cutting: Server, recordings: Path) -> None:
    talk = recordings / "dev_long_lj.flac"
    whole = server.transcribed(talk, model="tiny.en", word_timestamps="true")
    job = cutting.transcribed(talk, model="tiny.en", word_timestamps="true")
    assert len(parts(whole)) == 1
    assert [stage["part"] for stage in parts(job)] == list(range(4))
    assert_well_formed(job)
    assert job["duration"] == whole["duration"]
    assert job["language"] == "en"
    assert recall(whole["text"], job["text"]) > 0.95
    assert recall(job["text"], whole["text"]) > 0.95
    assert abs(len(spoken(job["text"])) - len(spoken(whole["text"]))) <= 3
    times = {word["text"]: word["start"] for word in whole["words"]}
    apart = sorted(abs(times[w["text"]] - w["start"]) for w in job["words"] if once(whole, w["text"]))
    assert apart[len(apart) // 2] < 0.1, "they are on the clock of the recording"


def once(job: Any, text: str) -> bool:
    """Whether a word is said once."""
    return [word["text"] for word in job["words"]].count(text) == 1


@pytest.mark.timeout(120)
def test_without_word_times_too(cutting: Server, recordings: Path) -> None:
    talk = recordings / "dev_long_lj.flac"
    job = cutting.transcribed(talk, model="tiny.en", word_timestamps="false")
    assert "words" not in job
    assert_well_formed(job)
    again = cutting.transcribed(talk, model="tiny.en", word_timestamps="true")
    assert recall(again["text"], job["text"]) > 0.95


def test_a_part_that_fails_is_done_again_alone(cutting: Server, recordings: Path) -> None:
    job = cutting.submit(recordings / "dev_long_lj.flac", model="fake", seconds="1").json()["id"]
    (first,) = fakes(cutting)

    def begun() -> Any:
        found = cutting.job(job, wait=0)
        return [stage for stage in parts(found) if stage["state"] == "running"]

    until(begun, 20)
    first.kill()
    ended = cutting.job(job)
    assert ended["state"] == "completed"
    assert sorted(stage["attempt"] for stage in parts(ended)) == [1, 1, 1, 2]
    assert spoken(ended["text"]) == spoken("a scripted answer") * 4


def test_instances_share_the_parts(cutting: Server, recordings: Path) -> None:
    command = [*DALSTON, "engine", "start", "fake", "--data", str(cutting.data)]
    with subprocess.Popen(command) as other:
        try:
            until(lambda: len(instances(cutting)) == 2, 20)
            job = cutting.submit(recordings / "dev_long_lj.flac", model="fake", seconds="1").json()["id"]
            until(lambda: sum(s["state"] == "running" for s in parts(cutting.job(job, wait=0))) == 2, 20)
            assert cutting.job(job)["state"] == "completed"
        finally:
            other.terminate()
            other.wait(20)


def fakes(server: Server) -> list[psutil.Process]:
    """Its processes of the scripted engine."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "engines/fake" in " ".join(child.cmdline())]


def instances(server: Server) -> list[Any]:
    """The scripted engine's instances, as the server tells."""
    (found,) = (one for one in server.client.get("/v1/engines").json()["engines"] if one["id"] == "fake")
    return list(found["instances"])
