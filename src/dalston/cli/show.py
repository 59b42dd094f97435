"""`dalston jobs`, `job`, `engines`: what the server says, for people."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from dalston import settings as settings_
from dalston.cli.client import Client, address

PIPE_COLUMNS = 1000


async def jobs(limit: int, data: str | None) -> None:
    """A table of the newest jobs."""
    found = await _ask(data, "/v1/audio/transcriptions", limit=limit)
    _table(
        ["job", "state", "created", "progress", "file"],
        [
            [
                j["id"],
                j["state"],
                j["created_at"],
                f"{j['progress']:.0%}",
                j.get("source", {}).get("filename", ""),
            ]
            for j in found["jobs"]
        ],
    )


async def job(id: str, data: str | None) -> None:
    """A job as JSON."""
    found = await _ask(data, f"/v1/audio/transcriptions/{id}")
    print(msgspec.json.format(msgspec.json.encode(found)).decode())


async def letters(limit: int, data: str | None) -> None:
    """A table of the newest dead letters."""
    found = await _ask(data, "/v1/dead-letters", limit=limit)
    _table(
        ["job", "engine", "given up", "error"],
        [[d["job"], d["engine"], d["at"], d["error"]["message"]] for d in found["dead_letters"]],
    )


async def engines(data: str | None) -> None:
    """A table of the engines that run."""
    found = await _ask(data, "/v1/engines")
    _table(
        ["engine", "version", "stage", "instances", "models"],
        [[e["id"], e["version"], e["stage"], str(len(e["instances"])), _models(e)] for e in found["engines"]],
    )


def _models(engine: Any) -> str:
    """Model names, those on this machine first."""
    models: dict[str, Any] = engine.get("models", {})
    names = sorted(models, key=lambda name: not models[name].get("local", False))
    return ", ".join(name if models[name].get("local") else f"({name})" for name in names)


async def _ask(data: str | None, path: str, **query: Any) -> Any:
    async with Client(address(settings_.load(data=data))) as client:
        return await client.ask(path, **query)


def _table(columns: list[str], rows: list[list[str]]) -> None:
    """Show rows; ids are never cut, and in a pipe nothing is."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in {"job", "engine"}, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)
