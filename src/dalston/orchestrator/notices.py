"""Telling webhooks: takes what is due, signs it, sends it, and tries again for hours."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import random
import time
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec
from dalston_engine.types import Transcript

from dalston.errors import NotFound, SourceRefused, SourceUnreachable
from dalston.request import TranscribeRequest
from dalston.store.client import Client
from dalston.store.deliveries import DIRECT, Delivery, change, count, done, due, queue, recorded
from dalston.store.files import Files, JobFile
from dalston.store.webhooks import Webhook, Webhooks

if TYPE_CHECKING:
    from dalston.dialects.base import Notice
    from dalston.outside import Outside

log = logging.getLogger("dalston.webhooks")

REST_S, TIMEOUT_S = 0.5, 10.0
AT_ONCE, AT_ONE = 32, 4
"""Attempts under way, in all and for one host: a slow receiver delays its own deliveries."""
BUSY_S = 2.0, 6.0
"""How long a delivery waits at least and at most when its host is busy, so that others' come first."""
AGAIN = {408, 425, 429}


class Target(NamedTuple):
    """Where a delivery goes."""

    url: str
    secret: str
    headers: dict[str, str]
    webhook: Webhook | None


class Sent(NamedTuple):
    """What came of one attempt."""

    status: int | None
    """What was answered; None when nothing was."""
    error: str | None
    """Why nothing was."""
    after: float = 0.0
    """For how many seconds the receiver asks to be left alone."""
    refused: bool = False
    """True: this address is never called, so there is no use in trying again."""


