"""Live sessions and workers in Redis: seats, attachments, the log of finals, counters.

An attachment of a session to a worker has a number, its epoch. Whoever begins the next one has the session;
what an older one still does is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from dalston_engine import keys
from msgspec import Raw, Struct

from dalston.errors import LiveFull, NoWorker
from dalston.live import FinalTranscript, LiveRequest
from dalston.store.client import Client
from dalston.store.scripts import ALLOCATE, APPEND, DESCRIBE, HOLD, LEAVE, run

LEASE_MS = 10_000
"""How long a seat stays its session's unless the gateway renews it."""
LOST_MS = 2_500
"""Nobody is given to a worker that was not heard from for so long."""
KEPT_S, ENDED_S = 86_400, 600
"""How long a session's keys stay without being held, and after its end: then its transcript is on disk."""


class Facts(Struct, omit_defaults=True):
    """What another gateway needs to know of a session to take it up, and whoever writes its transcript."""

    models: list[str]
    language: str | None
    request: Raw
    """The `LiveRequest`."""

    @classmethod
    def of(cls, models: list[str], request: LiveRequest) -> Facts:
        """Those of a request that any of these models will do for."""
        return cls(models, request.options.language, Raw(msgspec.json.encode(request)))


class Place(Struct):
    """A seat at a worker."""

    worker: str
    address: str
    secret: str
    model: str
    languages: list[str]
    """What the model knows; `*` any."""
    epoch: int


class Stored(Struct):
    """A session as Redis knows it."""

    id: str
    state: str
    """active, detached or ended."""
    owner: str
    epoch: int
    model: str
    facts: Facts
    created_at: float
    """Seconds since 1970."""
    held_at: float
    audio: float = 0.0
    """Seconds that are dealt with."""
    seq: int = 0
    """Of the last final."""
    cause: str = ""
    """How it ended, if it has."""


class Worker(Struct):
    """A worker as its heartbeat tells."""

    id: str
    engine: str
    state: str
    address: str
    models: dict[str, list[str]]
    capacity: int
    """Sessions it would take in all."""
    sessions: int
    """Sessions it has."""
    seats: int
    """Sessions it was given."""
    load: Raw
    beat: int
    age: float
    """Seconds since its heartbeat."""


class Stale(Exception):
    """Somebody else has the session now."""


class Claim(Struct):
    """Who wants a seat, and what for."""

    session: str
    gateway: str
    attach: str
    """Tells this claim from others' for the same attachment."""
    owner: str
    facts: Facts
    key: str = ""
    """The access key whose limits it counts against, if it has any."""


class Unknown(Exception):
    """Redis has lost the session, or its latest attachment."""


async def allocate(redis: Client, claim: Claim, epoch: int, avoid: Iterable[str] = ()) -> Place:
    """A seat for a session's attachment `epoch`; raises LiveFull, NoWorker or Stale."""
    values: dict[str, str | int | None] = {
        "session": claim.session,
        "epoch": epoch,
        "attach": claim.attach,
        "gateway": claim.gateway,
        "owner": claim.owner,
        "key": claim.key,
        "facts": msgspec.json.encode(claim.facts).decode(),
        "models": " ".join(claim.facts.models),
        "language": claim.facts.language,
        "avoid": " ".join(avoid),
        "lease": LEASE_MS,
        "lost": LOST_MS,
        "ttl": KEPT_S,
    }
    word, *told = await run(ALLOCATE, redis, **values)
    if word == "FULL":
        raise LiveFull(retry_after=2)
    if word == "NONE":
        raise NoWorker()
    if word != "OK":
        raise Stale
    worker, address, secret, model, models = told
    known = msgspec.json.decode(models, type=dict[str, list[str]])
    return Place(worker, address, secret, model, known.get(model, ["*"]), epoch)


async def hold(redis: Client, gateway: str, sessions: Iterable[tuple[str, int, float]]) -> dict[str, str]:
    """Keep seats, told as (session, epoch, audio); answers those it does not hold with MOVED or LOST."""
    told = " ".join(f"{session},{epoch},{audio!r}" for session, epoch, audio in sessions)
    others = await run(HOLD, redis, gateway=gateway, sessions=told, lease=LEASE_MS, ttl=KEPT_S)
    return dict(one.split(",") for one in others)


async def append(redis: Client, session: str, epoch: int, final: FinalTranscript, audio: float) -> None:
    """Log a final; raises Stale, or Unknown where Redis has lost the attachment."""
    word = await run(
        APPEND,
        redis,
        session=session,
        epoch=epoch,
        seq=final.seq,
        audio=repr(audio),
        final=msgspec.json.encode(final).decode(),
        ttl=KEPT_S,
    )
    if word != "OK":
        raise Unknown if word == "NONE" else Stale


