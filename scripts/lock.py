"""Resolve the dependencies of the server and of every engine into their `requirements.lock`.

An engine's group `weights` goes into a `weights.lock` beside it, so that weights can be left out; what
those packages need to run is left out, since only their files are read. `python -m scripts.lock ID…`
locks these engines alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).parent.parent
OPTIONS = ["--quiet", "--upgrade", "--no-header", "--no-annotate", "--generate-hashes", "--universal",
           "--python-version", "3.11", "--no-emit-package", "dalston-engine"]  # fmt: skip
NEVER = "sys_platform == 'never'"
NO_TORCH = f"torch ; {NEVER}\n"
"""An override that leaves PyTorch out: engines name its release in their manifest."""


def without_torch(lock: str) -> str:
    """A lock without what it has only because PyTorch needs it."""
    requirements = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)
    return "".join(one for one in requirements if NEVER not in one)


def lock(folder: Path, *what: str, into: str = "requirements.lock") -> None:
    """Write a lock of one project: versions and hashes, no addresses."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as overrides:
        overrides.write(NO_TORCH)
        overrides.flush()
        command = [find_uv_bin(), "pip", "compile", *OPTIONS, "--override", overrides.name, *what, "-o", into]
        subprocess.run(command, cwd=folder, check=True)  # noqa: S603
    target = folder / into
    target.write_text(without_torch(target.read_text()))
    print(f"locked {folder.name}: {into}")


if __name__ == "__main__":
    names = sys.argv[1:]
    if not names:
        lock(ROOT, "pyproject.toml", "--group", "dev")
    for project in sorted((ROOT / "engines").glob("*/pyproject.toml")):
        if names and project.parent.name not in names:
            continue
        lock(project.parent, "pyproject.toml")
        if "weights" in tomllib.loads(project.read_text()).get("dependency-groups", {}):
            lock(project.parent, "--no-deps", "--group", "weights", into="weights.lock")
