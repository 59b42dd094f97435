"""The health check of containers, against a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys

ROOT = Path(__file__).parents[2]
LONG_AGO = 1_000_000.0


@pytest.fixture
def check(redis: Any, valkey: str, tmp_path: Path) -> Any:
    """Runs the check as a container of engine `fake` would; answers with its exit code and last line."""
    shutil.copy(ROOT / "deploy" / "healthy.py", tmp_path)
    shutil.copy(ROOT / "engines" / "fake" / "pyproject.toml", tmp_path)

    def run(what: str, **env: str) -> tuple[int, str]:
        command = [sys.executable, str(tmp_path / "healthy.py"), what]
        told = os.environ | {"DALSTON_REDIS_URL": valkey} | env
        done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stderr.strip()

    return run


def test_an_orchestrator_is_well_while_it_sweeps(check: Any, redis: Any) -> None:
    assert check("orchestrator") == (1, "orchestrator is not well")
    redis.hset(keys.SWEEP(), "at", int(LONG_AGO))
    assert check("orchestrator") == (1, "orchestrator is not well")
    redis.hset(keys.SWEEP(), "at", int(time.time() * 1000))
    assert check("orchestrator") == (0, "")


def test_an_engine_is_well_while_this_machine_hears_from_it(check: Any, redis: Any) -> None:
    here = os.uname().nodename
    redis.zadd(keys.ENGINES(), {f"fake/{here}-1-ab": LONG_AGO, "fake/elsewhere-1-ab": time.time() * 1000})
    redis.zadd(keys.ENGINES(), {f"other/{here}-1-ab": time.time() * 1000})
    assert check("engine") == (1, "engine is not well")
    redis.zadd(keys.ENGINES(), {f"fake/{here}-1-ab": time.time() * 1000})
    assert check("engine") == (0, "")


def test_nothing_is_well_where_nobody_listens(check: Any, tmp_path: Path) -> None:
    nobody = f"unix://{tmp_path}/nobody.sock"
    assert check("engine", DALSTON_REDIS_URL=nobody) == (1, "engine is not well")
    assert check("gateway", DALSTON_PORT="1") == (1, "gateway is not well")