async def describe(redis: Client, claim: Claim) -> None:
    """Keep the claim's facts, unless somebody else has the session now."""
    facts = msgspec.json.encode(claim.facts).decode()
    await run(DESCRIBE, redis, session=claim.session, attach=claim.attach, facts=facts)


async def leave(redis: Client, session: str, epoch: int, state: str, cause: str = "ended") -> str:
    """Give the seat back; `cause`: of an end, what it counts as. Answers OK, NONE or STALE."""
    keep = ENDED_S if state == "ended" else KEPT_S
    word = await run(LEAVE, redis, session=session, epoch=epoch, state=state, cause=cause, keep=keep)
    return str(word)


async def read(redis: Client, session: str) -> Stored | None:
    """A session, or None."""
    found: dict[str, str] = await redis.hgetall(keys.SESSION(session=session))
    if not found:
        return None
    return Stored(
        id=session,
        state=found["state"],
        owner=found["owner"],
        epoch=int(found["epoch"]),
        model=found["model"],
        facts=msgspec.json.decode(found["facts"], type=Facts),
        created_at=int(found["created_at"]) / 1000,
        held_at=int(found["held_at"]) / 1000,
        audio=float(found.get("audio", 0)),
        seq=int(found.get("seq", 0)),
        cause=found.get("cause", ""),
    )


async def finals(redis: Client, session: str, after: int = 0) -> list[FinalTranscript]:
    """The logged finals with a later `seq`."""
    entries = await redis.xrange(keys.SESSION_LOG(session=session), f"({after}")
    return [msgspec.json.decode(fields["final"], type=FinalTranscript) for _, fields in entries]


async def forget(redis: Client, session: str) -> None:
    """Drop the keys of a session that has ended."""
    await redis.unlink(keys.SESSION(session=session), keys.SESSION_LOG(session=session))


async def strike(redis: Client, session: str) -> None:
    """Strike a session off the list whose keys are gone."""
    await redis.zrem(keys.SESSIONS(), session)


async def left_alone(redis: Client, seconds: float) -> list[str]:
    """Sessions that have not ended and that no gateway has held for so long."""
    now, _ = await redis.time()
    found: list[str] = await redis.zrangebyscore(keys.SESSIONS(), "-inf", (now - seconds) * 1000)
    return found


async def workers(redis: Client) -> list[Worker]:
    """All workers heard from in the last ten seconds, by id."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zrange(keys.WORKERS(), 0, -1)
        (seconds, micros), ids = await pipe.execute()
    async with redis.pipeline(transaction=False) as pipe:
        for id in ids:
            pipe.hgetall(keys.WORKER(worker=id))
            pipe.zcard(keys.SEATS(worker=id))
        answers = await pipe.execute()
    now = seconds + micros / 1e6
    pairs = zip(ids, answers[::2], answers[1::2], strict=True)
    return sorted(
        (_worker(id, told, seats, now) for id, told, seats in pairs if told), key=lambda one: one.id
    )


def _worker(id: str, told: dict[str, str], seats: int, now: float) -> Worker:
    beat = int(told.get("beat", 0))
    return Worker(
        id=id,
        engine=told.get("engine", ""),
        state=told.get("state", ""),
        address=told.get("address", ""),
        models=msgspec.json.decode(told.get("models", "{}"), type=dict[str, list[str]]),
        capacity=int(told.get("capacity", 0)),
        sessions=int(told.get("sessions", 0)),
        seats=seats,
        load=Raw(told.get("load", "{}").encode()),
        beat=beat,
        age=round(max(now - beat / 1000, 0), 1),
    )


async def beats(redis: Client, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """State and heartbeat of workers."""
    async with redis.pipeline(transaction=False) as pipe:
        for id in ids:
            pipe.hmget(keys.WORKER(worker=id), "state", "beat")
        answers: list[Any] = await pipe.execute()
    return {id: (state or "", beat or "") for id, (state, beat) in zip(ids, answers, strict=True)}


async def totals(redis: Client) -> dict[str, int]:
    """Counters of all live sessions."""
    found = await redis.hgetall(keys.REALTIME())
    return {name: int(found.get(name, 0)) for name in COUNTERS}


COUNTERS = ("sessions", "finals", "moves", "refused", "ended", "failed", "vanished")
"""Sessions begun, finals logged, attachments after the first, sessions refused, and how sessions ended."""
