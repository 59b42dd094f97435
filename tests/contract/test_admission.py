"""Letting in: the limits of a key, counted by Redis' clock."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from dalston_engine import keys

from dalston.store.scripts import ADMIT, FINISH, FORGET, RELEASE, REPEAT, REVIVE, SUBMIT
from tests.contract.model import ASKED, FINE
from tests.contract.test_scripts import LINE, planned

MINUTE_MS = 60_000


def admit(redis: Any, job: str = "j", **limits: float) -> tuple[str, int]:
    """What a job is told."""
    asked: dict[str, Any] = {"key": "k", "rate": 0, "concurrent": 0, "minutes": 0, "room": 0} | limits
    word, wait = ADMIT(redis, job=job, **asked)
    return word, int(wait)


def minute(redis: Any) -> int:
    """The minute it is in Redis."""
    return int(redis.time()[0]) // 60


def submit(redis: Any, job: str = "j") -> None:
    """Submit a job of the key."""
    plan = msgspec.json.encode(planned(job, LINE)).decode()
    SUBMIT(redis, job=job, run=1, **ASKED | {"key": "k"}, plan=plan, high=None)


def end(redis: Any, job: str = "j", state: str = "completed") -> None:
    """End it, after its recording was found to have 90 seconds."""
    redis.hset(keys.TASK(task=f"{job}.prepare"), "audio", 90)
    FINISH(redis, job=job, run=1, state=state, keep=60, retention=None, **FINE)


def test_as_many_as_the_rate_may_come_at_once_and_then_one_by_one(redis: Any) -> None:
    words = [admit(redis, f"j{n}", rate=4) for n in range(5)]
    assert [word for word, _ in words] == ["OK"] * 4 + ["RATE"]
    assert MINUTE_MS / 4 - 2000 < words[4][1] <= MINUTE_MS / 4
    redis.hset(keys.LIMIT(key="k"), "due", int(redis.time()[0]) * 1000 + MINUTE_MS * 3 // 4 - 5000)
    assert admit(redis, "j5", rate=4)[0] == "OK"


@pytest.mark.parametrize("rate", [0.5, 1])
def test_a_key_may_ask_less_than_once_a_minute(redis: Any, rate: float) -> None:
    assert admit(redis, "j0", rate=rate)[0] == "OK"
    word, wait = admit(redis, "j1", rate=rate)
    assert (word, MINUTE_MS / rate - 2000 < wait <= MINUTE_MS / rate) == ("RATE", True)


def test_a_job_that_is_deleted_at_work_is_counted(redis: Any) -> None:
    submit(redis)
    redis.hset(keys.TASK(task="j.prepare"), "audio", 90)
    for _ in range(2):
        FORGET(redis, job="j", tasks=None)
    assert list(redis.hgetall(keys.LIMIT(key="k")).values()) == ["90"]


def test_a_job_that_is_tried_again_counts_again(redis: Any) -> None:
    assert admit(redis, "j", concurrent=1)[0] == "OK"
    submit(redis)
    end(redis, state="failed")
    assert admit(redis, "other", concurrent=1)[0] == "OK"
    assert admit(redis, "j", concurrent=1)[0] == "CONCURRENT"
    redis.delete(keys.LIMITED(key="k"))
    assert admit(redis, "j", room=5)[0] == "OK"
    REVIVE(redis, job="j", run=2, all=None)
    assert not redis.exists(keys.LIMITED(key="any"))
    assert redis.ttl(keys.LIMITED(key="k")) > 0
    assert admit(redis, "other", concurrent=1)[0] == "CONCURRENT"


def test_a_refused_job_uses_nothing_up(redis: Any) -> None:
    assert admit(redis, "j0", concurrent=1, rate=2) == ("OK", 0)
    before = redis.hgetall(keys.LIMIT(key="k"))
    assert admit(redis, "j1", concurrent=1, rate=2)[0] == "CONCURRENT"
    assert redis.hgetall(keys.LIMIT(key="k")) == before


def test_a_job_counts_until_it_has_ended(redis: Any) -> None:
    assert admit(redis, "j", concurrent=1)[0] == "OK"
    submit(redis)
    assert admit(redis, "other", concurrent=1)[0] == "CONCURRENT"
    end(redis)
    assert admit(redis, "other", concurrent=1)[0] == "OK"


def test_who_was_let_in_and_never_came_counts_for_a_minute(redis: Any) -> None:
    redis.zadd(keys.LIMITED(key="k"), {"lost": int(redis.time()[0]) * 1000 - MINUTE_MS - 1000})
    redis.zadd(keys.LIMITED(key="any"), {"lost": int(redis.time()[0]) * 1000 - MINUTE_MS - 1000})
    assert admit(redis, "j", concurrent=1, room=1)[0] == "OK"
    assert admit(redis, "other", concurrent=2, room=1)[0] == "FULL"


@pytest.mark.parametrize("state", ["completed", "cancelled", "failed"])
def test_audio_is_counted_once_and_not_for_what_failed(redis: Any, state: str) -> None:
    submit(redis)
    for _ in range(2):
        end(redis, state=state)
    told = {key: float(value) for key, value in redis.hgetall(keys.LIMIT(key="k")).items()}
    assert list(told.values()) == ([] if state == "failed" else [90])


def test_a_job_waits_until_enough_of_the_hour_is_over(redis: Any) -> None:
    now = minute(redis)
    used = {now - 60: 9000, now - 59: 60, now - 30: 60, now: 60}
    redis.hset(keys.LIMIT(key="k"), mapping={str(at): seconds for at, seconds in used.items()})
    redis.expire(keys.LIMIT(key="k"), 60)
    word, wait = admit(redis, minutes=2)
    assert word == "QUOTA"
    assert 29 * MINUTE_MS < wait <= 30 * MINUTE_MS
    assert not redis.hexists(keys.LIMIT(key="k"), str(now - 60))
    assert admit(redis, minutes=3.1)[0] == "OK"


def test_what_was_noted_of_a_repeated_request_changes_only_from_what_was_seen(redis: Any) -> None:
    note: dict[str, Any] = {"owner": "me", "token": "t", "ttl": 60}
    assert REPEAT(redis, value="one", before=None, **note) == "one"
    assert REPEAT(redis, value="two", before=None, **note) == "one"
    assert REPEAT(redis, value="two", before="one", **note) == "two"
    assert REPEAT(redis, value="three", before="one", **note) == "two"


def test_giving_back_takes_no_place_from_a_job_that_has_come(redis: Any) -> None:
    assert admit(redis, "j", concurrent=1, room=5)[0] == "OK"
    submit(redis)
    assert admit(redis, "j", concurrent=1, room=5)[0] == "OK"  # as a retry of a running job asks
    RELEASE(redis, job="j", key="k")
    assert admit(redis, "other", concurrent=1)[0] == "CONCURRENT"
    end(redis)
    assert admit(redis, "other", concurrent=1)[0] == "OK"
    RELEASE(redis, job="other", key="k")
    assert admit(redis, "third", concurrent=1)[0] == "OK"


def test_a_job_is_counted_once_however_often_it_ends(redis: Any) -> None:
    submit(redis)
    end(redis, state="cancelled")
    REVIVE(redis, job="j", run=2, all=None)
    FINISH(redis, job="j", run=2, state="completed", keep=60, retention=None, **FINE)
    assert list(redis.hgetall(keys.LIMIT(key="k")).values()) == ["90"]
