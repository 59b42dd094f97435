"""The live sessions of one gateway: begun, taken up again, held, and left when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec
from dalston_engine.queue import AWAY

from dalston.errors import BadRequest, Conflict, LiveFull, NotFound, NoWorker, SessionIdle
from dalston.live import LiveRequest, SessionEnded, SessionStarted
from dalston.realtime.minutes import Minutes
from dalston.realtime.outbox import Outbox
from dalston.realtime.router import LOOK_S, Watch, begins, models_of, why_none
from dalston.realtime.session import LiveSession
from dalston.realtime.tape import Tape
from dalston.settings import Settings
from dalston.store import live as store
from dalston.store.client import Client, end_if_cancelled
from dalston.store.files import is_id
from dalston.store.jobs import new_id
from dalston.store.keeping import Keeping

log = logging.getLogger("dalston.realtime")

HOLD_S = 1.0
TRIES = 5
BEGINNING_S = 20.0
"""How long a session waits for a worker that has just been started."""
CLOSE_S = 3.0
"""How long sessions whose clients cannot come back have to end when the gateway does."""


class Sessions:
    """All sessions whose clients are, or were last, connected to this process."""

    def __init__(self, redis: Client, settings: Settings) -> None:
        self.redis, self.settings = redis, settings
        self.keeping, self.gateway = Keeping(settings.folder), secrets.token_hex(8)
        self._sessions: dict[str, LiveSession] = {}
        self._watch, self._closed = Watch(redis), False
        self._chores: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    async def begin(
        self, request: LiveRequest, owner: str, key: str = "", id: str = ""
    ) -> tuple[LiveSession, Outbox]:
        """A new session and what it tells; `key`: the access key that it counts against.

        Raises LiveFull, NoWorker, NotFound, BadRequest and what `AWAY` holds.
        """
        self._refuse_late()
        if request.record and not request.keep:
            raise BadRequest("A session of which nothing stays cannot be recorded.", code="invalid_option")
        language = request.options.language
        session = self._session(id or new_id(), owner, request, time.time(), key)
        end = time.monotonic() + BEGINNING_S
        while True:
            try:
                await session.start()
                break
            except NoWorker:
                if time.monotonic() > end or not await begins(self.redis, session.claim.facts.models):
                    raise await why_none(self.redis, self.settings, request.model, language) from None
            await asyncio.sleep(LOOK_S)
        await self._refuse_begun(session)
        session.go()
        self._add(session)
        return session, session.join()

    async def resume(self, id: str, after: int, sees: str | None) -> tuple[LiveSession | None, Outbox]:
        """A session taken up again and what it tells, from the event after this `seq` on.

        None for one that has ended: what was missed is still told. Raises NotFound, Conflict, LiveFull.
        """
        self._refuse_late()
        here = self._sessions.get(id)
        if here is not None and sees in (None, here.claim.owner):
            self._refuse_others(here.request)
            return here, here.join(after)
        stored = await store.read(self.redis, id) if is_id(id) else None
        if stored is None or sees not in (None, stored.owner):
            raise NotFound(f"There is no live session {id[:40]!r} that can be taken up again.")
        request = msgspec.json.decode(stored.facts.request, type=LiveRequest)
        self._refuse_others(request)
        if stored.state == "ended":
            return None, await self._missed(stored, after)
        session = await self._taken_up(stored, request, after)
        await self._refuse_begun(session)
        session.go()
        self._add(session)
        return session, session.join(after)

    async def run(self) -> None:
        """Hold the sessions and look after their workers, until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._regularly(HOLD_S, self._hold))
            loops.create_task(self._regularly(LOOK_S, self._look))

    async def close(self) -> None:
        """Leave all sessions: those that can be taken up again to others, the rest ends now."""
        self._closed = True
        sessions = list(self._sessions.values())
        for session in sessions:
            if session.outbox is not None:
                session.outbox.shut("restart")
            if not session.request.resumable:
                session.end()
        ending = [asyncio.create_task(one.wait()) for one in sessions if not one.request.resumable]
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_S)
        await asyncio.gather(*(session.detach() for session in sessions))
        for chore in (*self._chores, *ending):
            chore.cancel()

    async def _taken_up(self, stored: store.Stored, request: LiveRequest, after: int) -> LiveSession:
        """A session of another gateway, attached anew; raises LiveFull, NoWorker, Conflict."""
        for _ in range(TRIES):
            session = self._session(stored.id, stored.owner, request, stored.created_at)
            session.epoch, session.seq = stored.epoch, max(stored.seq, after)
            session.done = session.settled = session.acked = stored.audio
            session.tape = Tape(request, stored.audio)
            with contextlib.suppress(store.Stale):
                await session.start()
            now = await store.read(self.redis, stored.id)
            if now is None or now.state == "ended":
                break
            if (now.epoch, now.seq) == (session.epoch, stored.seq):
                for final in await store.finals(self.redis, stored.id):
                    session.minutes.add(final)
                return session
            await session.detach()  # it went on elsewhere until a moment ago, or somebody else was first
            stored = now
        raise Conflict("The session has ended, or is being taken up by another connection.")

    def _session(
        self, id: str, owner: str, request: LiveRequest, created: float, key: str = ""
    ) -> LiveSession:
        models = models_of(self.settings, request.model)
        facts = store.Facts.of(models, request)
        claim = store.Claim(id, self.gateway, secrets.token_hex(8), owner, facts, key)
        minutes = Minutes(self.keeping, id, owner, request, round(created, 3), self.settings.max_upload_bytes)
        return LiveSession(self.redis, claim, request, minutes, self.settings.live_grace_s)

    def _add(self, session: LiveSession) -> None:
        self._sessions[session.id] = session

        async def removed() -> None:
            await session.wait()
            if self._sessions.get(session.id) is session:
                del self._sessions[session.id]

        chore = asyncio.create_task(removed())
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _missed(self, stored: store.Stored, after: int) -> Outbox:
        told = Outbox()
        told.put(SessionStarted(after, stored.id, stored.model, stored.audio, resumed=True))
        for final in await store.finals(self.redis, stored.id, after):
            told.put(final, missed=True)
        told.put(SessionEnded(max(stored.seq, after) + 1, stored.id, stored.audio))
        return told

    def _refuse_late(self) -> None:
        if self._closed:
            raise LiveFull("This gateway is about to end; connect again.", retry_after=1)

    async def _refuse_begun(self, session: LiveSession) -> None:
        """Leave a session to others that was attached while this gateway began to end."""
        if self._closed:
            await session.detach()
            self._refuse_late()

    def _refuse_others(self, request: LiveRequest) -> None:
        if not request.resumable:
            raise Conflict("This session cannot be taken up again.")

    async def _hold(self) -> None:
        holding = {one.id: one for one in self._sessions.values() if not one.over}
        idle = self.settings.live_idle_s
        for session in holding.values():
            if time.monotonic() - session.news > idle:
                session.dismiss(SessionIdle(f"Nothing was sent for {idle} s, so the session has ended."))
        if not holding:
            return
        facts = [(one.id, one.epoch, one.settled) for one in holding.values()]
        others = await store.hold(self.redis, self.gateway, facts)
        for id, epoch, settled in facts:
            session = holding[id]
            if session.epoch != epoch or session.over or session.changing:
                continue  # what was told of it is of the past
            if others.get(id) == "MOVED":
                log.warning("session %s is somebody else's now", id)
                session.superseded()
            elif id in others:
                session.unknown()
            else:
                session.held(settled)

    async def _look(self) -> None:
        links = [(one, one.link) for one in self._sessions.values() if one.link is not None]
        lost = await self._watch.lost(sorted({link.place.worker for _, link in links}))
        for session, link in links:
            if link.place.worker in lost and session.link is link:
                session.lost()
        for session, _ in links:
            if session.outbox is not None and session.outbox.stalled:
                session.outbox.shut("stalled")

    async def _regularly(self, seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await chore()
            except AWAY:
                log.warning("redis cannot be reached or takes no writes; live sessions wait")
            end_if_cancelled()
            await asyncio.sleep(seconds)
