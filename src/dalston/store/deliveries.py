"""Deliveries: what a job has told whom, in a file beside the job, and when the next attempt is due.

The file is right: an ended job that names a webhook and has none, or has one with an open delivery, is
queued again whenever Redis is compared with the files. So each is made at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from dalston_engine import keys
from msgspec import Struct

from dalston.store.client import Client
from dalston.store.files import Files, JobFile
from dalston.store.scripts import DELIVER, DUE, run

LEASE_MS = 60_000
DIRECT = "direct"
"""The target that is an address of the job's own, not a registered webhook."""


class Delivery(Struct, omit_defaults=True):
    """One job's news for one webhook."""

    job: str
    webhook: str
    """Its id, or `direct`."""
    run: int = 1
    """Which of the job's ends it is about."""
    state: str = "pending"
    """pending, delivered, dead or dropped: the webhook is gone."""
    attempts: int = 0
    status: int | None = None
    """What the last attempt was answered; absent when there was no answer."""
    error: str | None = None
    at: float | None = None
    """When the last attempt was, in seconds since 1970."""

    @property
    def id(self) -> str:
        return f"{self.job}:{self.webhook}"


async def queue(redis: Client, ids: Sequence[str], after: float = 0, again: bool = False) -> None:
    """Have deliveries, or all of a job's, made `after` seconds from now."""
    if ids:
        await run(
            DELIVER, redis, deliveries=" ".join(ids), after=int(after * 1000), again=1 if again else None
        )


async def due(redis: Client, limit: int) -> list[str]:
    """Take what is due: jobs whose targets are not known yet, and deliveries."""
    return list(await run(DUE, redis, lease=LEASE_MS, limit=limit))


async def done(redis: Client, id: str, dead: float | None = None) -> None:
    """Nothing more to do; `dead`: since when it is given up."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zrem(keys.DELIVERIES(), id)
        if dead is not None:
            pipe.zadd(keys.UNDELIVERED(), {id: int(dead * 1000)})
        await pipe.execute()


async def count(redis: Client, outcome: Literal["delivered", "failed"]) -> None:
    """Count an attempt."""
    await redis.hincrby(keys.TOLD(), outcome, 1)


def recorded(files: Files, job: str) -> dict[str, Delivery] | None:
    """A job's deliveries by their targets; None when its targets are not known yet."""
    content = files.note(job, "webhooks")
    return None if content is None else msgspec.json.decode(content, type=dict[str, Delivery])


def change(
    files: Files, job: str, how: Callable[[dict[str, Delivery]], dict[str, Delivery]]
) -> dict[str, Delivery]:
    """Write down what became of a job's deliveries: what `how` makes of those that are known."""
    changed: dict[str, Delivery] = {}

    def changing(content: bytes | None) -> bytes:
        changed.update(how(msgspec.json.decode(content or b"{}", type=dict[str, Delivery])))
        return msgspec.json.encode(changed)

    files.change_note(job, "webhooks", changing)
    return changed


async def restore(redis: Client, files: Files, ended: Sequence[JobFile]) -> None:
    """Have made what of ended jobs' deliveries is still to be made, and list again what was given up."""
    untold, dead = [], {}
    for file in ended:
        known = await asyncio.to_thread(recorded, files, file.id)
        if known is None or any(one.run < file.run for one in known.values()):
            untold.append(file.id)
            continue
        for one in known.values():
            if one.state == "pending":
                untold.append(one.id)
            elif one.state == "dead":
                dead[one.id] = int((one.at or 0) * 1000)
    await queue(redis, untold)
    if dead:
        await redis.zadd(keys.UNDELIVERED(), dead, nx=True)
