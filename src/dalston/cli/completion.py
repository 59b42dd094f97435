"""What the shell offers for arguments; it must be quick and never fail, so it asks the disk alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer
from dalston_engine.errors import DalstonError

MANY = 100


def job_ids(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """The newest jobs of the data folder."""
    from dalston import settings as settings_
    from dalston.store.files import is_id

    with contextlib.suppress(DalstonError, OSError):
        folder = settings_.load(data=ctx.params.get("data")).folder / "jobs"
        ids = [path.name for path in folder.iterdir() if is_id(path.name)]
        yield from sorted((id for id in ids if id.startswith(incomplete)), reverse=True)[:MANY]


def engine_ids(incomplete: str) -> Iterator[str]:
    """The engines that can be named by their id."""
    from dalston import settings as settings_
    from dalston.local import environments

    with contextlib.suppress(DalstonError, OSError):
        for engine in environments.everywhere(settings_.load().engines_path):
            if engine.manifest.id.startswith(incomplete):
                yield engine.manifest.id
