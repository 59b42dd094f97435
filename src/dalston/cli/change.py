"""`dalston cancel`, `delete`, `retry`, `dead retry`: what changes jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dalston_engine.errors import DalstonError

from dalston.cli.output import as_json
from dalston.cli.server import connected
from dalston.client import Client, ServerSaid

Change = Callable[[Client, str], Awaitable[Any]]
CHANGES: dict[str, Change] = {"cancel": Client.cancel, "delete": Client.delete, "retry": Client.retry}


async def change(how: str, ids: list[str], json: bool, data: str | None) -> None:
    """Change jobs; raises DalstonError after the last when one could not be."""
    async with connected(data) as client:
        await _each(client, how, ids, json)


async def retry_dead(ids: list[str], json: bool, data: str | None) -> None:
    """Retry the jobs of all dead letters, or those named."""
    async with connected(data) as client:
        if not ids:
            ids = list(dict.fromkeys(letter["job"] for letter in await client.dead_letters(1000)))
        await _each(client, "retry", ids, json)


async def _each(client: Client, how: str, ids: list[str], json: bool) -> None:
    changed, refusals = [], []
    for job in ids:
        try:
            answer = await CHANGES[how](client, job)
        except ServerSaid as refusal:
            refusals.append(refusal.message)
            continue
        changed.append(answer or {"id": job, "state": "deleted"})
        if not json:
            print(f"{job}  {changed[-1]['state']}")
    if json:
        print(as_json(changed))
    if refusals:
        raise DalstonError("\n".join(refusals))
