"""Single-use tokens: for callers that cannot keep a key, such as a browser."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec
from dalston_engine import keys
from msgspec import Struct

from dalston.store.access_keys import Limits, digest
from dalston.store.client import Client

LIFE_S = 900


class Token(Struct):
    """What a token lets its bearer do, once."""

    owner: str
    scopes: Sequence[str]
    key: str = ""
    """The access key it was made with, which counts what it is used for."""
    limits: Limits = Limits()


async def issue(redis: Client, token: Token) -> str:
    """A new token's secret, good for a quarter of an hour."""
    secret = "sutkn_" + secrets.token_urlsafe(24)
    await redis.set(keys.TOKEN(digest=digest(secret)), msgspec.json.encode(token), ex=LIFE_S)
    return secret


async def spend(redis: Client, secret: str) -> Token | None:
    """What the token was for; None when there is none, or when it has been spent."""
    found = await redis.getdel(keys.TOKEN(digest=digest(secret)))
    return msgspec.json.decode(found, type=Token) if found else None
