"""A whole server of real processes, several of each kind, and a client that does not give up."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import sys
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import Any

import httpx2
from dalston_engine import keys
from dalston_engine.queue import AWAY
from dalston_engine.queue import connect as connect_sync

from dalston.conformance.leaks import stray_files, stray_keys
from dalston.local import environments, valkey
from dalston.local.supervisor import Program, Supervisor
from dalston.store.client import Client, connect
from tests.waiting import soon

PATH = "/v1/audio/transcriptions"
ENGINES = ("prepare", "fake", "final-merger")
LEASE_S = 15
GIVE_UP_S = 150
ENDED = {"completed", "failed", "cancelled"}


def recording() -> bytes:
    """A tenth of a second of something."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(16_000)
        wav.writeframes(bytes(range(256)) * 13)
    return file.getvalue()


RECORDING = recording()


class Cluster:
    """Gateways, orchestrators and engines under one supervisor, on one data folder."""

    def __init__(self, data: Path, instances: int, settings: Mapping[str, str]) -> None:
        self.data, self.instances = data, instances
        self.logs = data.with_name(f"{data.name}-logs")
        self.logs.mkdir()
        data.mkdir()
        self.supervisor = Supervisor(self.logs)
        self.env = {"DALSTON_REDIS_URL": valkey.url(data), "DALSTON_DATA": str(data), **settings}
        self.sockets: list[socket.socket] = []
        self.clients: list[httpx2.AsyncClient] = []
        self.urls: list[str] = []
        """Of the gateways."""
        self.redis: Client = connect(valkey.url(data))
        self.checked = False

    @property
    def valkey(self) -> Program:
        return Program("valkey", valkey.command(self.data), last=True)

    async def start(self, with_valkey: bool = True) -> None:
        """Start everything and wait until it can work."""
        if with_valkey:
            await self.supervisor.start(self.valkey)
        for n in range(self.instances):
            for engine in ENGINES:
                await self.start_engine(engine, n)
            await self._start_gateway(n)
            orchestrator = [sys.executable, "-m", "dalston.orchestrator"]
            await self.supervisor.start(Program(f"orchestrator-{n}", orchestrator, self.env))
        for client in self.clients:
            await self._answer(client.get("/ready", params={"wait": 60, "engines": ",".join(ENGINES)}))

    async def start_engine(self, engine: str, n: int, **settings: str) -> None:
        """Start one more instance; `settings` are variables of its own."""
        found = environments.find(engine, "")
        found.install(print)
        await self.supervisor.start(
            Program(f"{engine}-{n}", found.command, self.env | found.manifest.env | settings)
        )

    async def _start_gateway(self, n: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.sockets.append(listener)
        fd = listener.fileno()
        env = self.env | {"DALSTON_SOCKET_FD": str(fd)}
        command = [sys.executable, "-m", "dalston.gateway"]
        await self.supervisor.start(Program(f"gateway-{n}", command, env, fds=(fd,)))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.urls.append(url)
        limits = httpx2.Limits(max_connections=300)
        headers = {"x-dalston-api": "native"}
        self.clients.append(
            httpx2.AsyncClient(base_url=url, timeout=40, headers=headers, limits=limits, trust_env=False)
        )

    async def stop(self) -> None:
        """Stop everything."""
        for client in self.clients:
            await client.aclose()
        await self.supervisor.stop()
        await self.redis.aclose()
        for listener in self.sockets:
            listener.close()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process."""
        os.kill(self.supervisor.pids[name], number)

    def log(self, name: str) -> str:
        """What a process has written so far."""
        return (self.logs / f"{name}.log").read_text()

    async def submit(self, text: str, n: int = 0, seconds: float = 0.0, **fields: str) -> str:
        """The id of a job whose 202 was received; sent again as long as there is none."""
        form = {"model": "fake", "text": text, "seconds": str(seconds)} | fields
        for attempt in range(1000):
            client = self.clients[(n + attempt) % len(self.clients)]
            with contextlib.suppress(httpx2.TransportError):
                answer = await client.post(PATH, data=form, files={"file": ("a.wav", RECORDING)})
                if answer.status_code == 202:
                    return str(answer.json()["id"])
                assert answer.status_code >= 500, answer.text
            await asyncio.sleep(0.1)
        raise AssertionError("a submission never got an answer")

    async def follow(self, job: str) -> Any:
        """A job once it has ended, as first seen."""
        end = time.monotonic() + GIVE_UP_S
        for n in range(10_000):
            found = await self.ask(f"{PATH}/{job}?wait=10", n)
            if found and found["state"] in ENDED:
                return found
            assert time.monotonic() < end, f"job {job} does not end: {found}"
        return None

    async def ask(self, path: str, n: int = 0, method: str = "GET") -> Any:
        """An answer as JSON, or None when there was none."""
        try:
            answer = await self.clients[n % len(self.clients)].request(method, path)
        except httpx2.TransportError:
            await asyncio.sleep(0.1)
            return None
        return answer.json() if answer.status_code < 500 else None

    async def task(self, job: str, stage: str = "transcribe") -> dict[str, str]:
        """A task as Redis has it."""
        try:
            return dict(await self.redis.hgetall(keys.TASK(task=f"{job}.{stage}")))
        except AWAY:
            return {}

    async def running(self, job: str, attempt: int = 1) -> dict[str, str]:
        """The transcribing task once it runs, at its n-th attempt."""

        async def look() -> dict[str, str] | None:
            task = await self.task(job)
            return task if task.get("state") == "running" and task["attempt"] == str(attempt) else None

        found: dict[str, str] = await soon(look)
        return found

    def outcome(self, job: str) -> Any:
        """What job.json says of a job's end."""
        return json.loads((self.data / "jobs" / job / "job.json").read_bytes()).get("outcome")

    def attempts(self, job: str) -> list[str]:
        """What attempts at its tasks have returned."""
        return sorted(path.name for path in (self.data / "jobs" / job).glob(f"{job}.*.json"))

    async def idle(self) -> None:
        """Wait until nothing is queued, leased, delayed or active; fails when that does not come."""

        async def look() -> bool:
            left = await self.redis.zcard(keys.ACTIVE()) + await self.redis.zcard(keys.DELAYED())
            lanes = [lane(engine=engine) for engine in ENGINES for lane in (keys.QUEUE, keys.QUEUE_HIGH)]
            for stream in (keys.WORK(), *lanes):
                left += await self.redis.xlen(stream)
            return not left

        await soon(look, 60)

    def leaves_nothing_stray(self) -> None:
        """Check its Redis and its data folder, if it has not been done already."""
        if not self.checked:
            with connect_sync(valkey.url(self.data)) as redis:
                assert not stray_keys(redis)
            assert not stray_files(self.data)
        self.checked = True

    @staticmethod
    async def _answer(call: Awaitable[httpx2.Response]) -> None:
        answer = await call
        assert answer.status_code == 200, answer.text


@contextlib.asynccontextmanager
async def cluster(
    data: Path, instances: int = 1, with_valkey: bool = True, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Cluster]:
    """A cluster as long as the context lasts; `settings` are its processes' variables."""
    made = Cluster(data, instances, settings or {})
    try:
        if with_valkey:
            await made.start()
        yield made
        made.leaves_nothing_stray()
    finally:
        await made.stop()


class CutValkey:
    """A Valkey of our own that can be killed and have the end of its append-only file cut off."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.sizes: list[tuple[float, int]] = []
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and note its file's size from now on."""
        self.process = await asyncio.create_subprocess_exec(
            *self.program.command, preexec_fn=valkey.die_with_parent
        )

    def file(self) -> Path | None:
        """The append-only file it writes to."""
        return max(self.folder.glob("appendonlydir/*.incr.aof"), default=None)

    async def watch(self) -> None:
        """Note how long the file is, until cancelled."""
        while True:
            if file := self.file():
                self.sizes.append((time.monotonic(), file.stat().st_size))
            await asyncio.sleep(0.02)

    async def kill_and_cut(self, seconds: float, more: int) -> int:
        """Kill it, and cut off what it wrote in its last `seconds`, but for `more` bytes."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        then, file = time.monotonic() - seconds, self.file()
        assert file is not None
        old = max((size for at, size in self.sizes if at <= then), default=0)
        whole = file.stat().st_size
        kept = min(old + more, whole)
        os.truncate(file, kept)
        return whole - kept

    async def stop(self) -> None:
        """End it."""
        if self.process and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()
