"""Limits of keys, a full server, and requests that are sent twice."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from dalston_engine import keys
from dalston_engine.queue import connect

from dalston.local import valkey as embedded
from dalston.store.access_keys import AccessKeys, Limits, Wanted
from tests.e2e.conftest import SCRIPTED, Server, serving
from tests.security import craft
from tests.waiting import until

NATIVE, ELEVENLABS = "/v1/audio/transcriptions", "/v1/speech-to-text"
FILE = {"file": ("talk.wav", craft.wav())}
ROOM, PATIENCE_S = 2, 20


def recording(seconds: int) -> bytes:
    """So much of something."""
    return craft.wav(samples=b"\x10\x01" * 16_000 * seconds)


class Limited:
    """A server with little room, and keys that may do little."""

    def __init__(self, server: Server) -> None:
        self.server, self.keys = server, AccessKeys(server.data)

    def key(self, **limits: Any) -> str:
        """A key's secret."""
        return self.keys.make(Wanted("limited", limits=Limits(**limits)))[1]

    def ask(self, key: str = "", path: str = NATIVE, native: bool = True, again: str = "",
            content: bytes | None = None, **fields: Any) -> httpx2.Response:  # fmt: skip
        """Submit a recording with somebody's key."""
        headers = {"xi-api-key": key} | ({"idempotency-key": again} if again else {})
        headers |= {} if native else {"x-dalston-api": ""}
        name = "model_id" if path == ELEVENLABS else "model"
        form = {name: "fake"} | {field: str(value) for field, value in fields.items()}
        files = {"file": ("talk.wav", content)} if content else FILE
        return self.server.client.post(path, data=form, files=files, headers=headers)

    @property
    def waiting(self) -> int:
        """How many callers wait to be let in."""
        told = self.server.client.get("/metrics").text
        (found,) = re.findall(r"^dalston_callers_waiting (\d+)", told, re.MULTILINE)
        return int(found)

    @contextlib.contextmanager
    def full(self, room: int = ROOM) -> Iterator[list[str]]:
        """While there is no room: the jobs that take it. They are gone afterwards."""
        jobs = [self.ask(seconds=600).json()["id"] for _ in range(room)]
        try:
            yield jobs
        finally:
            for job in jobs:
                self.server.client.post(f"{NATIVE}/{job}/cancel")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """A server with room for two jobs."""
    settings = {"DALSTON_MAX_JOBS": str(ROOM), "DALSTON_WAIT_TIMEOUT": f"{PATIENCE_S}s"}
    with serving(tmp_path_factory.mktemp("limited"), SCRIPTED, **settings) as server:
        yield Limited(server)


