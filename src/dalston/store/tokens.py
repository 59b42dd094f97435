"""Tokens for callers that cannot keep a key, such as a browser: good once, or for a while."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from dalston_engine import keys
from msgspec import Struct

from dalston.store.access_keys import Limits, digest
from dalston.store.client import Client

LIFE_S = 900
SINGLE, EPHEMERAL = "sutkn_", "ek_"
"""What a token's secret begins with: one is spent by its first use, the other good until its end."""


class Token(Struct):
    """What a token lets its bearer do."""

    owner: str
    scopes: Sequence[str]
    key: str = ""
    """The access key it was made with, which counts what it is used for."""
    limits: Limits = Limits()
    settings: Any = None
    """What a live session opened with it is set to."""


async def issue(redis: Client, token: Token, mark: str = SINGLE, life: int = LIFE_S) -> str:
    """A new token's secret, good for `life` seconds."""
    secret = mark + secrets.token_urlsafe(24)
    await redis.set(keys.TOKEN(digest=digest(secret)), msgspec.json.encode(token), ex=life)
    return secret


async def spend(redis: Client, secret: str) -> Token | None:
    """What the token is for; None when there is none, or when it has been spent."""
    if secret.startswith(EPHEMERAL):
        return await peek(redis, secret)
    return _token(await redis.getdel(keys.TOKEN(digest=digest(secret))))


async def peek(redis: Client, secret: str) -> Token | None:
    """What the token is for, without spending it."""
    return _token(await redis.get(keys.TOKEN(digest=digest(secret))))


def _token(found: bytes | str | None) -> Token | None:
    return msgspec.json.decode(found, type=Token) if found else None
