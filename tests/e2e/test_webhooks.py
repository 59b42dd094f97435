"""Webhooks: told in the end, whatever happens in between."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from dalston_engine import keys
from dalston_engine.queue import connect

from dalston.local import valkey as embedded
from tests.e2e.conftest import DALSTON, SCRIPTED, Server, serving
from tests.receiver import Got, Receiver, receiving
from tests.security import craft
from tests.waiting import until

WAIT_S = 30
TOLERANCE_S = 1800
DEEP = '{"a":' * 2000 + "1" + "}" * 2000


@pytest.fixture(scope="module")
def teller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may call loopback and tries again soon."""
    settings = {"DALSTON_ALLOW_ADDRESSES": "127.0.0.1", "DALSTON_WEBHOOK_RETRIES": "1s,1s"}
    with serving(tmp_path_factory.mktemp("teller"), SCRIPTED, **settings) as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Who is told."""
    with receiving() as running:
        yield running


def genuine(got: Got, secret: str, now: float) -> bool:
    """Whether a delivery is signed with a secret, not long ago; written from the vendor's description."""
    parts = dict(part.split("=", 1) for part in got.headers["dalston-signature"].split(","))
    if now - int(parts["t"]) > TOLERANCE_S:
        return False
    signed = hmac.new(secret.encode(), parts["t"].encode() + b"." + got.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(signed, parts["v0"])


def deliveries(server: Server, job: str) -> Any:
    """What became of a job's deliveries."""
    return server.client.get("/v1/webhooks/deliveries", params={"job": job}).json()["deliveries"]


def state(server: Server, job: str) -> str:
    """What became of a job's only delivery; `` while nothing is known."""
    return "".join(one["state"] for one in deliveries(server, job))


def test_an_address_is_told_of_a_jobs_end(teller: Server, receiver: Receiver) -> None:
    metadata = json.dumps({"order": 7})
    job = teller.submit(
        craft.wav(), model="fake", webhook_url=receiver.url, webhook_metadata=metadata
    ).json()["id"]
    got = receiver.got.get(timeout=WAIT_S)
    told = json.loads(got.body)
    assert (told["type"], told["data"]["id"], told["metadata"]) == (
        "transcription.completed",
        job,
        {"order": 7},
    )
    assert told["data"]["text"] == "a scripted answer"
    secret = teller.client.get("/v1/webhooks/secret").json()["secret"]
    assert genuine(got, secret, time.time())
    assert not genuine(got, secret, time.time() + TOLERANCE_S + 5)
    assert not genuine(got, "wsec_other", time.time())
    assert not genuine(got._replace(body=got.body.replace(b"scripted", b"forged")), secret, time.time())
    until(lambda: state(teller, job) == "delivered")
    assert got.headers["dalston-delivery"] == deliveries(teller, job)[0]["id"]
    assert "secret" not in teller.log.read_text()


def test_a_failed_job_is_told_of_too(teller: Server, receiver: Receiver) -> None:
    teller.submit(craft.wav(), model="fake", fail="bad_input", webhook_url=receiver.url)
    told = json.loads(receiver.got.get(timeout=WAIT_S).body)
    assert (told["type"], told["data"]["error"]["code"]) == ("transcription.failed", "invalid_input")


def test_registered_webhooks_are_told_with_their_own_headers(teller: Server, receiver: Receiver) -> None:
    made = teller.client.post(
        "/v1/webhooks", json={"url": receiver.url, "name": "shop", "headers": {"X-Shop": "1"}}
    )
    hook = made.json()
    assert made.status_code == 201
    teller.submit(craft.wav(), model="fake", webhook_id=hook["id"])
    got = receiver.got.get(timeout=WAIT_S)
    assert got.headers["x-shop"] == "1"
    assert genuine(got, hook["secret"], time.time())
    listed = teller.client.get("/v1/webhooks").text
    assert hook["id"] in listed
    assert hook["secret"] not in listed
    path = f"/v1/webhooks/{hook['id']}"
    assert teller.client.patch(path, json={"disabled": True}).json()["disabled"]
    job = teller.submit(craft.wav(), model="fake", webhook_id=hook["id"]).json()["id"]
    until(lambda: state(teller, job) == "dropped")
    assert teller.client.delete(path).status_code == 204
    assert teller.submit(craft.wav(), model="fake", webhook_id=hook["id"]).status_code == 404
    assert receiver.got.empty()


def test_a_receiver_that_fails_is_told_again(teller: Server, receiver: Receiver) -> None:
    receiver.statuses = [500, 429]
    job = teller.submit(craft.wav(), model="fake", webhook_url=receiver.url).json()["id"]
    bodies = {receiver.got.get(timeout=WAIT_S).body for _ in range(3)}
    assert len(bodies) == 1
    until(lambda: state(teller, job) == "delivered")
    assert deliveries(teller, job)[0]["attempts"] == 3


@pytest.mark.parametrize(("statuses", "attempts"), [([400], 1), ([302], 1), ([500] * 3, 3)], ids=str)
def test_what_cannot_be_delivered_is_kept_and_replayed(
    teller: Server, receiver: Receiver, statuses: list[int], attempts: int
) -> None:
    receiver.statuses = list(statuses)
    job = teller.submit(craft.wav(), model="fake", webhook_url=receiver.url).json()["id"]
    until(lambda: state(teller, job) == "dead", WAIT_S)
    (given_up,) = deliveries(teller, job)
    assert (given_up["attempts"], given_up["status"]) == (attempts, statuses[-1])

    def listed() -> bool:
        told = teller.client.get("/v1/webhooks/deliveries").json()["deliveries"]
        return given_up["id"] in {one["id"] for one in told}

    until(listed, WAIT_S)
    assert teller.client.post(f"/v1/webhooks/deliveries/{given_up['id']}/replay").status_code == 202
    until(lambda: state(teller, job) == "delivered")
    assert teller.client.delete(f"/v1/audio/transcriptions/{job}").status_code == 204


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"webhook_url": "ftp://x/"}, "source_refused"), ({"webhook_url": "http://u:p@x/"}, "source_refused"),
     ({"webhook_id": "0" * 20}, "not_found"), ({"webhook_metadata": "{}"}, "invalid_option"),
     ({"webhook_url": "http://a.example/", "webhook_metadata": "[1]"}, "invalid_option"),
     ({"webhook_url": "http://a.example/", "webhook_metadata": DEEP}, "invalid_option"),
     ({"webhook_url": "http://a.example/", "webhook_id": "0" * 20}, "invalid_option")],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_at_once(teller: Server, fields: dict[str, str], code: str) -> None:
    answer = teller.submit(craft.wav(), model="fake", **fields)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["code"] == code


