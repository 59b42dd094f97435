"""`dalston cancel`, `delete`, `retry`, `dead retry`: what changes jobs."""

from __future__ import annotations

from typing import Any

from dalston_engine.errors import DalstonError

from dalston import settings as settings_
from dalston.cli.client import Client, ServerSaid, address

PATH = "/v1/audio/transcriptions"


async def cancel(ids: list[str], data: str | None) -> None:
    """Cancel jobs; raises DalstonError after the last when one could not be."""
    await _each(ids, data, "POST", "/cancel")


async def delete(ids: list[str], data: str | None) -> None:
    """Delete jobs; raises DalstonError after the last when one could not be."""
    await _each(ids, data, "DELETE")


async def retry(ids: list[str], data: str | None) -> None:
    """Retry jobs; raises DalstonError after the last when one could not be."""
    await _each(ids, data, "POST", "/retry")


async def retry_dead(ids: list[str], data: str | None) -> None:
    """Retry the jobs of all dead letters, or those named."""
    if not ids:
        async with Client(address(settings_.load(data=data))) as client:
            found = await client.ask("/v1/dead-letters", limit=1000)
        ids = list(dict.fromkeys(letter["job"] for letter in found["dead_letters"]))
    await retry(ids, data)


async def _each(ids: list[str], data: str | None, method: str, action: str = "") -> None:
    refusals = []
    async with Client(address(settings_.load(data=data))) as client:
        for job in ids:
            try:
                answer: Any = await client.tell(method, f"{PATH}/{job}{action}")
                print(f"{job}  {answer['state'] if answer else 'deleted'}")
            except ServerSaid as refusal:
                refusals.append(refusal.message)
    if refusals:
        raise DalstonError("\n".join(refusals))
