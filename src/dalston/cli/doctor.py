"""`dalston doctor`, `config` and `engine install`: this machine and its settings."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dalston_engine.errors import DalstonError

from dalston import settings as settings_
from dalston.local import environments, valkey
from dalston.local.server import engine_ids, holder
from dalston.settings import Settings
from dalston.store.client import connect, wait_until_up

NEEDED_GB = 2


def install(names: list[str]) -> None:
    """Build the environments of the engines of those ids or folders, or of all."""
    extra = settings_.load().engines_path
    found = [environments.at(name, extra) for name in names] or list(environments.everywhere(extra))
    for engine in found:
        engine.install(print)
        print(f"{engine.manifest.id} is installed")


def config() -> None:
    """Every setting, its value and its source; passwords are not shown."""
    settings_.load()
    found = settings_.sources()
    width = max(map(len, found))
    for name, (value, source) in found.items():
        shown = re.sub(r"//[^@/]*@", "//***@", str(value))
        print(f"{name:{width}}  {shown!s:40}  {source}")


async def doctor(data: str | None) -> None:
    """Check one thing a line; exits with 1 when one of them is wrong."""
    settings = settings_.load(data=data)
    problems: list[str] = []

    @contextmanager
    def check(what: str) -> Iterator[Callable[[str], None]]:
        notes: list[str] = []
        try:
            yield notes.append
        except (DalstonError, OSError) as error:
            problems.append(what)
            print(f"✗ {what}: {getattr(error, 'message', error)}")
        else:
            print(f"✓ {what}{': ' + ', '.join(notes) if notes else ''}")

    with check("Python 3.11 or later") as note:
        note(sys.version.split()[0])
    with check("data folder") as note:
        note(_data_folder(settings))
    with check("Redis or Valkey") as note:
        note(await _redis(settings))
    for name in engine_ids(settings):
        with check(f"engine {name}"):
            if not environments.find(name, settings.engines_path).installed:
                raise DalstonError(f"not installed: run `dalston engine install {name}`")
    running = holder(settings.folder)
    print(f"· server: {'runs at ' + running.url if running else 'does not run'}")
    if problems:
        sys.exit(1)


def _data_folder(settings: Settings) -> str:
    settings.folder.mkdir(parents=True, exist_ok=True)
    probe = settings.folder / ".probe"
    probe.touch()
    probe.unlink()
    free = shutil.disk_usage(settings.folder).free / 1e9
    if free < NEEDED_GB:
        raise DalstonError(f"{settings.folder} has {free:.1f} GB free; {NEEDED_GB} GB are needed")
    return f"{settings.folder}, {free:.0f} GB free"


async def _redis(settings: Settings) -> str:
    if not settings.redis_url:
        return f"{valkey.find()}, started by `dalston up`"
    redis = connect(settings.redis_url)
    try:
        await wait_until_up(redis, seconds=2)
    finally:
        await redis.aclose()
    return "answers"
