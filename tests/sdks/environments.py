"""The SDKs' own environments, built once in `.sdks/`: pinned ones, or the newest there are.

`DALSTON_SDKS=latest` takes the newest instead of those of the locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
LATEST = os.environ.get("DALSTON_SDKS") == "latest"
FOLDER = HERE.parents[1] / ".sdks" / ("latest" if LATEST else "pinned")
UV = str(Path(sys.executable).with_name("uv"))


def python(name: str = "python") -> list[str]:
    """The command of a Python driver; `name` is the folder with its lock and its calls."""
    with _alone():
        return _python(name)


def _python(name: str) -> list[str]:
    source, folder = HERE / name, FOLDER / name
    lock, interpreter = source / "requirements.lock", str(folder / "bin" / "python")
    if not _built(folder, lock):
        _run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        if LATEST:
            names = [line.split("==")[0] for line in (source / "requirements.in").read_text().split()]
            _run(UV, "pip", "install", "--quiet", "--upgrade", "--python", interpreter, *names)
        else:
            _run(UV, "pip", "sync", "--quiet", "--require-hashes", "--python", interpreter, str(lock))
        _stamp(folder, lock)
    return [interpreter, str(HERE / "driver.py"), str(source)]


def node() -> list[str] | None:
    """The command of the JavaScript driver; None where there is no node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    with _alone():
        return _node()


def _node() -> list[str]:
    folder, lock = FOLDER / "node", HERE / "node" / "package-lock.json"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("driver.mjs", "live.mjs"):
        shutil.copy(HERE / "node" / name, folder)
    if not _built(folder, lock):
        for name in (".npmrc", "package.json", "package-lock.json"):
            shutil.copy(HERE / "node" / name, folder)
        names = json.loads((HERE / "node" / "package.json").read_text())["dependencies"]
        newest = [f"{name}@latest" for name in names]
        _run("npm", *(["install", *newest] if LATEST else ["ci"]), "--silent", "--no-progress", cwd=folder)
        _stamp(folder, lock)
    return ["node", str(folder / "driver.mjs")]


def engine() -> Path:
    """The folder with the folder of the engine `turns`, whose environment stays between tests."""
    folder = FOLDER.parent / "engines" / "turns"
    locked = HERE.parents[1] / "engines" / "fake" / "requirements.lock"
    with _alone():
        folder.mkdir(parents=True, exist_ok=True)
        for file in (locked, HERE / "engine" / "pyproject.toml", HERE / "engine" / "engine.py"):
            shutil.copy(file, folder)
    return folder.parent


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """While no other process builds here."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _built(folder: Path, lock: Path) -> bool:
    stamp = folder / "stamp"
    return stamp.exists() and stamp.read_text() == _hash(lock)


def _stamp(folder: Path, lock: Path) -> None:
    (folder / "stamp").write_text(_hash(lock))


def _hash(lock: Path) -> str:
    """What an environment is of: the newest are of this test run, whichever of its processes made them."""
    if LATEST:
        return os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.DEVNULL)
