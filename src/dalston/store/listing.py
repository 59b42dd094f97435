"""Jobs page by page, newest first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Self

from dalston_engine import keys
from msgspec import Struct

from dalston.errors import BadRequest
from dalston.store.client import Client
from dalston.store.jobs import ENDED, Job, Jobs

BATCH = 500
SCANNED = 5000
"""How many jobs one page looks at; a filter that fits few ends a page early, with the way on."""


class Place(NamedTuple):
    """A job's place in the list: when it was created, in milliseconds, and its id."""

    created: float
    job: str

    @classmethod
    def read(cls, text: str) -> Self:
        """A place as `str` gives it; raises BadRequest."""
        created, _, job = text.partition("-")
        if not (created.isdecimal() and len(created) < 16 and job):
            raise BadRequest("`after` takes what `next` of the page before says.", code="invalid_option")
        return cls(float(created), job)

    def __str__(self) -> str:
        return f"{self.created:.0f}-{self.job}"


class Wanted(Struct, frozen=True):
    """Which jobs are wanted."""

    limit: int
    after: Place | None = None
    states: frozenset[str] = frozenset()
    """Empty: all."""
    since: float = float("-inf")
    """Created at or after, in milliseconds since 1970."""
    until: float = float("inf")
    """Created at or before."""


class Page(Struct):
    """Some jobs, and where the next page begins."""

    jobs: list[Job]
    next: Place | None = None


async def page(jobs: Jobs, wanted: Wanted) -> Page:
    """The next jobs that are wanted."""
    found: list[tuple[Place, Job]] = []
    scanned = 0
    async for places in _places(jobs.redis, wanted):
        seen = {job.id: job for job in await jobs.several([place.job for place in places])}
        for place in places:
            scanned += 1
            job = seen.get(place.job)
            if job is not None and (not wanted.states or job.state in wanted.states):
                found.append((place, job))
            if len(found) > wanted.limit:
                kept = found[: wanted.limit]
                return Page([job for _, job in kept], kept[-1][0])
            if scanned == SCANNED:
                return Page([job for _, job in found], place)
    return Page([job for _, job in found])


async def _places(redis: Client, wanted: Wanted) -> AsyncIterator[list[Place]]:
    key = keys.JOBS() if not wanted.states or wanted.states & ENDED else keys.ACTIVE()
    after = wanted.after or Place(wanted.until, "~")
    size, skipped = min(BATCH, max(wanted.limit + 1, 100)), 0
    while True:
        first = min(after.created, wanted.until)
        entries = await redis.zrevrangebyscore(
            key, first, wanted.since, start=skipped, num=size, withscores=True
        )
        places = [Place(created, job) for job, created in entries]
        left = [place for place in places if place < after]
        if left:
            yield left
            after, skipped = left[-1], 0
        elif len(entries) < size:
            return
        else:  # as many jobs of one millisecond as a page has
            skipped += size
        size = BATCH if left else size
