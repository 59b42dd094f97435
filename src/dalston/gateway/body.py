"""Small JSON bodies."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from fastapi import Request
from msgspec import Struct

from dalston.errors import BadRequest

LIMIT = 50_000
Body = TypeVar("Body", bound=Struct)


async def told(request: Request, kind: type[Body]) -> Body:
    """A request's body as `kind`; raises BadRequest."""
    if int(request.headers.get("content-length", LIMIT + 1)) > LIMIT:
        raise BadRequest(f"Send JSON of at most {LIMIT} bytes, with a content-length.")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"The body cannot be used: {error}.", code="invalid_option") from None
