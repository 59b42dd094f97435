"""Live sessions that nobody looks after any more: their gateway is gone and nobody has taken them up."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec
from msgspec import Struct

from dalston.live import LiveRequest
from dalston.store import live as store
from dalston.store.client import Client
from dalston.store.keeping import Keeping, transcript

log = logging.getLogger("dalston.orchestrator")

SPARE_S = 10.0
"""How long after the grace time of its client a session counts as left."""
LOOK_S = 2.0
EXPIRY_S = 60.0


class Leftovers(Struct):
    """Ends what is left of live sessions, and deletes those whose retention has ended."""

    redis: Client
    keeping: Keeping
    grace_s: float
    retention_s: int | None
    _due: float = 0.0

    async def look_after(self) -> float:
        """Do what is due; seconds to rest. Raises OSError where the disk did not take all."""
        full: OSError | None = None
        for session in await store.left_alone(self.redis, self.grace_s + SPARE_S):
            try:
                await self._end(session)
            except OSError as error:
                full = error
            except (msgspec.MsgspecError, KeyError) as error:
                log.error("session %s cannot be read and is left as it is: %s", session, type(error).__name__)
                await store.strike(self.redis, session)
        if self.retention_s is not None and time.monotonic() >= self._due:
            self._due = time.monotonic() + EXPIRY_S
            for session in await asyncio.to_thread(self.keeping.expired, self.retention_s):
                await asyncio.to_thread(self.keeping.remove, session)
                await store.forget(self.redis, session)
        if full is not None:
            raise full
        return LOOK_S

    async def _end(self, session: str) -> None:
        """Write what was said, then end it; who takes it up meanwhile has it, and writes it anew."""
        found = await store.read(self.redis, session)
        if found is None:
            await store.strike(self.redis, session)
            return
        asked = msgspec.json.decode(found.facts.request, type=LiveRequest)
        cause = found.cause or "vanished"
        if asked.keep:
            said = await store.finals(self.redis, session)
            facts = session, "ended", found.owner, found.created_at, found.model
            told = transcript(*facts, asked, said)
            told.cause, told.finished_at = cause, round(found.held_at, 3)
            await asyncio.to_thread(self.keeping.write, told)
        word = await store.leave(self.redis, session, found.epoch, "ended", cause)
        if word == "OK" and not asked.keep:
            await store.forget(self.redis, session)
        log.info("session %s was left by its gateway: %s", session, word)
