"""`dalston doctor`, `config` and `engine install`: this machine and its settings."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dalston_engine.errors import DalstonError

from dalston import settings as settings_
from dalston.cli.output import as_json
from dalston.local import environments, valkey
from dalston.local.server import engine_ids, holder
from dalston.settings import Settings
from dalston.store.client import connect, wait_until_up

NEEDED_GB = 2


def install(names: list[str], every: bool) -> None:
    """Build the environments of the engines of those ids or folders, or of all.

    `every`: the optional ones too.
    """
    settings = settings_.load()
    where = settings.engines_path, settings.environments
    found = [environments.at(name, *where) for name in names] or [
        engine for engine in environments.everywhere(*where) if every or not engine.manifest.optional
    ]
    for engine in found:
        engine.install(print)
        print(f"{engine.manifest.id} is installed")


def config(json: bool) -> None:
    """Every setting, its value and its source; passwords are not shown."""
    settings_.load()
    found = {name: (_hidden(name, value), source) for name, (value, source) in settings_.sources().items()}
    if json:
        print(as_json({name: {"value": value, "source": source} for name, (value, source) in found.items()}))
        return
    width = max(map(len, found))
    for name, (value, source) in found.items():
        print(f"{name:{width}}  {value!s:40}  {source}")


async def doctor(json: bool, data: str | None) -> None:
    """Check one thing a line; exits with 1 when one of them is wrong."""
    settings = settings_.load(data=data)
    checks: list[dict[str, Any]] = []

    def told(what: str, good: bool, note: str) -> None:
        checks.append({"check": what, "good": good, "note": note})
        if not json:
            print(f"{'✓' if good else '✗'} {what}{': ' + note if note else ''}")

    @contextmanager
    def check(what: str) -> Iterator[Callable[[str], None]]:
        notes: list[str] = []
        try:
            yield notes.append
        except (DalstonError, OSError) as error:
            told(what, False, str(getattr(error, "message", error)))
        else:
            told(what, True, ", ".join(notes))

    with check("Python 3.11 or later") as note:
        note(sys.version.split()[0])
    with check("data folder") as note:
        note(_data_folder(settings))
    with check("Redis or Valkey") as note:
        note(await _redis(settings))
    for name in engine_ids(settings):
        with check(f"engine {name}"):
            if not environments.find(name, settings.engines_path, settings.environments).installed:
                raise DalstonError(f"not installed: run `dalston engine install {name}`")
    running = holder(settings.folder)
    if json:
        print(as_json({"checks": checks, "server": running.url if running else None}))
    else:
        print(f"· server: {'runs at ' + running.url if running else 'does not run'}")
    if not all(check["good"] for check in checks):
        sys.exit(1)


def _hidden(name: str, value: object) -> object:
    if name.endswith("_key") and value:
        return "***"
    return re.sub(r"//[^@/]*@", "//***@", value) if isinstance(value, str) else value


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
