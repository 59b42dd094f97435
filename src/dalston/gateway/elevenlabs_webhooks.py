"""ElevenLabs' paths for webhooks, over the same webhooks as the native ones."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request

from dalston.dialects.elevenlabs import ELEVENLABS
from dalston.dialects.elevenlabs import webhooks as shapes
from dalston.gateway.access import TRANSCRIBE, Caller
from dalston.gateway.body import told
from dalston.gateway.openapi import told_by
from dalston.gateway.webhooks import Change, changed, of, registered
from dalston.store.webhooks import Wanted

router = APIRouter(prefix="/v1/workspace/webhooks", tags=["elevenlabs"], dependencies=[TRANSCRIBE])
OK = {"status": "ok"}


@router.get(
    "", summary="List webhooks as ElevenLabs does", responses=told_by(ELEVENLABS, "All", {"webhooks": []})
)
async def list_webhooks(request: Request) -> dict[str, Any]:
    """The caller's webhooks."""
    found = await asyncio.to_thread(of(request).all, Caller.of(request).sees)
    known = msgspec.convert(found, list[shapes.Known], from_attributes=True)
    return {"webhooks": [shapes.listed(one) for one in known]}


@router.post(
    "",
    summary="Register a webhook as ElevenLabs does",
    responses=told_by(
        ELEVENLABS, "Its secret is shown this once", {"webhook_id": "…", "webhook_secret": "wsec_…"}
    ),
)
async def make(request: Request) -> dict[str, str]:
    """Register an address that is told when a job ends."""
    asked = (await told(request, shapes.Creation)).settings
    made = await registered(request, Wanted(asked.webhook_url, asked.name, asked.request_headers or {}))
    return {"webhook_id": made.id, "webhook_secret": made.secret}


@router.patch(
    "/{webhook}", summary="Change a webhook as ElevenLabs does", responses=told_by(ELEVENLABS, "Done", OK)
)
async def change(request: Request, webhook: str) -> dict[str, str]:
    """Change a webhook, disable it, or let it be told again."""
    asked = await told(request, shapes.Change)
    await changed(
        request, webhook, Change(asked.name, asked.is_disabled, asked.retry_enabled, asked.request_headers)
    )
    return OK


@router.delete(
    "/{webhook}", summary="Forget a webhook as ElevenLabs does", responses=told_by(ELEVENLABS, "Done", OK)
)
async def forget(request: Request, webhook: str) -> dict[str, str]:
    """Tell this address nothing any more."""
    await asyncio.to_thread(of(request).remove, Caller.of(request).sees, webhook)
    return OK
