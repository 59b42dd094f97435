"""A new engine's folder, copied from one of the templates.

A template is an engine that works as it stands, with the id `my-engine` and the class `MyEngine`.
"""

from __future__ import annotations

import re
from pathlib import Path

from dalston_engine.errors import DalstonError

from dalston.local.environments import CODE, MANIFEST

TEMPLATES = Path(__file__).parent / "templates"
ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class CannotMake(DalstonError):
    """The engine's folder cannot be made."""

    code, retryable = "cannot_make", False


def stages() -> list[str]:
    """The stages for which there is a template."""
    return sorted(folder.name for folder in TEMPLATES.iterdir() if (folder / MANIFEST).is_file())


def make(name: str, stage: str, folder: Path) -> None:
    """Write the files of a new engine; raises CannotMake, and touches nothing that is there."""
    if not ID.fullmatch(name):
        raise CannotMake(f"{name!r} cannot be an engine's id: use small letters, digits and single dashes.")
    if stage not in stages():
        raise CannotMake(f"There is no stage {stage!r}. There are: {', '.join(stages())}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotMake(f"{folder} is there already; name another folder with --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {file: (TEMPLATES / stage / file).read_text() for file in (MANIFEST, CODE)}
    title = "".join(word.capitalize() for word in name.split("-"))
    if re.search(rf"\b{title}\b", texts[CODE]):
        title += "Engine"
    for file, text in texts.items():
        (folder / file).write_text(text.replace("my-engine", name).replace("MyEngine", title))
