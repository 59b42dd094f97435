"""The traps of redis-py, each as our clients must not fall into it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import random
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys
from dalston_engine.queue import AWAY, WAIT_MS, Queue, connect
from dalston_engine.scripts import script
from dalston_engine.types import Task
from redis._parsers import _AsyncHiredisParser, _AsyncRESP3Parser, _HiredisParser, _RESP3Parser
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
)

from dalston.local import environments
from dalston.store import client
from dalston.store.client import BLOCK_MS, Client, UnusableRedis, wait_until_up
from dalston.store.fleet import engines
from dalston.store.scripts import CANCEL, SHOW, SUBMIT, run
from tests.contract.model import ASKED
from tests.contract.wire import Command, Scripted, bulk
from tests.contract.workshop import Office, Throwaway, job_file, own_tasks

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "src").rglob("*.py"), *(ROOT / "sdk" / "src").rglob("*.py")]
LOCKS = [
    "requirements.lock",
    *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("engines/*/requirements.lock")),
]
OLDEST = (8, 1)
SHORT_S = 0.5
PARSERS = {"hiredis": (_HiredisParser, _AsyncHiredisParser), "python": (_RESP3Parser, _AsyncRESP3Parser)}
LANE = keys.QUEUE(engine="prepare")


@pytest.fixture(params=PARSERS)
def parser(request: pytest.FixtureRequest) -> str:
    """All environments have hiredis; redis-py works without it where it cannot be had."""
    return str(request.param)


@contextlib.contextmanager
def sync_client(url: str, parser: str = "hiredis", **changed: Any) -> Iterator[Any]:
    """An engine's client."""
    with connect(url) as one:
        one.connection_pool.connection_kwargs |= {"parser_class": PARSERS[parser][0]} | changed
        yield one


@contextlib.asynccontextmanager
async def async_client(url: str, parser: str = "hiredis", **changed: Any) -> AsyncIterator[Client]:
    """The server's client."""
    async with client.connect(url) as one:
        one.connection_pool.connection_kwargs |= {"parser_class": PARSERS[parser][1]} | changed
        yield one


# Blocking reads


@pytest.mark.anyio
async def test_the_longest_blocking_reads_end_with_nothing(redis: Any, valkey: str) -> None:
    queue = Queue(valkey, "prepare", "one")
    began = time.monotonic()
    async with client.connect(valkey) as one:
        read, _ = await asyncio.gather(
            one.xread({keys.EVENTS(): "$"}, block=BLOCK_MS), asyncio.to_thread(queue.wait)
        )
    queue.redis.close()
    assert not read
    assert time.monotonic() - began == pytest.approx(max(WAIT_MS, BLOCK_MS) / 1000, abs=2)


def test_no_client_gives_up_before_its_longest_read_has_ended() -> None:
    for pool in (
        connect("unix:///nowhere").connection_pool,
        client.connect("unix:///nowhere").connection_pool,
    ):
        assert pool.connection_kwargs["socket_timeout"] >= max(WAIT_MS, BLOCK_MS) / 1000 + 1


def test_every_blocking_read_is_as_long_as_the_longest() -> None:
    blocks = [
        ast.unparse(word.value)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "block"
    ]
    assert set(blocks) == {"WAIT_MS", "BLOCK_MS"}


# Retries


@pytest.mark.parametrize("closes", [True, False], ids=["hangs up", "never answers"])
def test_an_engines_client_tries_once(tmp_path: Path, parser: str, closes: bool) -> None:
    began = time.monotonic()
    with (
        Scripted(tmp_path / "s", closes=closes) as server,
        sync_client(server.url, parser, socket_timeout=SHORT_S) as one,
        pytest.raises(ConnectionError if closes else TimeoutError),
    ):
        one.xread({keys.EVENTS(): "0"}, block=WAIT_MS)
    assert server.connections == 1
    assert len(server.commands) == (0 if closes else 1)
    assert time.monotonic() - began < SHORT_S + 2


@pytest.mark.anyio
@pytest.mark.parametrize("closes", [True, False], ids=["hangs up", "never answers"])
async def test_the_servers_client_tries_twice(tmp_path: Path, parser: str, closes: bool) -> None:
    began = time.monotonic()
    with Scripted(tmp_path / "s", closes=closes) as server:
        async with async_client(server.url, parser, socket_timeout=SHORT_S) as one:
            with pytest.raises(ConnectionError if closes else TimeoutError):
                await one.xread({keys.EVENTS(): "0"}, block=BLOCK_MS)
    assert server.connections == 2
    assert len(server.commands) == (0 if closes else 2)
    assert time.monotonic() - began < 2 * SHORT_S + 2


