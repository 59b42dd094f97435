"""Resolve the dependencies of the server and of every engine into their `requirements.lock`.

An engine's group `weights` goes into a `weights.lock` beside it, so that weights can be left out.
"""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).parent.parent
OPTIONS = ["--quiet", "--upgrade", "--no-header", "--no-annotate", "--generate-hashes", "--universal",
           "--python-version", "3.11", "--no-emit-package", "dalston-engine"]  # fmt: skip


def lock(folder: Path, *what: str, into: str = "requirements.lock") -> None:
    """Write a lock of one project: versions and hashes, no addresses."""
    command = [find_uv_bin(), "pip", "compile", *OPTIONS, *what, "-o", into]
    subprocess.run(command, cwd=folder, check=True)  # noqa: S603
    print(f"locked {folder.name}: {into}")


if __name__ == "__main__":
    lock(ROOT, "pyproject.toml", "--group", "dev")
    for project in sorted((ROOT / "engines").glob("*/pyproject.toml")):
        lock(project.parent, "pyproject.toml")
        if "weights" in tomllib.loads(project.read_text()).get("dependency-groups", {}):
            lock(project.parent, "--group", "weights", into="weights.lock")
