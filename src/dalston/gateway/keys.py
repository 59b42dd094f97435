"""`/v1/keys`: access keys, for administrators."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from dalston.gateway.access import ADMINISTER
from dalston.gateway.body import told
from dalston.gateway.openapi import answer
from dalston.gateway.state import State
from dalston.store.access_keys import AccessKeys, Wanted

router = APIRouter(prefix="/v1/keys", tags=["keys"], dependencies=[ADMINISTER])
_FORM = msgspec.json.schema(Wanted)["$defs"]["Wanted"]


@router.get("", summary="List keys", responses=answer("Keys", "Every key, without its secret"))
async def list_keys(request: Request) -> Response:
    """All keys; nobody knows their secrets."""
    found = await asyncio.to_thread(_keys(request).all)
    return _json({"keys": found})


@router.post(
    "",
    status_code=201,
    summary="Make a key",
    responses=answer("NewKey", "The key; its `secret` is shown this once", 201),
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": _FORM}}}},
)
async def make(request: Request) -> Response:
    """Make a key with a name, scopes and an owner."""
    wanted = await told(request, Wanted)
    key, secret = await asyncio.to_thread(_keys(request).make, wanted)
    return _json(msgspec.to_builtins(key) | {"secret": secret}, 201)


@router.delete("/{key}", status_code=204, summary="Revoke a key")
async def revoke(request: Request, key: str) -> Response:
    """Let a key open nothing any more."""
    await asyncio.to_thread(_keys(request).revoke, key)
    return Response(status_code=204)


def _keys(request: Request) -> AccessKeys:
    return AccessKeys(State.of(request).settings.folder)


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