def test_nothing_listening_is_told_at_once(tmp_path: Path) -> None:
    with sync_client(f"unix://{tmp_path}/nobody") as one, pytest.raises(AWAY):
        one.ping()


# Interrupted reads


@pytest.mark.anyio
async def test_a_cancelled_read_does_not_shift_later_replies(redis: Any, valkey: str, parser: str) -> None:
    dice = random.Random(20)

    async def read(one: Client) -> Any:
        # Before Python 3.12 a cancel is lost that comes just when the command has been sent.
        return await one.xread({keys.EVENTS(): "$"}, block=100)

    async with async_client(valkey, parser) as one:
        for n in range(160):
            reads = [asyncio.create_task(read(one)) for _ in range(dice.choice((1, 3)))]
            # From before the connection is there, over the handshake, until just when the answer comes.
            if n % 2:
                await asyncio.sleep(dice.uniform(0, 0.003))
            else:
                for _ in range(dice.randrange(30)):
                    await asyncio.sleep(0)
            if n % 3 == 0:
                redis.xadd(keys.EVENTS(), {"job": "j", "task": "", "state": f"{n}"}, maxlen=10)
                await asyncio.sleep(dice.choice((0, 0, 0.0005)))
            for reading in reads:
                reading.cancel()
            answers = await asyncio.gather(*(one.echo(f"{n}.{m}") for m in range(4)))
            assert answers == [f"{n}.{m}" for m in range(4)]
            await asyncio.gather(*reads, return_exceptions=True)
        assert len(redis.client_list()) < 20


@pytest.mark.anyio
@pytest.mark.parametrize("loop", ["events", "orchestrator"])
async def test_a_loop_that_is_cancelled_ends_whatever_it_is_doing(
    redis: Any, valkey: str, tmp_path: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("dalston.store.events", "dalston.orchestrator.loop"):
        monkeypatch.setattr(f"{module}.BLOCK_MS", 100)
    monkeypatch.setattr("dalston.orchestrator.loop.LEASE_MS", 500)
    monkeypatch.setattr("dalston.orchestrator.upkeep.SWEEP_S", 0.1)
    stuck = []
    async with client.connect(valkey) as one:
        await one.ping()
        for steps in range(12):
            async with own_tasks():
                office = Office(one, tmp_path)
                run_ = office.events.run if loop == "events" else office.orchestrator.run
                running = asyncio.create_task(run_())
                for _ in range(steps):
                    await asyncio.sleep(0)
                running.cancel()
                if (await asyncio.wait({running}, timeout=1))[1]:
                    stuck.append(steps)
    assert not stuck, f"cancelled after {stuck} steps, it went on"


# Shapes of replies


def fill(redis: Any) -> str:
    """One pending entry of two fields, and two instances; the entry's id."""
    redis.xgroup_create(LANE, keys.GROUP, id="0", mkstream=True)
    entry = str(redis.xadd(LANE, {"task": "j.prepare", "more": "ü"}))
    redis.zadd(keys.ENGINES(), {"prepare/one": 1_764_000_000_123, "prepare/two": 0.5})
    return entry


NESTED = "return {{'job', 'j', 'open', 2}, {'j.prepare', {'state', 'queued'}}, {}, false, 'ü', 2.9}"
UNNESTED = [["job", "j", "open", 2], ["j.prepare", ["state", "queued"]], [], None, "ü", 2]


def commands(entry: str) -> list[tuple[tuple[Any, ...], dict[str, Any], Any]]:
    """The calls whose answers we take apart, and what redis-py answers."""
    fields = {"task": "j.prepare", "more": "ü"}
    group = (keys.GROUP, "one")
    return [
        (("xread", {LANE: "0"}), {"count": 1}, [[LANE, [(entry, fields)]]]),
        (("xread", {LANE: "$"}), {"block": 1}, []),
        (("xreadgroup", *group, {LANE: ">"}), {"count": 9, "block": 1}, [[LANE, [(entry, fields)]]]),
        (("xreadgroup", *group, {LANE: ">"}), {"count": 9, "block": 1}, []),
        (("xautoclaim", LANE, keys.GROUP, "two", 0), {"count": 9}, ["0-0", [(entry, fields)], []]),
        (("xautoclaim", LANE, keys.GROUP, "two", 10**6), {"count": 9}, ["0-0", [], []]),
        (
            ("xpending", LANE, keys.GROUP),
            {},
            {"pending": 1, "min": entry, "max": entry, "consumers": [{"name": "two", "pending": 1}]},
        ),
        (("xrange", LANE), {"count": 9}, [(entry, fields)]),
        (
            ("zrange", keys.ENGINES(), 0, -1),
            {"withscores": True},
            [("prepare/two", 0.5), ("prepare/one", 1_764_000_000_123.0)],
        ),
        (("zrevrange", keys.ENGINES(), 0, 9), {}, ["prepare/one", "prepare/two"]),
        (("zrangebyscore", keys.ENGINES(), "-inf", 1), {"start": 0, "num": 9}, ["prepare/two"]),
        (("eval", NESTED, 0), {}, UNNESTED),
        (("smembers", keys.QUEUES()), {}, set()),
        (("hget", keys.SWEEP(), "from"), {}, None),
    ]


def plain(answer: Any) -> Any:
    """A reply without the difference between lists, tuples and what redis-py derives from them."""
    if isinstance(answer, list | tuple):
        return [plain(one) for one in answer]
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items()}
    return answer


