"""Whether what a container runs is well: exit code 0, or one line and 1.

The gateway answers; an orchestrator has swept lately; this container's engine was
heard from lately. Any orchestrator's sweep counts, since none has a name.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from dalston_engine import keys, manifest
from dalston_engine.queue import AWAY, connect

LATELY_MS = 15_000


def gateway() -> bool:
    port = os.environ.get("DALSTON_PORT", "8765")
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=3):
            return True
    except URLError:
        return False


def orchestrator() -> bool:
    with connect(address()) as client:
        return now(client) - float(client.hget(keys.SWEEP(), "at") or 0) < LATELY_MS


def engine() -> bool:
    mine = f"{manifest.read(Path(__file__).parent).id}/{os.uname().nodename}-"
    with connect(address()) as client:
        since = now(client) - LATELY_MS
        return any(name.startswith(mine) for name in client.zrangebyscore(keys.ENGINES(), since, "+inf"))


def address() -> str:
    return os.environ.get("DALSTON_REDIS_URL", "redis://127.0.0.1:6379")


def now(client: Any) -> float:
    seconds, micros = map(int, client.time())
    return seconds * 1000 + micros / 1000


if __name__ == "__main__":
    what = sys.argv[1]
    try:
        well = {"gateway": gateway, "orchestrator": orchestrator, "engine": engine}[what]()
    except AWAY:
        well = False
    sys.exit(0 if well else f"{what} is not well")
