"""`/v1/webhooks`: who is told when a job ends, and what became of telling them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import msgspec
from dalston_engine import keys
from fastapi import APIRouter, Query, Request, Response
from msgspec import Meta, Struct
from msgspec.structs import replace

from dalston.errors import NotFound
from dalston.gateway import native
from dalston.gateway.access import TRANSCRIBE, Caller
from dalston.gateway.body import told
from dalston.gateway.openapi import answer
from dalston.gateway.state import State
from dalston.store import deliveries
from dalston.store.deliveries import Delivery, recorded
from dalston.store.webhooks import Wanted, Webhook, Webhooks, safe

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], dependencies=[TRANSCRIBE])


class Change(Struct, forbid_unknown_fields=True):
    """What is to be changed of a webhook; what is absent stays."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    disabled: bool | None = None
    retry: bool | None = None
    headers: dict[str, str] | None = None


def _body(kind: type[Struct]) -> dict[str, Any]:
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


@router.get("", summary="List webhooks", responses=answer("Webhooks", "Without their secrets"))
async def list_webhooks(request: Request) -> Response:
    """The caller's webhooks, with their last failures."""
    found = await asyncio.to_thread(of(request).all, Caller.of(request).sees)
    return _json({"webhooks": [shown(one) for one in found]})


@router.post("", status_code=201, summary="Register a webhook", openapi_extra=_body(Wanted),
             responses=answer("NewWebhook", "With its `secret`, which is shown this once", 201))  # fmt: skip
async def make(request: Request) -> Response:
    """Register an address that is told when a job of the caller's ends."""
    made = await registered(request, await told(request, Wanted))
    return _json(shown(made) | {"secret": made.secret}, 201)


@router.get("/secret", summary="Read the secret for addresses that are not registered",
            responses=answer("Secret", "What deliveries to `webhook_url` are signed with"))  # fmt: skip
async def secret(request: Request) -> Response:
    """What deliveries to a job's own `webhook_url` are signed with."""
    found = await asyncio.to_thread(of(request).secret, Caller.of(request).owner)
    return _json({"secret": found})


@router.get("/deliveries", summary="List deliveries",
            responses=answer("Deliveries", "Those of a job, or those that were given up"))  # fmt: skip
async def list_deliveries(
    request: Request,
    job: Annotated[str | None, Query(description="Those of this job; absent: those given up")] = None,
) -> Response:
    """What became of telling webhooks: of one job, or all that were given up, newest first."""
    state = State.of(request)
    ids = [job] if job else await _undelivered(state)
    found: list[Delivery] = []
    for one in dict.fromkeys(id.split(":")[0] for id in ids):
        if job:
            await state.jobs.get(one)
        elif not state.jobs.mine(one):
            continue
        known = await asyncio.to_thread(recorded, state.files, one) or {}
        found += [delivery for delivery in known.values() if job or delivery.state == "dead"]
    return _json({"deliveries": [_told(one) for one in found]})


@router.post("/deliveries/replay", status_code=202, summary="Deliver again all that was given up",
             responses=answer("Deliveries", "They are on their way", 202))  # fmt: skip
async def replay_all(request: Request) -> Response:
    """Make all the deliveries again that were given up."""
    state = State.of(request)
    ids = [id for id in await _undelivered(state) if state.jobs.mine(id.split(":")[0])]
    found = []
    for id in ids:
        with contextlib.suppress(NotFound):  # deleted meanwhile
            found.append(_told(await _again(state, id)))
    return _json({"deliveries": found}, 202)


@router.post("/deliveries/{delivery}/replay", status_code=202, summary="Deliver again",
             responses=answer("Delivery", "It is on its way", 202))  # fmt: skip
async def replay(request: Request, delivery: str) -> Response:
    """Make a delivery again, whatever became of it."""
    state = State.of(request)
    await state.jobs.get(delivery.split(":")[0])
    return _json(_told(await _again(state, delivery)), 202)


async def _again(state: State, delivery: str) -> Delivery:
    """The delivery, to be made anew; raises NotFound."""
    job, _, name = delivery.partition(":")

    def anew(known: dict[str, Delivery]) -> dict[str, Delivery]:
        if name not in known:
            raise NotFound(f"There is no delivery {delivery[:80]!r}.")
        return known | {name: replace(known[name], state="pending", attempts=0)}

    found = (await asyncio.to_thread(deliveries.change, state.files, job, anew)).get(name)
    if found is None:
        raise NotFound(f"There is no delivery {delivery[:80]!r}.")
    await deliveries.queue(state.redis, [delivery], again=True)
    return found


@router.patch("/{webhook}", summary="Change a webhook", openapi_extra=_body(Change),
              responses=answer("Webhook", "As it is now"))  # fmt: skip
async def change(request: Request, webhook: str) -> Response:
    """Change a webhook's name or headers, disable it, or let it be told again."""
    asked = await told(request, Change)
    return _json(shown(await changed(request, webhook, asked)))


@router.delete("/{webhook}", status_code=204, summary="Forget a webhook")
async def forget(request: Request, webhook: str) -> Response:
    """Tell this address nothing any more; deliveries that wait are dropped."""
    await asyncio.to_thread(of(request).remove, Caller.of(request).sees, webhook)
    return Response(status_code=204)


async def registered(request: Request, wanted: Wanted) -> Webhook:
    """A new webhook of the caller's; raises BadRequest."""
    from dalston.outside import Outside

    Outside(State.of(request).settings.allow_addresses).refuse(wanted.url)
    return await asyncio.to_thread(of(request).make, Caller.of(request).owner, wanted)


async def changed(request: Request, id: str, asked: Change) -> Webhook:
    """A webhook of the caller's, changed; enabling it forgets its failures."""
    given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
    if asked.headers is not None:
        safe(asked.headers)
    if asked.disabled is False:
        given |= {"auto_disabled": False, "failures": 0}
    seen = Caller.of(request).sees
    return await asyncio.to_thread(of(request).change, seen, id, lambda known: replace(known, **given))


def of(request: Request) -> Webhooks:
    """The webhooks of this server."""
    return Webhooks(State.of(request).settings.folder)


def shown(webhook: Webhook) -> dict[str, Any]:
    """A webhook as clients see it."""
    return native.times({name: value for name, value in _known(webhook).items() if name != "secret"})


def _told(delivery: Delivery) -> dict[str, Any]:
    return {"id": delivery.id} | native.times(_known(delivery))


def _known(what: Struct) -> dict[str, Any]:
    """What is known of it."""
    return {name: value for name, value in msgspec.structs.asdict(what).items() if value is not None}


async def _undelivered(state: State) -> list[str]:
    """Deliveries that were given up; those of jobs that are gone are forgotten on the way."""
    ids: list[str] = await state.redis.zrevrange(keys.UNDELIVERED(), 0, -1)
    there = await asyncio.to_thread(lambda: {id for id in ids if state.files.has(id.split(":")[0])})
    if gone := [id for id in ids if id not in there]:
        await state.redis.zrem(keys.UNDELIVERED(), *gone)
    return [id for id in ids if id in there]


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
