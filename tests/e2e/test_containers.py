"""The images and the compose file, on a real Docker engine; asked for with DALSTON_CONTAINERS=1."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT

ASKED = {name: value for name, value in os.environ.items() if name.startswith("DALSTON_")}
"""What the caller set, before a test's own environment hides it."""


def docker_runs() -> bool:
    """True when a Docker engine answers."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(
    "DALSTON_CONTAINERS" not in ASKED, reason="set DALSTON_CONTAINERS=1 to build and run images"
)
@pytest.mark.timeout(1800)
def test_the_containers_do_what_they_are_for() -> None:
    if not docker_runs():
        pytest.skip("no Docker engine answers to `docker info`")
    script = ROOT / "scripts" / "containers.py"
    done = subprocess.run(
        [sys.executable, script], env=os.environ | ASKED, stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0


@pytest.mark.parametrize("behind", ["", "a wall"])
def test_a_gateway_that_strangers_could_reach_says_so_and_ends(behind: str) -> None:
    env = os.environ | {"DALSTON_HOST": "0.0.0.0", "DALSTON_BEHIND": behind}
    command = [sys.executable, "-m", "dalston.gateway"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert ("dalston key create" if not behind else "DALSTON_BEHIND = 'a wall'") in done.stderr
    assert "Traceback" not in done.stderr
