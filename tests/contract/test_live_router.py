"""Seats, attachments, the log: the scripts of live sessions against a real server; and who counts as lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dalston_engine import keys
from msgspec import Raw

from dalston.errors import LiveFull, NoWorker
from dalston.live import FinalTranscript, LiveRequest
from dalston.orchestrator.leftovers import SPARE_S, Leftovers
from dalston.realtime.router import Watch
from dalston.store import live as store
from dalston.store.client import connect, wait_until_up
from dalston.store.keeping import Keeping
from dalston.store.scripts import ALLOCATE, APPEND, LEAVE
from tests.contract.listener import listening, spoken
from tests.contract.test_live_session import REQUEST, Client, gateway
from tests.contract.wire import Proxy
from tests.contract.workshop import Throwaway
from tests.waiting import soon

pytestmark = pytest.mark.anyio
ANY = {"tiny.en": ["en"], "base": ["*"]}


@pytest.fixture
async def client(valkey: str, redis: Any) -> AsyncIterator[Any]:
    """An asynchronous client of the embedded server."""
    made = connect(valkey)
    yield made
    await made.aclose()


@pytest.fixture
def proxy(valkey: str, tmp_path: Path) -> Iterator[Proxy]:
    """A way to the server that loses replies."""
    with Proxy(tmp_path / "proxy", valkey) as made:
        yield made


def worker(redis: Any, id: str, capacity: int = 4, **changes: Any) -> None:
    """A worker that has just told of itself."""
    seconds, micros = redis.time()
    fields: dict[str, Any] = {"engine": "e", "address": f"ws://{id}", "secret": "s", "state": "ready",
                              "models": msgspec.json.encode(changes.pop("models", ANY)),
                              "capacity": capacity, "sessions": 0, "load": "{}",
                              "beat": seconds * 1000 + micros // 1000}  # fmt: skip
    fields |= changes
    redis.hset(keys.WORKER(worker=id), mapping=fields)
    redis.expire(keys.WORKER(worker=id), 60)
    redis.zadd(keys.WORKERS(), {id: fields["beat"]})


def claim(
    session: str = "a", models: tuple[str, ...] = ("base",), language: str | None = None, keep: bool = True
) -> store.Claim:
    """A claim of a gateway called `g`."""
    request = Raw(msgspec.json.encode(LiveRequest(keep=keep)))
    return store.Claim(session, "g", f"of {session}", "local", store.Facts(list(models), language, request))


def final(seq: int, text: str = "word") -> FinalTranscript:
    """A final."""
    return FinalTranscript(seq, float(seq), seq + 1.0, text, "silence")


async def test_the_least_loaded_worker_is_chosen(client: Any, redis: Any) -> None:
    worker(redis, "small", 2)
    worker(redis, "large", 8)
    chosen = [(await store.allocate(client, claim(f"s{n}"), 1)).worker for n in range(5)]
    assert chosen.count("large") == 4


async def test_the_first_model_that_knows_the_language_is_chosen(client: Any, redis: Any) -> None:
    worker(redis, "one", 9)
    wish = ("absent", "tiny.en", "base")
    for session, language, model in (("a", None, "tiny.en"), ("b", "en", "tiny.en"), ("c", "de", "base")):
        place = await store.allocate(client, claim(session, wish, language), 1)
        assert (place.model, place.languages) == (model, ANY[model])
    with pytest.raises(NoWorker):
        await store.allocate(client, claim("d", ("tiny.en",), "de"), 1)


@pytest.mark.parametrize(("field", "value"), [("state", "draining"), ("state", "loading"), ("capacity", 0)])
async def test_who_takes_nobody_is_given_nobody(client: Any, redis: Any, field: str, value: Any) -> None:
    worker(redis, "one", **{field: value})
    with pytest.raises((LiveFull, NoWorker)):
        await store.allocate(client, claim(), 1)


async def test_a_worker_that_is_silent_is_given_nobody(client: Any, redis: Any) -> None:
    worker(redis, "one")
    redis.zincrby(keys.WORKERS(), -store.LOST_MS - 100, "one")
    with pytest.raises(NoWorker):
        await store.allocate(client, claim(), 1)


async def test_new_sessions_leave_room_to_those_that_lose_their_worker(client: Any, redis: Any) -> None:
    worker(redis, "one", 2)
    worker(redis, "two", 2)
    for n in range(3):
        await store.allocate(client, claim(f"s{n}"), 1)
    with pytest.raises(LiveFull):
        await store.allocate(client, claim("late"), 1)
    moved = await store.allocate(client, claim("s0"), 2)
    assert moved.epoch == 2
    assert (await store.totals(client))["refused"] == 1
    assert redis.zcard(keys.SEATS(worker="one")) + redis.zcard(keys.SEATS(worker="two")) == 3


async def test_many_claims_at_once_give_away_no_seat_twice(client: Any, redis: Any) -> None:
    worker(redis, "one", 7)
    told = await asyncio.gather(
        *(store.allocate(client, claim(f"s{n}"), 1) for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(one, store.Place) for one in told) == 7
    assert sum(isinstance(one, LiveFull) for one in told) == 13


async def test_a_seat_that_is_not_held_is_free_again(client: Any, redis: Any) -> None:
    worker(redis, "one", 1)
    await store.allocate(client, claim("a"), 1)
    with pytest.raises(LiveFull):
        await store.allocate(client, claim("b"), 1)
    redis.zincrby(keys.SEATS(worker="one"), -store.LEASE_MS, "a")
    await store.allocate(client, claim("b"), 1)


async def test_only_the_latest_attachment_logs_holds_and_leaves(client: Any, redis: Any) -> None:
    worker(redis, "one")
    worker(redis, "two")
    await store.allocate(client, claim(), 1)
    await store.append(client, "a", 1, final(3), 4.0)
    second = store.Claim("a", "h", "another", "local", claim().facts)
    await store.allocate(client, second, 2)
    with pytest.raises(store.Stale):
        await store.append(client, "a", 1, final(5), 6.0)
    with pytest.raises(store.Stale):
        await store.allocate(client, claim(), 2)
    assert await store.hold(client, "g", [("a", 1, 6.0)]) == {"a": "MOVED"}
    assert await store.hold(client, "h", [("a", 2, 6.0), ("b", 1, 0.0)]) == {"b": "LOST"}
    assert await store.leave(client, "a", 1, "ended") == "STALE"
    found = await store.read(client, "a")
    assert found is not None
    assert (found.audio, found.seq, found.epoch) == (6.0, 3, 2)
    await store.append(client, "a", 2, final(7), 6.0 + 1 / 44_100)
    await store.hold(client, "h", [("a", 2, 1e-05)])
    found = await store.read(client, "a")
    assert found is not None
    assert found.audio == 6.0 + 1 / 44_100
    assert [one.seq for one in await store.finals(client, "a")] == [3, 7]


async def test_what_has_ended_is_not_taken_up(client: Any, redis: Any) -> None:
    worker(redis, "one")
    await store.allocate(client, claim(), 1)
    assert await store.leave(client, "a", 1, "ended") == "OK"
    assert redis.zcard(keys.SEATS(worker="one")) == 0
    assert redis.zcard(keys.SESSIONS()) == 0
    with pytest.raises(store.Stale):
        await store.allocate(client, claim(), 2)


@pytest.mark.parametrize("lost", [ALLOCATE, APPEND, LEAVE], ids=lambda one: one.name)
async def test_a_lost_reply_changes_nothing(valkey: str, redis: Any, proxy: Proxy, lost: Any) -> None:
    worker(redis, "one")
    client = connect(proxy.url)
    try:
        redis.script_load(lost.text)
        proxy.lose(lost.sha)
        assert (await store.allocate(client, claim(), 1)).worker == "one"
        await store.append(client, "a", 1, final(1), 2.0)
        assert await store.leave(client, "a", 1, "ended") == "OK"
        assert proxy.lost == [lost.sha]
        assert len(await store.finals(client, "a")) == 1
        counted = await store.totals(client)
        assert (counted["sessions"], counted["finals"], counted["ended"]) == (1, 1, 1)
    finally:
        await client.aclose()


async def test_a_session_without_a_gateway_is_ended_with_its_words(
    client: Any, redis: Any, tmp_path: Path
) -> None:
    worker(redis, "one")
    leftovers = Leftovers(client, Keeping(tmp_path), 1, None)
    ids = {"a" * 32: True, "b" * 32: False}
    for session, keep in ids.items():
        await store.allocate(client, claim(session, keep=keep), 1)
        await store.append(client, session, 1, final(1, "said"), 2.0)
    await leftovers.look_after()
    for session in ids:
        redis.zincrby(keys.SESSIONS(), -(2 + SPARE_S) * 1000, session)
        kept = leftovers.keeping.read(session)
        assert kept is None
    await leftovers.look_after()
    kept = leftovers.keeping.read("a" * 32)
    assert kept is not None
    assert (kept.text, kept.cause, kept.duration) == ("said", "vanished", None)
    assert leftovers.keeping.read("b" * 32) is None
    assert not redis.exists(keys.SESSION(session="b" * 32))
    assert redis.zcard(keys.SESSIONS()) == 0


async def test_a_session_that_cannot_be_ended_keeps_no_other_from_it(
    client: Any, redis: Any, tmp_path: Path
) -> None:
    worker(redis, "one")
    leftovers = Leftovers(client, Keeping(tmp_path), 0, None)
    for n, session in enumerate("abc"):
        await store.allocate(client, claim(session * 32), 1)
        redis.zadd(keys.SESSIONS(), {session * 32: n + 1})
    redis.hset(keys.SESSION(session="a" * 32), "facts", "{}")
    (leftovers.keeping.folder / ("b" * 32)).touch()
    with pytest.raises(OSError):
        await leftovers.look_after()
    assert leftovers.keeping.read("c" * 32) is not None
    assert redis.zrange(keys.SESSIONS(), 0, -1) == ["b" * 32]


async def test_sessions_follow_the_retention(client: Any, redis: Any, tmp_path: Path) -> None:
    import os

    worker(redis, "one")
    leftovers, id = Leftovers(client, Keeping(tmp_path), 0, 3600), "a" * 32
    await store.allocate(client, claim(id), 1)
    redis.zincrby(keys.SESSIONS(), -(2 + SPARE_S) * 1000, id)
    await leftovers.look_after()
    assert leftovers.keeping.read(id) is not None
    path = leftovers.keeping.folder / id / "transcript.json"
    os.utime(path, (path.stat().st_mtime - 4000,) * 2)
    leftovers._due = 0
    await leftovers.look_after()
    assert leftovers.keeping.read(id) is None
    assert not redis.exists(keys.SESSION(session=id))


async def test_a_worker_whose_heart_stands_still_is_lost(
    client: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("dalston.realtime.router.time.monotonic", lambda: now)
    watch = Watch(client)
    for id in ("one", "two"):
        worker(redis, id)
    for step in range(20):
        now += 0.25
        worker(redis, "one", beat=step)
        assert await watch.lost(["one", "two"]) == ({"two"} if step > 6 else set())
    now += 5  # this process stood still
    assert await watch.lost(["one", "two"]) == set()
    redis.hset(keys.WORKER(worker="one"), "state", "broken")
    assert await watch.lost(["one", "two"]) == {"one"}


async def test_no_worker_is_lost_while_redis_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Throwaway(tmp_path / "redis-data", "--appendfsync", "always")
    server.start()
    client = connect(server.url)
    try:
        await wait_until_up(client)
        async with listening(client) as worker, gateway(server.url, tmp_path) as sessions:
            session, outbox = await sessions.begin(REQUEST, "local")
            heard = Client(outbox)
            await session.audio(spoken(1))
            await heard.until(lambda: heard.texts == ["w1"])
            server.send(signal.SIGSTOP)
            await session.audio(spoken(2))
            await soon(lambda: worker.attachments[0].said >= 2)
            await asyncio.wait([asyncio.create_task(asyncio.sleep(2.5))])
            assert heard.texts == ["w1"]
            server.send(signal.SIGCONT)
            await heard.until(lambda: heard.texts == ["w1", "w2"])
            server.kill()
            await session.audio(spoken(3))
            await asyncio.wait([asyncio.create_task(asyncio.sleep(0.5))])
            server.start()
            await heard.until(lambda: heard.texts == ["w1", "w2", "w3"])
            session.end()
            await heard.ended()
            assert session.epoch == 1
            assert len(worker.opened) == 1
    finally:
        await client.aclose()
        server.kill()