class Notices:
    """One orchestrator's deliveries."""

    def __init__(
        self, redis: Client, files: Files, webhooks: Webhooks, allowed: str, pauses: list[int]
    ) -> None:
        self.redis, self.files, self.webhooks = redis, files, webhooks
        self.allowed, self.pauses = allowed, pauses
        self._under_way: set[asyncio.Task[None]] = set()
        self._busy = Counter[str]()
        """Attempts under way by where they go."""

    @cached_property
    def outside(self) -> Outside:
        """The client for calls; made when there is one to make, for what it needs takes a while to load."""
        from dalston.outside import Outside

        return Outside(self.allowed)

    async def deliver(self) -> float:
        """Begin the deliveries that are due, as many as there is room for; seconds to rest."""
        room = AT_ONCE - len(self._under_way)
        taken = await due(self.redis, room) if room else []
        for id in taken:
            task = asyncio.create_task(self._one(id))
            self._under_way.add(task)
            task.add_done_callback(self._ended)
        return 0 if room and len(taken) == room else REST_S

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What failed otherwise than by its receiver is taken up again after its lease."""
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery could not be made, trying again in a while: %s", type(error).__name__)

    async def _one(self, id: str) -> None:
        job, _, name = id.partition(":")
        file = await asyncio.to_thread(self.files.read, job)
        if file is None or file.outcome is None or file.notify is None:
            return await done(self.redis, id)
        if not name:
            return await self._spread(file)
        known = await asyncio.to_thread(recorded, self.files, job) or {}
        delivery, target = known.get(name), await asyncio.to_thread(self._target, file, name)
        if delivery is None or delivery.state != "pending" or delivery.run < file.run:
            dead = delivery.at if delivery is not None and delivery.state == "dead" else None
            return await done(self.redis, id, dead)
        if target is None:
            delivery.state = "dropped"
            return await done(self.redis, id) if await self._noted(delivery) else None
        host = urlsplit(target.url).netloc
        if self._busy[host] >= AT_ONE:
            return await queue(self.redis, [id], random.uniform(*BUSY_S), again=True)
        self._busy[host] += 1
        try:
            await self._attempt(file, delivery, target)
        finally:
            self._busy[host] -= 1
            self._busy += Counter()  # forget those with none

    async def _spread(self, file: JobFile) -> None:
        """Find out whom a job tells, and have each told."""
        assert file.notify is not None
        if file.notify.url is not None:
            names = [DIRECT]
        elif file.notify.webhook is not None:
            names = [file.notify.webhook]
        else:
            everyone = await asyncio.to_thread(self.webhooks.all, file.owner)
            names = [one.id for one in everyone if one.told]
        fresh = {name: Delivery(file.id, name, file.run) for name in names}

        def spread(known: dict[str, Delivery]) -> dict[str, Delivery]:
            new = not known or any(one.run < file.run for one in known.values())
            return fresh if new else known

        known = await asyncio.to_thread(change, self.files, file.id, spread)
        await queue(self.redis, [one.id for one in known.values() if not one.attempts], again=True)
        await queue(self.redis, [one.id for one in known.values() if one.attempts])
        await done(self.redis, file.id)

    async def _attempt(self, file: JobFile, delivery: Delivery, target: Target) -> None:
        delivery.attempts, delivery.at = delivery.attempts + 1, time.time()
        try:
            sent = await self._sent(file, delivery, target)
        except OSError:  # of this machine's: taken up again when it may be over
            raise
        except Exception as error:
            log.error("job %s: a delivery could not be made: %s", file.id, type(error).__name__)
            sent = Sent(None, f"The server could not make it: {type(error).__name__}.")
        delivery.status, delivery.error, later, refused = sent
        good = delivery.status is not None and 200 <= delivery.status < 300
        if target.webhook is not None:
            with contextlib.suppress(NotFound):  # deleted meanwhile
                await asyncio.to_thread(self.webhooks.change, file.owner, delivery.webhook,
                                        lambda known: known.noted(good, delivery.status))  # fmt: skip
        if good:
            delivery.state = "delivered"
        elif refused or not self._again(delivery, target):
            delivery.state = "dead"
            log.warning(
                "job %s: %s is given up after %d attempts", file.id, delivery.webhook, delivery.attempts
            )
        if not await self._noted(delivery):
            return
        await count(self.redis, "delivered" if good else "failed")
        if delivery.state == "pending":
            pause = max(self.pauses[delivery.attempts - 1] * random.uniform(0.9, 1.1), later)
            await queue(self.redis, [delivery.id], pause, again=True)
        else:
            await done(self.redis, delivery.id, delivery.at if delivery.state == "dead" else None)

    def _again(self, delivery: Delivery, target: Target) -> bool:
        if delivery.attempts > len(self.pauses) or (target.webhook and not target.webhook.retry):
            return False
        return delivery.status is None or delivery.status >= 500 or delivery.status in AGAIN

    async def _sent(self, file: JobFile, delivery: Delivery, target: Target) -> Sent:
        """One attempt."""
        notice = await asyncio.to_thread(self._notice, file)
        stamp = str(int(time.time()))
        signed = hmac.new(
            target.secret.encode(), f"{stamp}.".encode() + notice.body, hashlib.sha256
        ).hexdigest()
        headers = target.headers | {
            "Content-Type": "application/json",
            notice.signature: f"t={stamp},v0={signed}",
            "Dalston-Delivery": delivery.id,
        }
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self.outside.call("POST", target.url, headers, notice.body, seconds=TIMEOUT_S) as reply,
            ):
                after = reply.headers.get("retry-after", "")
                return Sent(reply.status, None, min(float(after), 3600.0) if after.isdecimal() else 0.0)
        except (SourceRefused, SourceUnreachable) as error:
            return Sent(None, error.message, refused=isinstance(error, SourceRefused))
        except TimeoutError:
            return Sent(None, f"There was no answer within {TIMEOUT_S:g} s.")

    def _notice(self, file: JobFile) -> Notice:
        from dalston.dialects import DIALECTS  # what only deliveries need is loaded with the first one
        from dalston.dialects.base import Ended
        from dalston.orchestrator.native_notice import notice as native

        assert file.outcome is not None
        assert file.notify is not None
        content = self.files.transcript(file.id) if file.outcome.state == "completed" else None
        transcript = None if content is None else msgspec.json.decode(content, type=Transcript)
        asked = msgspec.json.decode(file.request, type=TranscribeRequest).answer
        outcome = file.outcome
        ended = Ended(
            file.id,
            outcome.state,
            outcome.finished_at,
            transcript,
            outcome.error,
            asked,
            file.notify.metadata,
        )
        dialect = DIALECTS.get(file.notify.dialect)
        return dialect.notice(ended) if dialect is not None and dialect.notice else native(ended)

    def _target(self, file: JobFile, name: str) -> Target | None:
        """Where a delivery goes now; None when the webhook is gone or disabled."""
        if name == DIRECT and file.notify is not None and file.notify.url is not None:
            return Target(file.notify.url, self.webhooks.secret(file.owner), {}, None)
        found = next((one for one in self.webhooks.all(file.owner) if one.id == name), None)
        return Target(found.url, found.secret, found.headers, found) if found and found.told else None

    async def _noted(self, delivery: Delivery) -> bool:
        """Write down what became of a delivery, unless its job has been tried again meanwhile."""

        def note(known: dict[str, Delivery]) -> dict[str, Delivery]:
            now = known.get(delivery.webhook)
            return known if now is None or now.run > delivery.run else known | {delivery.webhook: delivery}

        known = await asyncio.to_thread(change, self.files, delivery.job, note)
        return known.get(delivery.webhook) == delivery