def test_replies_have_the_shapes_that_engines_rely_on(redis: Any, valkey: str, parser: str) -> None:
    entry = fill(redis)
    with sync_client(valkey, parser) as one:
        for (name, *args), options, expected in commands(entry):
            assert plain(getattr(one, name)(*args, **options)) == plain(expected), name


@pytest.mark.anyio
async def test_replies_have_the_shapes_that_the_server_relies_on(
    redis: Any, valkey: str, parser: str
) -> None:
    entry = fill(redis)
    async with async_client(valkey, parser) as one:
        for (name, *args), options, expected in commands(entry):
            assert plain(await getattr(one, name)(*args, **options)) == plain(expected), name
        seconds, micros = await one.time()
        assert (type(seconds), type(micros)) == (int, int)
        info = await one.info("server")
        assert re.fullmatch("[0-9a-f]{40}", info["run_id"])
        assert (await one.info())["maxmemory_policy"] == "noeviction"


SCORES = """
import json, sys
if sys.argv[2] == "no":
    sys.modules["hiredis"] = None
import redis
from dalston_engine.queue import Queue
from redis.utils import HIREDIS_AVAILABLE
queue = Queue(sys.argv[1], "preparer", "one")
queue.wait()
task = queue.claim()
answers = [HIREDIS_AVAILABLE, redis.__version__, task.id, task.attempt, queue.renew(task, 0.5)]
answers += [queue.settle(task, "completed", 0.1), queue.claim()]
queue.redis.script_flush()
answers.append(queue.claim())
print(json.dumps(answers))
"""


@pytest.mark.parametrize("hiredis", ["yes", "no"])
def test_an_engines_environment_speaks_with_redis(redis: Any, valkey: str, hiredis: str) -> None:
    job = job_file("j")
    submit(redis, job.id)
    engine = environments.find("fake", "")
    engine.install(print)
    done = subprocess.run([engine.command[0], "-c", SCORES, valkey, hiredis], capture_output=True, text=True)
    assert not done.stderr
    there, version, *answers = json.loads(done.stdout)
    assert (there, answers) == (hiredis == "yes", ["j.prepare", 1, "OK", "OK", None, None])
    assert tuple(map(int, version.split(".")[:2])) >= OLDEST


def submit(redis: Any, job: str) -> None:
    """A job of two stages."""
    plan = [{"id": t.id, "stage": t.stage, "engine": t.engine, "needs": t.needs, "params": t.params}
            for t in job_file(job).plan]  # fmt: skip
    assert SUBMIT(redis, job=job, run=1, **ASKED, plan=json.dumps(plan), high=None) == "OK"


# Versions, imports


@pytest.mark.parametrize("path", ["pyproject.toml", "sdk/pyproject.toml"])
def test_older_clients_are_refused_by_the_project(path: str) -> None:
    wanted = tomllib.loads((ROOT / path).read_text())["project"]["dependencies"]
    (bound,) = [
        re.fullmatch(r"redis\[hiredis\]>=(\d+)\.(\d+)(\.\d+)?", one)
        for one in wanted
        if one.startswith("redis")
    ]
    assert bound is not None
    assert (int(bound[1]), int(bound[2])) >= OLDEST


@pytest.mark.parametrize("path", LOCKS)
def test_no_lock_has_an_older_client(path: str) -> None:
    found = re.search(r"^redis==(\d+)\.(\d+)", (ROOT / path).read_text(), re.MULTILINE)
    assert found is not None
    assert (int(found[1]), int(found[2])) >= OLDEST
    assert "\nhiredis==" in (ROOT / path).read_text()


