"""What runs: `/v1/engines`, `/health`, `/ready`."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import msgspec
from dalston_engine import keys
from dalston_engine.queue import AWAY
from fastapi import APIRouter, Query, Request, Response

from dalston.errors import NotFound, Unavailable
from dalston.gateway import native
from dalston.gateway.access import ADMINISTER
from dalston.gateway.openapi import answer
from dalston.gateway.state import State
from dalston.store.fleet import engines as running
from dalston.store.letters import letters
from dalston.store.load import load

router = APIRouter()
NEEDED = ("prepare", "transcribe", "merge")
POLL_S = 0.02
"""How often a caller that waits for the start is served a new look at the fleet."""


@router.get(
    "/v1/engines",
    summary="List engines",
    tags=["engines"],
    responses=answer("Engines", "The engines alive now"),
)
async def list_engines(request: Request) -> Response:
    """The engines alive now: what each can do, its options, its instances."""
    found = await running(State.of(request).redis)
    listed = [msgspec.to_builtins(e.card) | {"instances": e.instances} for e in found]
    return _json({"engines": listed})


@router.get(
    "/v1/engines/{engine}/load",
    summary="Read an engine's load",
    dependencies=[ADMINISTER],
    tags=["engines"],
    responses=answer("Load", "What waits and runs"),
)
async def read_load(request: Request, engine: str) -> Response:
    """How much waits and runs for an engine, and how many tasks its instances work on at once."""
    redis = State.of(request).redis
    alive = {one.card.id: len(one.instances) for one in await running(redis)}
    if engine not in alive and not await redis.sismember(keys.QUEUES(), engine):
        known = ", ".join(sorted(alive)) or "none"
        raise NotFound(f"There is no engine {engine[:40]!r}. Running: {known}.")
    found = msgspec.to_builtins(await load(redis, engine))
    return _json(found | {"capacity": alive.get(engine, 0)})


@router.get(
    "/v1/dead-letters",
    summary="List dead letters",
    dependencies=[ADMINISTER],
    tags=["engines"],
    responses=answer("DeadLetters", "Newest first"),
)
async def list_letters(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
    """Tasks that were given up after their last attempt, newest first; retry their jobs to try again."""
    found = await letters(State.of(request).redis, limit)
    return _json({"dead_letters": [native.letter(letter) for letter in found]})


@router.get("/health", summary="Liveness", tags=["health"], responses=answer("Status", "It serves requests"))
async def health() -> Response:
    """200 while this process serves requests; asks nobody else."""
    return _json({"status": "ok"})


@router.get(
    "/ready",
    summary="Readiness",
    tags=["health"],
    responses=answer("Status", "A recording would be transcribed now"),
)
async def ready(
    request: Request,
    wait: Annotated[float, Query(ge=0, le=600)] = 0,
    engines: Annotated[str, Query()] = "",
    loading: bool = False,
) -> Response:
    """200 when a recording would be transcribed now, else 503 with what is missing.

    `wait` seconds for it; `engines`: also those, separated by commas; `loading`: an engine that
    still loads its model will do.
    """
    wanted = set(filter(None, engines.split(",")))
    end = time.monotonic() + wait
    while missing := await _missing(State.of(request), wanted, loading):
        if time.monotonic() >= end:
            raise Unavailable(f"Not running: {', '.join(missing)}.", code="not_ready")
        await asyncio.sleep(POLL_S)
    return _json({"status": "ready"})


async def _missing(state: State, wanted: set[str], loading: bool) -> list[str]:
    try:
        found = await running(state.redis)
    except AWAY:
        return ["redis"]
    usable = {"idle", "running"} | ({"loading"} if loading else set())
    ready = [e.card for e in found if any(i.state in usable for i in e.instances)]
    stages = [f"an engine that can {stage}" for stage in NEEDED if stage not in {c.stage for c in ready}]
    return stages + sorted(wanted - {card.id for card in ready})


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