def test_a_private_address_is_refused_at_once_and_never_called(teller: Server) -> None:
    answer = teller.submit(craft.wav(), model="fake", webhook_url="http://10.255.255.1/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "source_refused")
    made = teller.client.post("/v1/webhooks", json={"url": "http://169.254.169.254/"})
    assert (made.status_code, made.json()["error"]["code"]) == (400, "source_refused")
    job = teller.submit(craft.wav(), model="fake", webhook_url="http://0x0affff01/").json()["id"]
    until(lambda: state(teller, job) == "dead")
    assert "does not call" in deliveries(teller, job)[0]["error"]
    assert deliveries(teller, job)[0]["attempts"] == 1
    teller.client.delete(f"/v1/audio/transcriptions/{job}")


def test_a_slow_receiver_delays_nobody_else(teller: Server, receiver: Receiver) -> None:
    go = threading.Event()
    receiver.hold = lambda: go.wait(WAIT_S)
    for _ in range(6):  # more than one address may have under way at once
        teller.submit(craft.wav(), model="fake", webhook_url=receiver.url)
    receiver.got.get(timeout=WAIT_S)
    with receiving() as quick:
        job = teller.submit(craft.wav(), model="fake", webhook_url=quick.url).json()["id"]
        quick.got.get(timeout=8)  # the slow one is given 10 s
        until(lambda: state(teller, job) == "delivered")
    go.set()
    for _ in range(5):
        receiver.got.get(timeout=WAIT_S)


def test_an_orchestrator_that_is_killed_between_attempts_loses_nothing(
    teller: Server, receiver: Receiver
) -> None:
    receiver.statuses = [503]
    job = teller.submit(craft.wav(), model="fake", webhook_url=receiver.url).json()["id"]
    receiver.got.get(timeout=WAIT_S)
    until(lambda: state(teller, job) == "pending" and deliveries(teller, job)[0]["attempts"] == 1)
    for process in psutil.Process(teller.process.pid).children(recursive=True):
        if "dalston.orchestrator" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)
    receiver.got.get(timeout=WAIT_S)
    until(lambda: state(teller, job) == "delivered", WAIT_S)


def test_a_redis_that_forgot_brings_deliveries_back(teller: Server, receiver: Receiver) -> None:
    receiver.statuses = [503]
    job = teller.submit(craft.wav(), model="fake", webhook_url=receiver.url).json()["id"]
    receiver.got.get(timeout=WAIT_S)
    until(lambda: deliveries(teller, job)[0]["attempts"] == 1)
    with connect(embedded.url(teller.data)) as redis:
        redis.delete(keys.DELIVERIES())
    for process in psutil.Process(teller.process.pid).children(recursive=True):
        if "dalston.orchestrator" in process.cmdline():  # it compares Redis with the files when it starts
            process.kill()
    receiver.got.get(timeout=WAIT_S)
    until(lambda: state(teller, job) == "delivered", WAIT_S)


