"""Looking on: shapes of transcripts, pages of jobs, load, events, metrics."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import SCRIPTED, Server, serving
from tests.waiting import until

PATH = "/v1/audio/transcriptions"


# Shapes


@pytest.mark.parametrize(
    ("format", "kind", "begin"),
    [
        ("text", "text/plain", "some words"),
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> "),
        ("vtt", "text/vtt", "WEBVTT\n"),
    ],
)
def test_a_transcript_is_had_as_text(
    server: Server, meeting: Path, format: str, kind: str, begin: str
) -> None:
    waited = server.submit(meeting, model="fake", text="some words", wait="true", format=format)
    job = server.client.get(PATH, params={"limit": 1}).json()["jobs"][0]["id"]
    read = server.client.get(f"{PATH}/{job}", params={"format": format})
    for answer in (waited, read):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert answer.text.startswith(begin)
        assert "some" in answer.text
        assert "words" in answer.text


def test_a_verbose_job_tells_what_was_asked_and_what_the_source_is(server: Server, meeting: Path) -> None:
    job = server.transcribed(meeting, model="fake", text="words", format="verbose")
    assert job["request"]["model"] == "fake"
    assert (job["media"]["container"], job["media"]["codec"]) == ("flac", "flac")
    assert job["text"] == "words"
    assert "media" not in server.job(job["id"])


def test_a_transcript_that_is_not_there_cannot_be_had(server: Server, meeting: Path) -> None:
    job = server.submit(meeting, model="fake", seconds="3").json()["id"]
    early = server.client.get(f"{PATH}/{job}", params={"format": "srt"})
    assert (early.status_code, early.json()["error"]["code"]) == (409, "no_transcript")
    assert server.client.get(f"{PATH}/{job}", params={"format": "verbose"}).json()["state"] != "completed"
    assert server.client.get(f"{PATH}/{job}", params={"format": "xml"}).status_code == 400
    assert server.client.get(f"{PATH}/{job}", params={"format": "srt", "wait": 20}).status_code == 200


@pytest.mark.parametrize("fields", [{"format": "srt"}, {"format": "xml", "wait": "true"}])
def test_a_shape_that_cannot_be_given_is_refused(
    server: Server, meeting: Path, fields: dict[str, str]
) -> None:
    before = server.folders()
    answer = server.submit(meeting, model="fake", **fields)
    assert answer.status_code == 400
    assert "format" in answer.json()["error"]["message"]
    assert server.folders() == before


# Pages


def test_jobs_are_paged_and_filtered(server: Server, meeting: Path) -> None:
    made = [server.submit(meeting, model="fake", wait="true").json()["id"] for _ in range(5)]
    failed = server.submit(meeting, model="fake", fail="bad_input", wait="true").json()["error"]["job"]
    newest = [failed, *reversed(made)]
    assert listed(server, limit=6)[:6] == newest
    assert list(pages(server, 2))[:6] == newest
    assert listed(server, limit=1, state="failed") == [failed]
    assert listed(server, limit=5, state="completed") == newest[1:]
    assert listed(server, state=["queued", "running"]) == []
    third = server.job(made[2])["created_at"]
    assert listed(server, created_after=third) == newest[:4]
    assert listed(server, created_before=third, limit=3) == newest[3:]
    assert listed(server, created_after="2100-01-01T00:00:00Z") == []
    assert listed(server, created_before="0001-01-01T00:00:00") == []


def test_a_page_goes_on_where_a_deleted_job_was(server: Server, meeting: Path) -> None:
    made = [server.submit(meeting, model="fake", wait="true").json()["id"] for _ in range(3)]
    first = server.client.get(PATH, params={"limit": 1}).json()
    server.client.delete(f"{PATH}/{first['jobs'][0]['id']}")
    second = server.client.get(PATH, params={"limit": 1, "after": first["next"]}).json()
    assert [job["id"] for job in second["jobs"]] == [made[1]]


@pytest.mark.parametrize(
    "query", [{"after": "x"}, {"after": "1e9-x"}, {"state": "done"}, {"created_after": "now"}]
)
def test_a_filter_that_is_none_is_refused(server: Server, query: dict[str, str]) -> None:
    answer = server.client.get(PATH, params=query)
    assert answer.status_code == 400
    assert next(iter(query)) in answer.json()["error"]["message"]


def listed(server: Server, **query: Any) -> list[str]:
    answer = server.client.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


def pages(server: Server, limit: int) -> Iterator[str]:
    """All jobs, page by page."""
    query: dict[str, Any] = {"limit": limit}
    while True:
        found = server.client.get(PATH, params=query).json()
        yield from (job["id"] for job in found["jobs"])
        if "next" not in found:
            return
        query["after"] = found["next"]


# Load


def test_an_engines_load_is_told(server: Server, meeting: Path) -> None:
    idle = server.client.get("/v1/engines/fake/load").json()
    assert idle == {"engine": "fake", "waiting": 0, "running": 0, "capacity": 1, "audio_seconds_ahead": 0}
    jobs = [server.submit(meeting, model="fake", seconds="2").json()["id"] for _ in range(3)]
    until(lambda: server.client.get("/v1/engines/fake/load").json()["waiting"] == 2)
    busy = server.client.get("/v1/engines/fake/load").json()
    one = server.job(jobs[0])["duration"]
    assert (busy["running"], busy["audio_seconds_ahead"]) == (1, pytest.approx(3 * one, abs=0.01))
    for job in jobs:
        server.client.delete(f"{PATH}/{job}")
    answer = server.client.get("/v1/engines/nobody/load")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


# Events


class Listener(threading.Thread):
    """Follows the events of a server."""

    def __init__(self, server: Server, after: str | None = None, **query: str) -> None:
        super().__init__(daemon=True)
        self.server, self.query = server, query
        self.headers = {"last-event-id": after} if after else {}
        self.heard: list[dict[str, str]] = []
        self.listening = threading.Event()
        self.start()
        assert self.listening.wait(10)

    def run(self) -> None:
        with self.server.client.stream(
            "GET", "/v1/events", params=self.query, headers=self.headers
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            self.listening.set()
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.heard.append(json.loads(line.removeprefix("data: ")))

    def of(self, job: str) -> list[tuple[str | None, str]]:
        """What was heard of a job."""
        return [(one.get("task"), one["state"]) for one in self.heard if one["job"] == job]


STORY = [
    (None, "queued"),
    ("prepare", "queued"),
    ("prepare", "running"),
    ("prepare", "completed"),
    ("transcribe", "queued"),
    ("transcribe", "running"),
    ("transcribe", "completed"),
    ("merge", "queued"),
    ("merge", "running"),
    ("merge", "completed"),
    (None, "completed"),
]


def test_changes_are_told_as_they_happen_and_again_to_who_comes_back(tmp_path: Path, meeting: Path) -> None:
    with serving(tmp_path / "data", SCRIPTED) as server:
        everything = Listener(server)
        one, other = (server.submit(meeting, model="fake").json()["id"] for _ in range(2))
        only = Listener(server, job=other, after="0-1")
        until(lambda: len(everything.heard) == 2 * len(STORY) and len(only.heard) == len(STORY))
        assert everything.of(one) == everything.of(other) == only.of(other) == STORY
        again = Listener(server, after=everything.heard[4]["id"])
        until(lambda: len(again.heard) == 2 * len(STORY) - 5)
        assert again.heard == everything.heard[5:]
        last = server.submit(meeting, model="fake", wait="true").json()["id"]
        until(lambda: again.of(last) == STORY)
        assert only.of(last) == []
        server.process.send_signal(signal.SIGTERM)
        for listener in (everything, only, again):
            listener.join(4)  # nobody who listens keeps the server from ending
            assert not listener.is_alive()
        server.process.wait(10)


@pytest.mark.parametrize("place", ["yesterday", "99999999999999999999-0", "1-18446744073709551615"])
def test_a_place_that_is_none_is_refused(server: Server, place: str) -> None:
    answer = server.client.get("/v1/events", headers={"last-event-id": place})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_option")


# Metrics


def samples(server: Server) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample by its name and the values of its labels."""
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def total(found: dict[tuple[str, ...], float], *labels: str) -> float:
    """The sum of the samples that have these labels."""
    return sum(value for key, value in found.items() if set(labels) <= set(key))