IMPORTED = """
import sys
from dalston.cli import main
try:
    main()
except SystemExit:
    pass
print(*sys.modules)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "up --help",
        "transcribe --help",
        "engine install --help",
        "sample",
        "jobs",
        "job 0",
        "engines",
    ],
)
def test_the_command_line_does_not_import_the_client_where_it_needs_none(
    arguments: str, tmp_path: Path
) -> None:
    needs_data = arguments.split()[0] in {"jobs", "job", "engines"}
    command = [sys.executable, "-c", IMPORTED, *arguments.split(), *(["--data", str(tmp_path)] * needs_data)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "dalston.cli.app" in done.stdout
    assert {"redis", "hiredis"}.isdisjoint(done.stdout.splitlines()[-1].split()), done.stderr


# Errors


AWAY_REPLIES = {
    "MISCONF Errors writing to the AOF file: No space left on device": ReadOnlyError,
    "OOM command not allowed when used memory > 'maxmemory'.": OutOfMemoryError,
    "READONLY You can't write against a read only replica.": ReadOnlyError,
    "LOADING Valkey is loading the dataset in memory": BusyLoadingError,
}
IN_A_SCRIPT = " script: 5ca1ab1e, on @user_script:3."


@pytest.mark.parametrize("suffix", ["", IN_A_SCRIPT], ids=["a command", "a script"])
@pytest.mark.parametrize("told", AWAY_REPLIES, ids=lambda told: told.split()[0])
def test_a_server_that_takes_no_writes_counts_as_away_for_engines(
    tmp_path: Path, parser: str, told: str, suffix: str
) -> None:
    def answer(command: Command) -> bytes:
        return f"-{told}{suffix}\r\n".encode()

    with Scripted(tmp_path / "s", answer) as server, sync_client(server.url, parser) as one:
        calls: list[Callable[[], Any]] = [
            lambda: script("claim")(one, engine="e", instance="i", lease="t"),
            lambda: one.xread({LANE: "0"}, block=WAIT_MS),
            lambda: one.zadd(keys.ENGINES(), {"e/i": 0}),
        ]
        for call in calls:
            with pytest.raises(AWAY) as raised:
                call()
            assert type(raised.value) is AWAY_REPLIES[told]


@pytest.mark.anyio
@pytest.mark.parametrize("suffix", ["", IN_A_SCRIPT], ids=["a command", "a script"])
@pytest.mark.parametrize("told", AWAY_REPLIES, ids=lambda told: told.split()[0])
async def test_a_server_that_takes_no_writes_counts_as_away_for_the_server(
    tmp_path: Path, parser: str, told: str, suffix: str
) -> None:
    def answer(command: Command) -> bytes:
        if command[0] == b"EXEC":
            return b"-EXECABORT Transaction discarded because of previous errors.\r\n"
        return b"+OK\r\n" if command[0] == b"MULTI" else f"-{told}{suffix}\r\n".encode()

    async def acknowledge(one: Client) -> None:
        async with one.pipeline() as pipe:
            pipe.xack(keys.WORK(), "orchestrators", "0-1")
            pipe.xdel(keys.WORK(), "0-1")
            await pipe.execute()

    with Scripted(tmp_path / "s", answer) as server:
        async with async_client(server.url, parser) as one:
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: run(CANCEL, one, job="j", run=1),
                lambda: one.xreadgroup("g", "i", {keys.WORK(): ">"}, block=BLOCK_MS),
                lambda: acknowledge(one),
                lambda: engines(one),
            ]
            for call in calls:
                with pytest.raises(AWAY) as raised:
                    await call()
                assert type(raised.value) is AWAY_REPLIES[told]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "told",
    [
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    ],
    ids=lambda told: told.split()[0],
)
async def test_what_a_server_says_while_it_cannot_serve_counts_as_away(
    tmp_path: Path, parser: str, told: str
) -> None:
    with Scripted(tmp_path / "s", lambda _: f"-{told}\r\n".encode()) as server:
        with sync_client(server.url, parser) as one, pytest.raises(AWAY):
            one.xread({LANE: "0"}, block=WAIT_MS)
        async with async_client(server.url, parser) as other:
            with pytest.raises(AWAY):
                await other.xread({LANE: "0"}, block=BLOCK_MS)


def test_a_script_is_sent_again_to_a_server_that_forgot_it(redis: Any, valkey: str, parser: str) -> None:
    submit(redis, "j")
    with sync_client(valkey, parser) as one:
        for n in range(3):
            one.script_flush()
            with pytest.raises(NoScriptError):
                one.evalsha(script("renew").sha, 0)
            assert script("renew")(one, task=f"t{n}", token="t", progress=None) == "LOST"
    queue = Queue(valkey, "preparer", "one")
    redis.script_flush()
    task = queue.claim()
    assert isinstance(task, Task)
    redis.script_flush()
    assert queue.settle(task, "completed") == "OK"
    queue.redis.close()


@pytest.mark.anyio
async def test_the_server_too_sends_a_forgotten_script_again(redis: Any, valkey: str, parser: str) -> None:
    submit(redis, "j")
    async with async_client(valkey, parser) as one:
        for _ in range(3):
            redis.script_flush()
            fields, *tasks = await run(SHOW, one, job="j")
            assert fields[fields.index("state") + 1] == "queued"
            assert [id for id, _ in tasks] == ["j.prepare", "j.merge"]
        redis.script_flush()
        assert await run(CANCEL, one, job="j", run=1) == "OK"


# Servers at the start


def info(**changed: str) -> bytes:
    """What a fake server says of itself."""
    fields = {
        "redis_version": "7.2.4",
        "redis_mode": "standalone",
        "maxmemory_policy": "noeviction",
    } | changed
    return bulk("# Server\r\n" + "".join(f"{name}:{value}\r\n" for name, value in fields.items()))


VALKEY = {"server_name": "valkey", "redis_version": "7.2.4"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"redis_mode": "cluster"}, "Redis Cluster cannot be used: .* Use one primary"),
        (
            {"maxmemory_policy": "allkeys-lru"},
            r"evicts keys \(allkeys-lru\).* set maxmemory-policy noeviction",
        ),
        ({"maxmemory_policy": "volatile-ttl"}, r"evicts keys \(volatile-ttl\)"),
        ({"redis_version": "6.2.14"}, r"Redis 6\.2\.14 is too old: Redis 7\.0 or later"),
        ({"redis_version": "5.0.7"}, r"Redis 5\.0\.7 is too old"),
        (VALKEY | {"valkey_version": "7.2.8"}, r"Valkey 7\.2\.8 is too old: Valkey 8\.0 or later"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
async def test_a_server_that_would_lose_work_is_refused_with_a_sentence(
    tmp_path: Path, fields: dict[str, str], told: str
) -> None:
    with Scripted(tmp_path / "s", lambda _: info(**fields)) as server:
        async with async_client(server.url) as one:
            with pytest.raises(UnusableRedis, match=told):
                await wait_until_up(one, seconds=1)
    assert {command[0] for command in server.commands} == {b"INFO"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fields",
    [
        {"redis_version": "7.0.15"},
        {"redis_version": "8.2.3"},
        {"redis_version": "10.0.0"},
        VALKEY | {"valkey_version": "8.0.0"},
        VALKEY | {"valkey_version": "9.1.2"},
    ],
    ids=lambda fields: " ".join(fields.values()),
)
async def test_a_server_of_a_supported_version_is_taken(tmp_path: Path, fields: dict[str, str]) -> None:
    with Scripted(tmp_path / "s", lambda _: info(**fields)) as server:
        async with async_client(server.url) as one:
            await wait_until_up(one, seconds=1)


@pytest.mark.anyio
async def test_a_policy_set_on_a_real_server_is_refused(redis: Any, valkey: str) -> None:
    async with client.connect(valkey) as one:
        await wait_until_up(one, seconds=1)
        redis.config_set("maxmemory-policy", "allkeys-lfu")
        try:
            with pytest.raises(UnusableRedis, match="allkeys-lfu"):
                await wait_until_up(one, seconds=1)
        finally:
            redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.anyio
async def test_a_server_that_loads_is_waited_for(tmp_path: Path) -> None:
    left = iter(range(5))

    def answer(command: Command) -> bytes:
        return (
            b"-LOADING Valkey is loading the dataset in memory\r\n"
            if next(left, None) is not None
            else info()
        )

    with Scripted(tmp_path / "s", answer) as server:
        async with client.connect(server.url) as one:
            await wait_until_up(one, seconds=20)
    assert len(server.commands) == 6


@pytest.mark.anyio
async def test_a_server_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    server = Throwaway(tmp_path)
    async with client.connect(server.url) as one:
        waiting = asyncio.create_task(wait_until_up(one, seconds=20))
        try:
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            assert not done
            server.start()
            await waiting
            assert await one.ping()
        finally:
            server.kill()


@pytest.mark.anyio
async def test_a_server_that_never_comes_is_told_of_in_a_sentence(tmp_path: Path) -> None:
    async with client.connect(f"unix://{tmp_path}/nobody") as one:
        with pytest.raises(UnusableRedis, match=r"Redis does not answer \(ConnectionError\)\."):
            await wait_until_up(one, seconds=0.2)