def test_the_end_of_a_job_that_was_tried_again_is_told_too(teller: Server, receiver: Receiver) -> None:
    job = teller.submit(craft.wav(), model="fake", seconds="600", webhook_url=receiver.url).json()["id"]
    for _ in range(2):
        assert teller.client.post(f"/v1/audio/transcriptions/{job}/cancel").status_code == 200
        assert json.loads(receiver.got.get(timeout=WAIT_S).body)["type"] == "transcription.cancelled"
        until(lambda: state(teller, job) == "delivered")
        assert teller.client.post(f"/v1/audio/transcriptions/{job}/retry").status_code == 202
    assert teller.client.delete(f"/v1/audio/transcriptions/{job}").status_code == 204


def test_a_receiver_that_tries_the_job_again_is_told_of_the_new_end(
    teller: Server, receiver: Receiver
) -> None:
    job = teller.submit(craft.wav(), model="fake", seconds="600", webhook_url=receiver.url).json()["id"]
    path = f"/v1/audio/transcriptions/{job}"
    tries = iter(("retry", "cancel"))
    receiver.hold = lambda: [teller.client.post(f"{path}/{how}") for how in tries]
    teller.client.post(f"{path}/cancel")
    for _ in range(2):
        assert json.loads(receiver.got.get(timeout=WAIT_S).body)["type"] == "transcription.cancelled"
    until(lambda: state(teller, job) == "delivered")


def test_news_of_another_end_does_not_wait_for_the_old_ones_pause(teller: Server, receiver: Receiver) -> None:
    receiver.statuses = [500]
    job = teller.submit(craft.wav(), model="fake", seconds="600", webhook_url=receiver.url).json()["id"]
    path = f"/v1/audio/transcriptions/{job}"
    teller.client.post(f"{path}/cancel")
    receiver.got.get(timeout=WAIT_S)
    with connect(embedded.url(teller.data)) as redis:
        until(lambda: deliveries(teller, job)[0]["attempts"] == 1)
        later = int(time.time() + 3600) * 1000
        until(lambda: redis.zadd(keys.DELIVERIES(), {f"{job}:direct": later}, xx=True, ch=True))
    teller.client.post(f"{path}/retry")
    teller.client.post(f"{path}/cancel")
    receiver.got.get(timeout=WAIT_S)
    until(lambda: state(teller, job) == "delivered")


def test_it_is_all_done_from_the_command_line(teller: Server, receiver: Receiver) -> None:
    def said(*words: str) -> str:
        command = [*DALSTON, "webhook", *words, "--data", str(teller.data)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    id, secret = said("create", receiver.url, "--name", "shop", "--header", "X-Shop: 1").split()
    (listed,) = [one for one in json.loads(said("list", "--json")) if one["id"] == id]
    assert (listed["name"], listed["headers"]) == ("shop", {"X-Shop": "1"})
    assert "enabled" in said("list")
    receiver.statuses = [400, 400]
    job = teller.submit(craft.wav(), model="fake", webhook_id=id).json()["id"]
    assert genuine(receiver.got.get(timeout=WAIT_S), secret, time.time())
    until(lambda: state(teller, job) == "dead")
    assert f"{job}:{id}" in said("deliveries")
    assert said("replay", f"{job}:{id}") == "1 on the way\n"
    until(lambda: deliveries(teller, job)[0]["attempts"] == 1 and state(teller, job) == "dead")
    said("replay", "--all")
    until(lambda: state(teller, job) == "delivered")
    assert json.loads(said("deliveries", job, "--json"))[0]["status"] == 200
    assert said("secret").startswith("wsec_")
    metrics = teller.client.get("/metrics").text
    assert re.search(r'^dalston_webhook_attempts_total\{outcome="failed"\} [1-9]', metrics, re.MULTILINE)
    said("delete", id)
    assert id not in said("list")


def test_what_was_given_up_is_listed_again_when_redis_forgot_it(teller: Server, receiver: Receiver) -> None:
    receiver.statuses = [400]
    job = teller.submit(craft.wav(), model="fake", webhook_url=receiver.url).json()["id"]
    until(lambda: state(teller, job) == "dead")
    with connect(embedded.url(teller.data)) as redis:
        until(lambda: redis.zscore(keys.UNDELIVERED(), f"{job}:direct"))
        redis.delete(keys.UNDELIVERED(), keys.JOBS())
        teller.child("orchestrator").kill()
        until(lambda: redis.zscore(keys.UNDELIVERED(), f"{job}:direct"))
