"""Deliveries: what is queued, taken, and survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys

from dalston.errors import BadRequest, NotFound
from dalston.store.webhooks import FAILURES, SILENT_S, Wanted, Webhooks, safe

LEASE = 60_000


def test_what_is_due_is_taken_by_one_for_a_lease(redis: Any) -> None:
    from dalston.store.scripts import DELIVER, DUE

    def run(script: Any, **values: Any) -> Any:
        return redis.eval(script.text, 0, *script.argv(values))

    run(DELIVER, deliveries="a b", after=0, again=None)
    run(DELIVER, deliveries="later", after=10_000, again=None)
    assert run(DUE, lease=LEASE, limit=10) == ["a", "b"]
    assert run(DUE, lease=LEASE, limit=10) == []
    run(DELIVER, deliveries="a", after=0, again=None)
    assert run(DUE, lease=LEASE, limit=10) == []  # it waits already
    redis.zadd(keys.UNDELIVERED(), {"a": 1})
    run(DELIVER, deliveries="a", after=0, again=1)
    assert run(DUE, lease=LEASE, limit=10) == ["a"]
    assert redis.zcard(keys.UNDELIVERED()) == 0


def test_a_lease_that_ran_out_leaves_a_delivery_to_others(redis: Any) -> None:
    from dalston.store.scripts import DELIVER, DUE

    redis.eval(DELIVER.text, 0, *DELIVER.argv({"deliveries": "a", "after": 0, "again": None}))
    for _ in range(2):
        assert redis.eval(DUE.text, 0, *DUE.argv({"lease": -1, "limit": 1})) == ["a"]


def test_webhooks_are_ones_own(tmp_path: Path) -> None:
    webhooks = Webhooks(tmp_path)
    made = webhooks.make("ann", Wanted("https://a.example/", "shop"))
    assert webhooks.get("ann", made.id) == made
    assert webhooks.all("ann") == webhooks.all(None) == [made]
    assert webhooks.all("bob") == []
    for owner, id in (("bob", made.id), ("ann", "../keys"), ("ann", "0" * 20)):
        with pytest.raises(NotFound):
            webhooks.get(owner, id)
    assert webhooks.secret("ann") == webhooks.secret("ann") != webhooks.secret("bob")
    webhooks.remove("ann", made.id)
    assert webhooks.all(None) == []


@pytest.mark.parametrize(
    "headers", [{"a\r\nb": "c"}, {"a": "b\r\nc: d"}, {"Host": "x"}, {"Content-Length": "1"}, {"": "x"},
                {"ElevenLabs-Signature": "t=1"}, {"a": "\u00e9"}, {"a b": "c"}]
)  # fmt: skip
def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        safe(headers)


def test_a_webhook_that_fails_for_long_is_disabled(tmp_path: Path) -> None:
    made = Webhooks(tmp_path).make("ann", Wanted("https://a.example/"))
    for _ in range(FAILURES):
        made = made.noted(False, 500)
    assert made.told  # it was made just now
    made.created_at -= SILENT_S + 1
    assert not made.noted(False, None).told
    assert made.noted(True, 200).failures == 0