def test_metrics_tell_what_engines_and_the_gateway_do(tmp_path: Path, meeting: Path) -> None:
    with serving(tmp_path / "data", SCRIPTED) as server:
        job = server.transcribed(meeting, model="fake", seconds="0.5")
        server.submit(meeting, model="fake", fail="error", wait="true")
        done = "dalston_engine_tasks_total"
        wanted = {("fake", "completed"): 1, ("fake", "retry"): 3, ("final-merger", "completed"): 1,
                  ("prepare", "completed"): 2}  # fmt: skip
        until(lambda: {key: total(samples(server).get(done, {}), *key) for key in wanted} == wanted)
        found = samples(server)
        assert found["dalston_jobs"] == {(): 2}
        assert found["dalston_jobs_active"] == {(): 0}
        assert found["dalston_dead_letters"][("fake",)] == 1
        assert found["dalston_queue_waiting"][("fake",)] == found["dalston_queue_running"][("fake",)] == 0
        assert total(found["dalston_engine_up"], "fake", "idle") == 1
        assert total(found["dalston_stage_seconds_total"], "fake") >= 0.5
        audio = total(found["dalston_stage_audio_seconds_total"], "fake")
        assert audio == pytest.approx(job["duration"], abs=0.01)
        factor = total(found["dalston_stage_real_time_factor"], "fake")
        assert factor == pytest.approx(total(found["dalston_stage_seconds_total"], "fake") / audio)
        posts = found["dalston_http_request_seconds_count"]
        assert posts[("POST", PATH, "200")] == 1
        assert found["dalston_leases_lost_total"] == {(): 0}
        for nonsense in ("BREW", "X" * 200):
            assert server.client.request(nonsense, "/nowhere").status_code in (404, 405)
        answers = samples(server)["dalston_http_request_seconds_count"]
        assert [answers[one] for one in answers if one[1] == "none" and one[0] == "other"] == [2]


def test_a_lost_lease_is_counted(tmp_path: Path, meeting: Path) -> None:
    with serving(tmp_path / "data", SCRIPTED) as server:
        job = server.submit(meeting, model="fake", seconds="3").json()["id"]
        until(lambda: server.client.get("/v1/engines/fake/load").json()["running"] == 1)
        psutil.Process(server.child("/fake/").pid).kill()
        assert server.job(job, wait=60)["state"] == "completed"
        assert samples(server)["dalston_leases_lost_total"] == {(): 1}
