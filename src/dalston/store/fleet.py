"""The fleet: the engines alive now, as they describe themselves."""

from __future__ import annotations

import time

import msgspec
from dalston_engine import keys
from dalston_engine.types import Card
from msgspec import Struct

from dalston.store.client import Client

KEPT_S = 1.0
ALIVE_S = 60.0
"""An engine heard from this recently counts: a crashed one is about to be restarted."""


class Instance(Struct, omit_defaults=True):
    """One running engine."""

    id: str
    state: str
    seen_seconds_ago: float
    totals: dict[str, float]
    """Since it started: tasks by outcome, `seconds` of work, seconds of `audio` worked on."""

    @property
    def tasks(self) -> int:
        """Tasks it completed since it started."""
        return int(self.totals.get("completed", 0))


class Engine(Struct):
    """An engine's card and its instances."""

    card: Card
    instances: list[Instance]


async def fleet(redis: Client) -> list[Card]:
    """The cards of all engines alive, in the order of their ids."""
    ids = sorted({engine for engine, _, _ in await _seen(redis)})
    return await _cards(redis, ids)


class Fleet:
    """The cards of all engines alive, read at most once a second."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._cards: list[Card] = []
        self._read_at = float("-inf")

    async def cards(self, fresh: bool = False) -> list[Card]:
        """The cards as of a second ago at most, or as of now."""
        if fresh or time.monotonic() - self._read_at > KEPT_S:
            self._cards, self._read_at = await fleet(self._redis), time.monotonic()
        return self._cards


async def engines(redis: Client) -> list[Engine]:
    """All engines alive with their instances."""
    seen = await _seen(redis)
    async with redis.pipeline(transaction=False) as pipe:
        for engine, instance, _ in seen:
            pipe.hmget(keys.INSTANCE(engine=engine, instance=instance), ["state", "totals"])
        states = await pipe.execute()
    running: dict[str, list[Instance]] = {}
    for (engine, instance, age), (state, totals) in zip(seen, states, strict=True):
        if state:
            running.setdefault(engine, []).append(
                Instance(instance, state, age, msgspec.json.decode(totals or b"{}"))
            )
    cards = await _cards(redis, sorted({engine for engine, _, _ in seen}))
    return [Engine(card, running.get(card.id, [])) for card in cards]


async def _seen(redis: Client) -> list[tuple[str, str, float]]:
    """(engine, instance, seconds since its heartbeat) of all heard from lately."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zrange(keys.ENGINES(), 0, -1, withscores=True)
        (seconds, micros), members = await pipe.execute()
    now = seconds + micros / 1e6
    ages = [(*member.split("/", 1), round(now - score / 1000, 1)) for member, score in members]
    return [(engine, instance, age) for engine, instance, age in ages if age < ALIVE_S]


async def _cards(redis: Client, ids: list[str]) -> list[Card]:
    async with redis.pipeline(transaction=False) as pipe:
        for engine in ids:
            pipe.hget(keys.ENGINE(engine=engine), "card")
        cards = await pipe.execute()
    return [msgspec.json.decode(card, type=Card) for card in cards if card]
