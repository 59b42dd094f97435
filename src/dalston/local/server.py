"""The whole server on this machine: embedded Redis, gateway, orchestrator, engines, one parent.

All processes are started at once; each waits for what it needs. The parent holds the listening
socket, so a port that is taken is known before anything starts and requests wait for the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path

import msgspec
from dalston_engine.errors import DalstonError
from msgspec import Struct

from dalston import settings as settings_
from dalston.local import environments, valkey
from dalston.local.environments import EngineFolder
from dalston.local.logbook import Logbook
from dalston.local.supervisor import Program, Supervisor
from dalston.settings import Settings
from dalston.store.access_keys import AccessKeys

ENGINE_NICE = 5
"""Engines yield to the gateway, so that it answers while every core transcribes."""


class CannotStart(DalstonError):
    """The server cannot start."""

    code, retryable = "cannot_start", False


class Running(Struct):
    """`server.json` in the data folder: how to reach the server that holds it."""

    url: str
    pid: int


@contextlib.asynccontextmanager
async def running(
    settings: Settings, say: Callable[[str], None], logs: Path | None = None, preload: str = ""
) -> AsyncIterator[tuple[Running, Supervisor]]:
    """Run the server as long as the context lasts; raises CannotStart or what a part raises."""
    data = settings.folder
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(data), _listening(settings) as listener, _book(data, logs) as book:
        engines = [_folder(name, settings) for name in engine_ids(settings)]
        for engine in engines:
            await asyncio.to_thread(engine.install, say)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{listener.getsockname()[1]}"
        supervisor = Supervisor(logs, book)
        try:
            for program in _programs(settings, engines, listener, preload):
                await supervisor.start(program)
            info = Running(url, os.getpid())
            (data / "server.json").write_bytes(msgspec.json.encode(info))
            yield info, supervisor
        finally:
            (data / "server.json").unlink(missing_ok=True)
            await supervisor.stop()


@contextlib.contextmanager
def _book(data: Path, logs: Path | None) -> Iterator[Logbook | None]:
    """The log of the server and of this process, unless every process has a file of its own."""
    if logs is not None:
        yield None
        return
    book = Logbook(data / "logs")
    logging.getLogger("dalston").addHandler(book)
    try:
        yield book
    finally:
        logging.getLogger("dalston").removeHandler(book)
        book.end()


def engine_ids(settings: Settings, without: Collection[str] = ()) -> list[str]:
    """The engines to start, but for those of some stages."""
    names = [name.strip() for name in settings.engines.split(",") if name.strip()]
    return [n for n in names if not without or _folder(n, settings).manifest.stage not in without]


def _folder(name: str, settings: Settings) -> EngineFolder:
    return environments.find(name, settings.engines_path, settings.environments)


def holder(data: Path) -> Running | None:
    """The server that holds a data folder now, or None."""
    if not (data / "lock").exists():
        return None
    with contextlib.suppress(CannotStart), locked(data):
        return None
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((data / "server.json").read_bytes(), type=Running)
    return None


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data folder; raises CannotStart when another server does."""
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"Another `dalston up` uses {data}. Stop it, or name another folder with --data."
            ) from None
        yield


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    settings_.refuse_open(settings, bool(AccessKeys(settings.folder).all()))
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise CannotStart(
                f"Port {settings.port} of {settings.host} cannot be used ({error.strerror}); "
                "choose another with --port."
            ) from None
        listener.listen(1024)
        yield listener


def surroundings(settings: Settings) -> dict[str, str]:
    """What every process of the server is told by its environment."""
    redis = settings.redis_url or valkey.url(settings.folder)
    return settings_.environment(settings) | {
        "DALSTON_REDIS_URL": redis, "DALSTON_DATA": str(settings.folder)
    }  # fmt: skip


SECRETS = {"DALSTON_ADMIN_KEY": "", "DALSTON_API_KEY": ""}
"""What no engine's process is told."""


def engine_surroundings(engine: EngineFolder, common: dict[str, str], preload: str = "") -> dict[str, str]:
    """What an engine's process is told; what its manifest wants gives way to the operator's."""
    env = common | {k: v for k, v in engine.manifest.env.items() if k not in os.environ}
    mine = engine.manifest.stage == "transcribe" or preload in engine.manifest.models
    return env | SECRETS | {"DALSTON_PRELOAD": preload if mine and engine.manifest.models else ""}


def _programs(
    settings: Settings, engines: list[EngineFolder], listener: socket.socket, preload: str
) -> list[Program]:
    """Slow starters first: what takes longest decides when the server is ready."""
    data = settings.folder
    common = surroundings(settings)
    descriptor = listener.fileno()
    programs = []
    if not settings.redis_url:
        advice = f"{data / 'redis' / 'server.log'} says why; if it cannot read its files: `dalston rebuild`."
        programs.append(Program("valkey", valkey.command(data), last=True, advice=advice))
    for engine in sorted(engines, key=lambda engine: not engine.manifest.models):
        env = engine_surroundings(engine, common, preload)
        programs.append(Program(engine.manifest.id, engine.command, env, ENGINE_NICE))
    python = [sys.executable, "-m"]
    gateway = common | {"DALSTON_SOCKET_FD": str(descriptor)}
    programs.append(Program("gateway", [*python, "dalston.gateway"], gateway, fds=(descriptor,)))
    programs.append(Program("orchestrator", [*python, "dalston.orchestrator"], common))
    return programs
