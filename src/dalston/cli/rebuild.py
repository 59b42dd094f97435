"""`dalston rebuild`: forget what Redis knows of jobs, and tell it anew from the files."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from dalston_engine import keys
from dalston_engine.errors import DalstonError
from dalston_engine.keys import Key

from dalston import settings as settings_
from dalston.local import valkey
from dalston.local.server import locked
from dalston.local.supervisor import Program, Supervisor
from dalston.orchestrator.recovery import Recovery
from dalston.settings import Settings
from dalston.store.client import Client, connect, wait_until_up
from dalston.store.events import Events
from dalston.store.files import Files
from dalston.store.jobs import Jobs

START_S = 10
OF_JOBS: tuple[Key, ...] = (
    keys.JOB,
    keys.TASK,
    keys.QUEUE,
    keys.QUEUES,
    keys.DELAYED,
    keys.DEAD,
    keys.JOBS,
    keys.ACTIVE,
    keys.EXPIRY,
    keys.SWEEP,
)


async def rebuild(data: str | None) -> None:
    """Rebuild from the files; raises CannotStart while a server runs on them."""
    settings = settings_.load(data=data)
    settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Files(settings.folder)
    with locked(settings.folder):
        async with _redis(settings) as redis:
            for family in OF_JOBS:
                pattern = re.sub(r"\{\w+\}", "*", family.pattern)
                async for key in redis.scan_iter(pattern, count=1000):
                    await redis.delete(key)
            jobs = Jobs(redis, files, Events(redis), settings.keep, settings.retention_s)
            report = await Recovery(redis, files, jobs).run(thorough=True)
    print(f"{report.resumed} jobs will run when the server starts, {report.listed} have ended")


@contextlib.asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[Client]:
    """The server's Redis; the embedded one is started, on an empty folder if it cannot read its own."""
    if settings.redis_url:
        async with _client(settings.redis_url) as redis:
            yield redis
        return
    data = settings.folder
    try:
        async with _embedded(data) as redis:
            yield redis
            return
    except DalstonError as error:
        if error.code != "unusable_redis":
            raise
    aside = data / "trash" / f"redis.{secrets.token_hex(4)}"
    print(f"Redis cannot read its own files; they are in {aside} for now")
    (data / "redis").rename(aside)
    async with _embedded(data) as redis:
        yield redis


@contextlib.asynccontextmanager
async def _embedded(data: Path) -> AsyncIterator[Client]:
    supervisor = Supervisor()
    await supervisor.start(Program("valkey", valkey.command(data)))
    try:
        async with _client(valkey.url(data)) as redis:
            yield redis
    finally:
        await supervisor.stop()


@contextlib.asynccontextmanager
async def _client(url: str) -> AsyncIterator[Client]:
    redis = connect(url)
    try:
        await wait_until_up(redis, START_S)
        yield redis
    finally:
        await redis.aclose()
