"""Resolve the dependencies of the server and of every engine into their `requirements.lock`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).parent.parent
OPTIONS = ["--quiet", "--upgrade", "--no-header", "--no-annotate", "--generate-hashes", "--universal"]


def lock(folder: Path, *more: str) -> None:
    """Write the lock of one project: versions and hashes, no addresses."""
    command = [find_uv_bin(), "pip", "compile", *OPTIONS, "--python-version", "3.11", *more]
    command += ["--no-emit-package", "dalston-engine", "pyproject.toml", "-o", "requirements.lock"]
    subprocess.run(command, cwd=folder, check=True)  # noqa: S603
    print(f"locked {folder.name}")


if __name__ == "__main__":
    lock(ROOT, "--group", "dev")
    for project in sorted((ROOT / "engines").glob("*/pyproject.toml")):
        lock(project.parent)
