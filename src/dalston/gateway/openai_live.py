"""OpenAI's live sessions, and ephemeral keys for those who open them from a browser."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import msgspec
from dalston_engine.queue import AWAY
from fastapi import APIRouter, Request
from msgspec import Struct
from starlette.websockets import WebSocket

from dalston.dialects.openai import OPENAI
from dalston.dialects.openai.live import LiveTalk, new_id
from dalston.dialects.openai.live_form import (
    BETA_EXAMPLE,
    EXAMPLE,
    BetaSession,
    Expiry,
    Secret,
    Settings,
    of_beta,
    read,
)
from dalston.gateway.access import LIVE, Caller, secret_of
from dalston.gateway.body import told
from dalston.gateway.live import converse, fields
from dalston.gateway.openapi import told_by
from dalston.gateway.state import State
from dalston.store.tokens import EPHEMERAL, Token, issue, peek

router = APIRouter(tags=["openai"])
PATH = "/v1/realtime"


class Wanted(Struct):
    """An ephemeral key to be made."""

    session: Any = msgspec.field(default_factory=dict)
    expires_after: Expiry = msgspec.field(default_factory=Expiry)


@router.websocket(PATH)
async def realtime(websocket: WebSocket) -> None:
    """Transcribe what is said from now on."""
    state: State = websocket.app.state.dalston
    preset, secret = None, secret_of(websocket)
    if secret.startswith(EPHEMERAL):
        with contextlib.suppress(*AWAY):  # which is told when the caller is looked for
            token = await peek(state.redis, secret)
            preset = token.settings if token else None
    await converse(websocket, LiveTalk(fields(websocket), websocket.headers, state.settings.names, preset))


@router.post(
    PATH + "/client_secrets",
    summary="Make an ephemeral key as OpenAI does",
    responses=told_by(OPENAI, "The key", {"value": "ek_…", "expires_at": 1767225600, "session": EXAMPLE}),
)
async def make_secret(request: Request) -> dict[str, Any]:
    """A key for live sessions with these settings, good until it expires."""
    wanted = await told(request, Wanted)
    given = read(wanted.session)
    session = Settings().updated(given).told(new_id("sess"))
    secret = await _issued(request, given, wanted.expires_after)
    return secret | {"session": session}


@router.post(
    PATH + "/transcription_sessions",
    summary="Make an ephemeral key as OpenAI's beta does",
    responses=told_by(OPENAI, "The key, with its settings", BETA_EXAMPLE),
)
async def make_session(request: Request) -> dict[str, Any]:
    """As `client_secrets`, in the beta's shape."""
    wanted = await told(request, BetaSession)
    given = of_beta(wanted)
    session = Settings().updated(given).told_beta(new_id("sess"))
    expiry = wanted.client_secret.expires_at if isinstance(wanted.client_secret, Secret) else Expiry()
    return session | {"client_secret": await _issued(request, given, expiry)}


async def _issued(request: Request, given: dict[str, Any], expiry: Expiry) -> dict[str, Any]:
    caller = Caller.of(request)
    caller.may_issue(*LIVE)
    token = Token(caller.owner, ["realtime"], caller.key, caller.limits, given)
    secret = await issue(State.of(request).redis, token, EPHEMERAL, expiry.seconds)
    return {"value": secret, "expires_at": int(time.time()) + expiry.seconds}
