"""`dalston jobs`, `job`, `engines`, `dead list`, `export`: what the server says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dalston_engine.errors import DalstonError

from dalston.cli.output import as_json, table
from dalston.cli.server import connected


async def jobs(limit: int, states: list[str], json: bool, data: str | None) -> None:
    """The newest jobs."""
    async with connected(data) as client:
        found = [job async for job in client.jobs(limit, state=states or None)]
    if json:
        print(as_json(found))
        return
    rows = [[j["id"], j["state"], j["created_at"], f"{j['progress']:.0%}", _name(j)] for j in found]
    table(["job", "state", "created", "progress", "file"], rows)


async def job(id: str, verbose: bool, data: str | None) -> None:
    """A job as JSON."""
    async with connected(data) as client:
        print(as_json(await client.job(id, format="verbose" if verbose else "json")))


async def export(
    id: str, format: str, output: Path | None, data: str | None, **options: bool | float | None
) -> None:
    """A completed job's transcript."""
    if format in ("docx", "pdf") and output is None and sys.stdout.isatty():
        raise DalstonError(f"A {format} file is nothing for a terminal: name a file with `--output`.")
    given = {name: value for name, value in options.items() if value is not None}
    async with connected(data) as client:
        if format in ("json", "verbose"):
            content = (as_json(await client.job(id, format=format)) + "\n").encode()
        else:
            content = await client.export(id, format, **given)
    _put(content, output)


async def letters(limit: int, json: bool, data: str | None) -> None:
    """The newest dead letters."""
    async with connected(data) as client:
        found = await client.dead_letters(limit)
    if json:
        print(as_json(found))
        return
    rows = [[d["job"], d["engine"], d["at"], d["error"]["message"]] for d in found]
    table(["job", "engine", "given up", "error"], rows)


async def engines(json: bool, data: str | None) -> None:
    """The engines that run, and what waits for them."""
    async with connected(data) as client:
        found = await client.engines()
        loads = [await client.load(engine["id"]) for engine in found]
    if json:
        print(as_json([engine | {"load": load} for engine, load in zip(found, loads, strict=True)]))
        return
    rows = [
        [e["id"], e["version"], e["stage"], str(load["capacity"]), str(load["waiting"]), _models(e)]
        for e, load in zip(found, loads, strict=True)
    ]
    table(["engine", "version", "stage", "instances", "waiting", "models"], rows)


def why_not(job: Any) -> str:
    """Why a job that has ended did not complete."""
    message: str = job.get("error", {"message": f"Job {job['id']} was cancelled."})["message"]
    return message


def put(text: str, target: Path | None) -> None:
    """Write a result to a file, or to stdout."""
    if target is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        target.write_text(text)


def _put(content: bytes, target: Path | None) -> None:
    if target is not None:
        target.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _name(job: Any) -> str:
    name: str = job.get("source", {}).get("filename", "")
    return name


def _models(engine: Any) -> str:
    """Model names, those on this machine first."""
    models: dict[str, Any] = engine.get("models", {})
    names = sorted(models, key=lambda name: not models[name].get("local", False))
    return ", ".join(name if models[name].get("local") else f"({name})" for name in names)
