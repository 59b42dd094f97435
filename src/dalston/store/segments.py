"""Following a job: its segments as an engine says them, long before the job ends.

An engine that is followed leaves them in a stream of the job's own, which lives as long as the job is at
work. Nothing depends on it: the transcript is what counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator

import msgspec
from dalston_engine import keys
from dalston_engine.queue import AWAY
from dalston_engine.types import Segment
from msgspec import Struct

from dalston.store.jobs import AGAIN_S, REREAD_S, Jobs

log = logging.getLogger("dalston.segments")


async def follow(jobs: Jobs, job: str) -> AsyncGenerator[Segment]:
    """Every segment of a job whose request says `stream`, once and in order; ends when the job ends.

    Of a job that ended before, the last ones at most: read its transcript. Several channels come as they
    are said, each in its own order. Raises NotFound when there is no such job, or no more.
    """
    key, place, heard = keys.SEGMENTS(job=job), "-", defaultdict[str, Heard](Heard)
    async with jobs.events.of(job, key) as news:
        ended = False
        while not ended:
            news.clear()
            rest = REREAD_S
            try:
                ended = (await jobs.get(job)).ended  # before reading, so that the last ones are read
                for entry, fields in await jobs.redis.xrange(key, place):
                    place = f"({entry}"
                    for segment in heard[fields["task"]].news(fields):
                        yield segment
            except AWAY:
                log.warning("redis cannot be reached; still trying to follow job %s", job)
                ended, rest = False, AGAIN_S
            if not ended:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), rest)


class Heard(Struct):
    """How much of one task's audio whoever follows has been told of."""

    token: str = ""
    """The attempt that told it."""
    count: int = 0
    """Of its segments."""
    end: float = 0.0
    """Seconds of audio."""

    def news(self, fields: dict[str, str]) -> Iterator[Segment]:
        """What is new in an entry of the stream; of another attempt, what lies beyond the audio heard."""
        segments = msgspec.json.decode(fields["segments"], type=list[Segment])
        for n, segment in enumerate(segments, int(fields["n"])):
            same = fields["token"] == self.token
            new = n >= self.count if same else not self.token or segment.start + segment.end > 2 * self.end
            if new:
                self.token, self.count, self.end = fields["token"], n + 1, max(self.end, segment.end)
                yield segment
