"""Idempotency keys: a request that is sent again with the same key becomes no second job.

Noted in Redis for a day, and with the job, from where a lost Redis is told again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence

import msgspec
from dalston_engine import keys
from msgspec import Struct

from dalston.errors import BadRequest, Conflict
from dalston.store.client import Client
from dalston.store.files import Files, JobFile, Once
from dalston.store.scripts import REPEAT, run

LIFE_S = 86_400
HANDOVER_S, OLD_S = 5.0, 300.0
"""How long a key may have no job yet before its taker counts as dead, and from what age on at once."""
LOOK_S = 0.05


class _Noted(Struct):
    """What Redis knows of a key."""

    job: str
    request: str
    at: float
    """Seconds since 1970."""


def recognised(key: str, path: str, fields: Mapping[str, Sequence[str]], content: str) -> Once:
    """What a request is recognised by; `content`: its recording's digest or address. Raises BadRequest."""
    if not (0 < len(key) <= 255 and key.isprintable()):
        told = "An Idempotency-Key has 1 to 255 printable characters."
        raise BadRequest(told, code="invalid_idempotency_key")
    asked = [path, sorted((name, list(texts)) for name, texts in fields.items()), content]
    return Once(_digest(key.encode()), _digest(msgspec.json.encode(asked)))


async def earlier(redis: Client, files: Files, owner: str, what: Once) -> JobFile | None:
    """The job that this request became before; raises Conflict when the key was another request's."""
    noted = _read(await redis.get(_key(owner, what)))
    return None if noted is None else await _job(files, noted, what)


async def claim(redis: Client, files: Files, file: JobFile) -> JobFile | None:
    """Note that a request becomes this job, or return the job that it has become meanwhile.

    Raises Conflict when the key was another request's.
    """
    assert file.once is not None
    mine, before = _note(file.id, file.once, time.time()), ""
    while True:
        found = str(await run(REPEAT, redis, owner=file.owner, token=file.once.token, value=mine,
                              before=before, ttl=LIFE_S))  # fmt: skip
        noted = _read(found)
        if found == mine or noted is None:
            return None
        if (known := await _job(files, noted, file.once)) is not None:
            return known
        before = found  # whoever took the key is dead, or the job is gone


async def restore(redis: Client, known: Sequence[JobFile]) -> None:
    """Note again what these jobs were, as long as it counts."""
    now = time.time()
    async with redis.pipeline(transaction=False) as pipe:
        for file in known:
            left = int(file.created_at + LIFE_S - now)
            if file.once is not None and left > 0:
                value = _note(file.id, file.once, file.created_at)
                pipe.set(_key(file.owner, file.once), value, ex=left, nx=True)
        await pipe.execute()


async def _job(files: Files, noted: _Noted, what: Once) -> JobFile | None:
    """The job of a key, once it is there; None when it will not come."""
    if noted.request != what.request:
        told = "This Idempotency-Key was sent with another request; use a new one for every request."
        raise Conflict(told, code="idempotency_mismatch")
    patience = HANDOVER_S if time.time() - noted.at < OLD_S else 0
    until = time.monotonic() + patience
    while True:
        file = await asyncio.to_thread(files.read, noted.job)
        if file is not None or time.monotonic() > until:
            return file
        await asyncio.sleep(LOOK_S)


def _key(owner: str, what: Once) -> str:
    return keys.IDEMPOTENCY(owner=owner, token=what.token)


def _note(job: str, what: Once, at: float) -> str:
    return msgspec.json.encode(_Noted(job, what.request, at)).decode()


def _read(text: str | None) -> _Noted | None:
    return msgspec.json.decode(text, type=_Noted) if text else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