@pytest.fixture
def together() -> Iterator[ThreadPoolExecutor]:
    """For requests that wait."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def refused(answer: httpx2.Response, status: int, code: str) -> float:
    """The seconds to wait, of a refusal."""
    told = answer.json()
    assert (answer.status_code, (told.get("error") or told.get("detail"))["code"]) == (status, code), told
    return float(answer.headers["retry-after"])


# Limits


def test_a_key_asks_so_often_a_minute(limited: Limited) -> None:
    key = limited.key(requests_per_minute=3)
    for _ in range(3):
        assert limited.ask(key, wait="true").status_code == 200
    assert 1 <= refused(limited.ask(key), 429, "rate_limit_exceeded") <= 20
    assert limited.ask(limited.key(requests_per_minute=3), wait="true").status_code == 200


def test_a_key_has_so_many_jobs_at_work(limited: Limited) -> None:
    key = limited.key(concurrent_jobs=1)
    job = limited.ask(key, seconds=600).json()["id"]
    assert refused(limited.ask(key), 429, "concurrent_limit_exceeded") >= 1
    limited.server.client.post(f"{NATIVE}/{job}/cancel")
    assert limited.ask(key, wait="true").status_code == 200
    assert limited.ask(key, wait="true").status_code == 200


def test_concurrent_requests_do_not_pass_a_limit_together(
    limited: Limited, together: ThreadPoolExecutor
) -> None:
    key = limited.key(concurrent_jobs=1)
    answers = list(together.map(lambda _: limited.ask(key, seconds=600), range(6)))
    assert sorted(answer.status_code for answer in answers) == [202] + 5 * [429]
    (taken,) = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    limited.server.client.delete(f"{NATIVE}/{taken}")


def test_a_key_has_so_much_audio_an_hour(limited: Limited) -> None:
    key, four = limited.key(audio_minutes_per_hour=0.1), recording(4)
    for _ in range(2):
        assert limited.ask(key, wait="true", content=four).status_code == 200
    assert 3000 <= refused(limited.ask(key), 429, "quota_exceeded") <= 3600
    vendor = limited.ask(key, ELEVENLABS, native=False)
    assert refused(vendor, 401, "quota_exceeded") >= 3000
    openai = limited.ask(key, native=False)
    assert refused(openai, 429, "insufficient_quota") >= 3000


def test_what_failed_is_not_counted(limited: Limited) -> None:
    key = limited.key(audio_minutes_per_hour=0.01)
    for _ in range(3):
        failed = limited.ask(key, wait="true", fail="bad_input", content=recording(2))
        assert failed.json()["error"]["code"] == "invalid_input"


def test_a_token_counts_as_its_key(limited: Limited) -> None:
    key = limited.key(concurrent_jobs=1)
    token = limited.server.client.post("/v1/single-use-token/batch_scribe", headers={"xi-api-key": key})
    job = limited.ask(key, seconds=600).json()["id"]
    again = limited.server.client.post(
        NATIVE, params={"token": token.json()["token"]}, data={"model": "fake"}, files=FILE
    )
    refused(again, 429, "concurrent_limit_exceeded")
    limited.server.client.delete(f"{NATIVE}/{job}")


def test_trying_again_is_within_the_limits(limited: Limited) -> None:
    key = limited.key(concurrent_jobs=1)
    job = limited.ask(key, seconds=600).json()["id"]
    post, headers = limited.server.client.post, {"xi-api-key": key}
    assert post(f"{NATIVE}/{job}/cancel", headers=headers).status_code == 200
    other = limited.ask(key, seconds=600).json()["id"]
    refused(post(f"{NATIVE}/{job}/retry", headers=headers), 429, "concurrent_limit_exceeded")
    limited.server.client.delete(f"{NATIVE}/{other}")
    assert post(f"{NATIVE}/{job}/retry", headers=headers).status_code == 202
    refused(limited.ask(key), 429, "concurrent_limit_exceeded")
    limited.server.client.delete(f"{NATIVE}/{job}")


def test_limits_are_shown_with_the_key(limited: Limited) -> None:
    made = limited.server.client.post("/v1/keys", json={"name": "x", "limits": {"concurrent_jobs": 2}})
    assert made.json()["limits"] == {"concurrent_jobs": 2}
    wrong = limited.server.client.post("/v1/keys", json={"name": "x", "limits": {"concurrent_jobs": 0}})
    assert wrong.status_code == 400


# A full server


def test_who_does_not_wait_is_refused_at_once(limited: Limited) -> None:
    with limited.full():
        assert 1 <= refused(limited.ask(), 503, "queue_full") <= 3600
    assert limited.ask(wait="true").status_code == 200


def test_who_waits_is_let_in_when_there_is_room(limited: Limited, together: ThreadPoolExecutor) -> None:
    with limited.full() as jobs:
        waiting = [
            together.submit(limited.ask, "", path, native)
            for path, native in [(ELEVENLABS, False), (NATIVE, False), (NATIVE, True)]
        ]
        waiting[-1] = together.submit(limited.ask, wait="true")
        until(lambda: limited.waiting == 3)
        assert not any(one.done() for one in waiting)
        for job in jobs:
            limited.server.client.post(f"{NATIVE}/{job}/cancel")
        assert [one.result(30).status_code for one in waiting] == 3 * [200]


def test_keys_take_turns_and_each_ones_requests_keep_their_order(
    tmp_path: Path, together: ThreadPoolExecutor
) -> None:
    with serving(tmp_path / "data", SCRIPTED, DALSTON_MAX_JOBS="1") as server:
        limited = Limited(server)
        ann, bob = limited.key(), limited.key()
        with limited.full(1) as (job,):
            waiting = {}
            for name, key in [("ann 1", ann), ("ann 2", ann), ("ann 3", ann), ("bob 1", bob)]:
                waiting[name] = together.submit(limited.ask, key, wait="true", seconds=0.1)
                until(lambda: limited.waiting == len(waiting))
            server.client.post(f"{NATIVE}/{job}/cancel")
            ended = {name: one.result(30).json()["finished_at"] for name, one in waiting.items()}
    assert sorted(ended, key=lambda name: ended[name]) == ["ann 1", "bob 1", "ann 2", "ann 3"]


def test_who_waits_in_vain_is_told_so_in_his_dialect(tmp_path: Path, together: ThreadPoolExecutor) -> None:
    settings = {"DALSTON_MAX_JOBS": str(ROOM), "DALSTON_WAIT_TIMEOUT": "1s"}
    with serving(tmp_path / "data", SCRIPTED, **settings) as server:
        limited = Limited(server)
        with limited.full() as jobs:
            began = time.monotonic()
            waiting = [
                together.submit(limited.ask, "", ELEVENLABS, False),
                together.submit(limited.ask, "", NATIVE, False),
            ]
            vendor, openai = (one.result(30) for one in waiting)
            assert time.monotonic() - began >= 1
            assert refused(vendor, 429, "system_busy") >= 1
            assert refused(openai, 503, "queue_full") >= 1
            until(lambda: server.folders() == set(jobs))  # what came with them is gone


@pytest.mark.parametrize("header", ["x-stainless-read-timeout", "X-Stainless-Timeout"])
def test_a_client_that_says_when_it_gives_up_is_answered_before(limited: Limited, header: str) -> None:
    with limited.full():
        began = time.monotonic()
        headers = {"x-dalston-api": "", header: "1.5"}
        answer = limited.server.client.post(NATIVE, data={"model": "fake"}, files=FILE, headers=headers)
        refused(answer, 503, "queue_full")
        assert 1 < time.monotonic() - began < PATIENCE_S


def test_who_hangs_up_is_not_let_in(limited: Limited) -> None:
    with limited.full() as jobs:
        before = limited.server.folders()
        with pytest.raises(httpx2.TimeoutException):
            limited.server.client.post(NATIVE, data={"model": "fake", "wait": "true"}, files=FILE, timeout=1)
        assert len(limited.server.folders()) == len(before) + 1
        limited.server.client.post(f"{NATIVE}/{jobs[0]}/cancel")
        until(lambda: limited.server.folders() == before)
        assert limited.waiting == 0


# Idempotency


def test_a_request_that_is_sent_again_is_the_same_job(limited: Limited) -> None:
    key = secrets.token_hex(8)
    first = limited.ask(again=key, wait="true")
    before = limited.server.folders()
    second = limited.ask(again=key, wait="true")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["id"] == second.json()["id"]
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert limited.server.folders() == before
    assert limited.ask(again=secrets.token_hex(8), wait="true").json()["id"] != first.json()["id"]


@pytest.mark.parametrize("path", [ELEVENLABS, NATIVE])
def test_dialects_answer_again_as_before(limited: Limited, path: str) -> None:
    key = secrets.token_hex(8)
    first, second = (limited.ask(path=path, native=False, again=key) for _ in range(2))
    assert (first.status_code, first.content) == (200, second.content)
    assert second.headers["idempotent-replayed"] == "true"


def test_another_request_with_the_same_key_is_refused(limited: Limited) -> None:
    key = secrets.token_hex(8)
    limited.ask(again=key, wait="true")
    for more in ({"text": "other"}, {"content": recording(2)}):
        answer = limited.ask(again=key, wait="true", **more)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_mismatch")
    long = limited.ask(again="x" * 256)
    assert (long.status_code, long.json()["error"]["code"]) == (400, "invalid_idempotency_key")


def test_a_repeat_is_answered_where_the_recording_is_not_kept(
    limited: Limited, together: ThreadPoolExecutor
) -> None:
    key, before = secrets.token_hex(8), limited.server.folders()
    fields: dict[str, Any] = {"native": False, "again": key, "enable_logging": "false"}
    first, second = (together.submit(limited.ask, "", ELEVENLABS, **fields) for _ in range(2))
    assert [first.result(30).status_code, second.result(30).status_code] == [200, 200]
    assert first.result().content == second.result().content
    assert len(limited.server.folders() - before) == 1


def test_who_is_beyond_his_limit_is_answered_again_all_the_same(limited: Limited) -> None:
    key, limit = secrets.token_hex(8), limited.key(requests_per_minute=1)
    first, second = (limited.ask(limit, again=key, wait="true") for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    refused(limited.ask(limit), 429, "rate_limit_exceeded")


def test_keys_of_others_mean_nothing(limited: Limited) -> None:
    key = secrets.token_hex(8)
    first, second = (limited.ask(limited.key(), again=key, wait="true") for _ in range(2))
    assert first.json()["id"] != second.json()["id"]


def test_requests_at_the_same_time_become_one_job(limited: Limited, together: ThreadPoolExecutor) -> None:
    key, before = secrets.token_hex(8), limited.server.folders()
    start = threading.Barrier(5)

    def asked(_: int) -> httpx2.Response:
        start.wait()
        return limited.ask(again=key, wait="true")

    answers = list(together.map(asked, range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(limited.server.folders() - before) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 4


def test_a_lost_redis_is_told_again(limited: Limited) -> None:
    key = secrets.token_hex(8)
    first = limited.ask(again=key, wait="true").json()["id"]
    noted = None
    with connect(embedded.url(limited.server.data)) as redis:
        for name in redis.scan_iter(keys.IDEMPOTENCY(owner="*", token="*")):
            if json.loads(redis.get(name))["job"] == first:
                noted = name
                redis.delete(name)
        assert noted
        limited.server.child("orchestrator").kill()
        until(lambda: redis.exists(noted))
        assert 86_000 < redis.ttl(noted) <= 86_400
    assert limited.ask(again=key, wait="true").json()["id"] == first


def test_a_key_whose_job_is_gone_makes_a_new_one(limited: Limited) -> None:
    key = secrets.token_hex(8)
    first = limited.ask(again=key, wait="true").json()["id"]
    limited.server.client.delete(f"{NATIVE}/{first}")
    second = limited.ask(again=key, wait="true")
    assert (second.status_code, second.json()["state"]) == (200, "completed")
    assert second.json()["id"] != first
