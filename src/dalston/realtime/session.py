"""One live session: what its client sends goes to a worker, what the worker says to the client.

Whoever hears it may be lost at any moment: then the next attachment begins elsewhere, from the last final on.
Finals are logged before they are told, in order, and nothing overtakes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from dalston_engine.errors import DalstonError
from dalston_engine.live import protocol
from dalston_engine.live.protocol import encode
from dalston_engine.queue import AWAY
from msgspec.structs import replace

from dalston.errors import BadField, LiveFull, NoWorker
from dalston.live import (
    Ack,
    FinalTranscript,
    Flushed,
    Lag,
    LiveRequest,
    PartialTranscript,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Trouble,
)
from dalston.realtime.link import Link, Lost, Refused
from dalston.realtime.minutes import Minutes
from dalston.realtime.outbox import Outbox
from dalston.realtime.tape import Command, Tape
from dalston.realtime.turns import Turns
from dalston.store import live as store
from dalston.store.client import Client, patiently, rest

log = logging.getLogger("dalston.realtime")

AHEAD_BYTES = 2**20
"""How much a client may be ahead of what was sent to a worker."""
WAIT_S = 10.0
"""How long a session waits for a worker."""
FIRST_S = 3.0
"""How long a new one does, if the worker that it was given does not answer."""
LOSSES = 4
"""So many workers may be lost in a row before a single final; then it is the session's own fault."""
COALESCED_S, SHORT_S, SHORT_BYTES = 0.01, 0.02, 512
"""Messages with less audio than this wait so long for more; bytes: of a container."""
PREVIOUS = 200


class LiveSession:
    """A session of this gateway."""

    def __init__(
        self, redis: Client, claim: store.Claim, request: LiveRequest, minutes: Minutes, grace: float
    ) -> None:
        self.redis, self.claim, self.request, self.minutes, self.grace = redis, claim, request, minutes, grace
        self.id, self.tape = claim.session, Tape(request)
        self.epoch, self.seq, self.done, self.settled, self.acked = 0, 0, 0.0, 0.0, 0.0
        """`done`: seconds up to which all is said and logged; `settled`: or dealt with."""
        self.over, self.ending, self.changing, self.cause = False, False, False, "ended"
        """`changing`: what Redis knows of it may be ahead of this."""
        self.model, self._languages, self.news = "", ["*"], time.monotonic()
        """`news`: when its client last sent something."""
        self.outbox: Outbox | None = None
        self.link: Link | None = None
        self._reports: deque[Any] = deque()
        self._news, self._work, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._sent = self._losses = 0
        self._turns, self._unknown = Turns(), False
        self._tasks: list[asyncio.Task[None]] = []
        self._running: asyncio.Task[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._farewell: DalstonError | None = None

    # What its client does.

    async def start(self) -> None:
        """Attach it for the first time; raises LiveFull, NoWorker and what else keeps it from beginning."""
        await self._attach(FIRST_S, fresh=self.epoch == 0)

    def go(self) -> None:
        """Hear what the worker says."""
        self._running = asyncio.create_task(self._conduct())

    def join(self, after: int | None = None) -> Outbox:
        """Tell a client all that happens from now on; `after`: it comes back, and has seen as much."""
        self._stay()
        self.news = time.monotonic()
        if self.outbox is not None:
            self.outbox.shut("taken")
        self.outbox = told = Outbox()
        if after is not None and not self.tape.rate:
            self._rewind()
        audio = self.tape.seconds(self.tape.end)
        self.seq = max(self.seq, after or 0)
        seq = self._next() if after is None else after  # what was missed comes next, with its own numbers
        told.put(SessionStarted(seq, self.id, self.model, audio, resumed=after is not None))
        for final in self.minutes.finals:
            if after is not None and final.seq > after:
                told.put(final, missed=True)
        return told

    def part(self, outbox: Outbox) -> None:
        """This client is gone."""
        if self.outbox is not outbox or self.over:
            return
        self.outbox = None
        if self.ending:
            return
        if self.request.resumable:
            self._leaving = asyncio.get_running_loop().call_later(self.grace, self._vanish)
        else:
            self._vanish()

    async def audio(self, content: bytes) -> None:
        """More audio; waits while too much is waiting already."""
        self.news, outbox = time.monotonic(), self.outbox
        while not (self.over or self.ending) and self._crowded:
            self._room.clear()
            await self._room.wait()
        if self.over or self.ending or self.outbox is not outbox:  # another client sends it again
            return
        place = self.tape.end
        self.tape.add(content)
        self._work.set()
        if not await self.minutes.record(content, place):
            told = "The recording ends here: it is as long as it may be, or the disk does not take more."
            self._tell(Trouble(self._next(), "recording_ended", told, fatal=False))

    def ask(self, command: Command) -> None:
        """Flush or forget, once all audio so far has been heard."""
        self.news = time.monotonic()
        if not self.ending:
            self.tape.ask(command)
            self._work.set()

    async def configure(self, options: protocol.Options) -> None:
        """Other options, once all audio so far has been heard; raises BadField for a language it lacks."""
        if options.language is not None and not {"*", options.language} & {*self._languages}:
            told = f"The model {self.model} does not know the language {options.language[:20]!r}."
            raise BadField("language", told, code="unsupported_language")
        self.ask(protocol.Configure(options))
        self.request = replace(self.request, options=options)
        self.claim.facts = store.Facts.of(self.claim.facts.models, self.request)
        await patiently(lambda: store.describe(self.redis, self.claim))

    def end(self) -> None:
        """No more audio comes."""
        if not self.ending:
            self.tape.ask(protocol.End())
            self.ending = True
            self._stir()

    # What its registry does.

    def dismiss(self, error: DalstonError) -> None:
        """End it; its client is told why after its last words."""
        if not self.ending:
            self._farewell = error
            self.end()

    def lost(self) -> None:
        """Its worker is lost."""
        if self.link is not None:
            self.link.drop()

    def unknown(self) -> None:
        """Redis has lost it."""
        self._unknown = True
        self.lost()

    def superseded(self) -> None:
        """Somebody else has it now."""
        self.over = True
        if self.outbox is not None:
            self.outbox.shut("taken")
        if self._running is not None:
            self._running.cancel()
        self._stir()

    def held(self, seconds: float) -> None:
        """Redis knows that all before is dealt with."""
        if seconds > self.acked:
            self._acknowledge(seconds)

    async def wait(self) -> None:
        """Wait until it is over."""
        if self._running is None:
            return
        await asyncio.wait([self._running])
        if not self._running.cancelled() and (error := self._running.exception()) is not None:
            log.error("session %s is broken, left to upkeep", self.id, exc_info=error)
            self.over = True
            if self.outbox is not None:
                self.outbox.shut("broken")

    async def detach(self) -> None:
        """Leave it to whoever takes it up: another gateway, or upkeep."""
        self._stay()
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._unlink()
        if not self.over:
            self.over = True
            await self.minutes.close()
            with contextlib.suppress(*AWAY):
                await store.leave(self.redis, self.id, self.epoch, "detached", "")
        if self.outbox is not None:
            self.outbox.shut("restart")
        self._stir()

    # Attachments.

    async def _attach(self, patience: float, fresh: bool = False, avoid: Iterable[str] = ()) -> None:
        """Begin the next attachment; raises what kept it from beginning until then, or Stale."""
        self.changing = True
        try:
            await self._try(time.monotonic() + patience, patience, fresh, set(avoid))
        finally:
            self.changing = False

    async def _try(self, end: float, patience: float, fresh: bool, avoid: set[str]) -> None:
        while True:
            try:
                place = await store.allocate(self.redis, self.claim, self.epoch + 1, avoid)
                self.epoch, avoid = place.epoch, avoid | {place.worker}
                await self._open(place)
                return
            except Refused as error:
                if not error.failed.retryable:
                    told = error.failed
                    raise DalstonError(told.message, code=told.code, status=told.status) from None
            except Lost as error:
                log.info("session %s: worker %s does not answer: %s", self.id, place.worker, error)
            except (LiveFull, NoWorker):
                if time.monotonic() > end or (fresh and not avoid):
                    raise
                avoid = set()
                await rest()
            except AWAY:
                if fresh:
                    raise
                end = time.monotonic() + patience
                await rest()

    async def _open(self, place: store.Place) -> None:
        tape, options = self.tape, self.tape.options
        if options.language is None and len(place.languages) == 1 and place.languages != ["*"]:
            options = replace(options, language=place.languages[0])
        asked = protocol.Open(
            self.id,
            place.epoch,
            place.model,
            self.request.encoding,
            tape.rate,
            tape.start,
            max(self.done, self.settled),
            self.minutes.text[-PREVIOUS:] or None,
            options,
        )
        link = await Link.open(place, asked)
        if tape is not self.tape:  # its client has begun its file anew meanwhile
            link.drop()
            raise Lost("another tape")
        self.link = link
        self.model, self._languages = place.model, place.languages
        self._reports.clear()
        self._sent = tape.first
        self._tasks = [asyncio.create_task(self._feed(link, tape)), asyncio.create_task(self._listen(link))]

    async def _unlink(self) -> None:
        link, self.link = self.link, None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []
        if link is not None:
            link.drop()

    async def _feed(self, link: Link, tape: Tape) -> None:
        """Send the tape, and go on as it grows."""
        place, asked = tape.first, 0
        short = int(SHORT_S * tape.rate) * tape.width or SHORT_BYTES
        with contextlib.suppress(Lost):
            while True:
                self._work.clear()
                for mark in list(tape.marks):
                    if mark.number > asked and mark.place <= place:
                        await link.send(encode(mark.command).decode())
                        asked = mark.number
                if 0 < tape.end - place < short and not self.ending:
                    await asyncio.sleep(COALESCED_S)
                place = max(place, tape.first)
                if piece := tape.piece(place):
                    await link.send(piece)
                    place += len(piece)
                    self._sent = place
                    tape.sent(place)
                    self._room.set()
                elif all(mark.number <= asked for mark in tape.marks):
                    await self._work.wait()

    async def _listen(self, link: Link) -> None:
        try:
            while True:
                report = await link.report()
                last = self._reports[-1] if self._reports else None
                if isinstance(report, protocol.Partial) and isinstance(last, protocol.Partial):
                    self._reports.pop()
                self._reports.append(report)
                self._news.set()
        except Lost as error:
            self._reports.append(error)
            self._news.set()

    # What a worker says, in its order.

    async def _conduct(self) -> None:
        try:
            while not self.over:
                while not self._reports:
                    self._news.clear()
                    await self._news.wait()
                await self._hear(self._reports.popleft())
        except store.Stale:
            self.over = True
            if self.outbox is not None:
                self.outbox.shut("taken")
        except DalstonError as error:
            await self._fail(error)
        finally:
            await self._unlink()
            self._stir()

    async def _hear(self, report: Any) -> None:
        match report:
            case protocol.Final():
                await self._final(report)
            case protocol.Ended():
                if self._farewell is not None:
                    self._trouble(self._farewell)
                await self._finish(report.audio)
            case protocol.Failed() if not report.retryable:
                raise DalstonError(report.message, code=report.code, status=report.status)
            case protocol.Failed() | Lost():
                await self._move(str(report) if isinstance(report, Lost) else report.code)
            case _:
                self._pass_on(report)

    def _pass_on(self, report: Any) -> None:
        match report:
            case protocol.Partial():
                text = report.stable + report.unstable
                self._tell(PartialTranscript(self._next(), report.start, report.end, text, report.stable))
            case protocol.SpeechStarted():
                if self._turns.started(report.at):
                    self._tell(SpeechStarted(self._next(), report.at))
            case protocol.SpeechEnded():
                if self._turns.ended(report.at):
                    self._tell(SpeechEnded(self._next(), report.at))
            case protocol.Settled():
                self._settle(report.audio)
                self.tape.cleared(report.audio)
            case protocol.Flushed():
                self.tape.flushed(report.id)
                self._settle(report.audio)
                self._tell(Flushed(self._next(), report.id, report.audio))
            case protocol.Lag():
                self._tell(Lag(self._next(), report.seconds))

    async def _final(self, report: protocol.Final) -> None:
        if report.audio_end <= self.done:
            return  # it was said at an attachment before
        final = FinalTranscript.of(report, self._next())
        await self._log(final, report.audio_end)
        self.minutes.add(final)
        self.done = report.audio_end
        self._settle(report.audio_end)
        self._tell(final)
        self._acknowledge(report.audio_end)

    async def _log(self, final: FinalTranscript, audio: float) -> None:
        """Log a final, however long Redis is away; raises Stale."""
        while True:
            try:
                await store.append(self.redis, self.id, self.epoch, final, audio)
                return
            except store.Unknown:
                self.done = audio
                self._unknown = True
                self.tape.heard(audio)
                await self._move("unknown to Redis")
            except AWAY:
                await rest()

    async def _move(self, why: str) -> None:
        """The next attachment, at another worker if there is one."""
        shunned = [self.link.place.worker] if self.link is not None and not self._unknown else []
        await self._unlink()
        self._losses += 1
        log.warning("session %s: attachment %d is lost (%s)", self.id, self.epoch, why)
        if not self.tape.whole:
            told = f"The worker was lost, and more than {len(self.tape)} bytes of the file were not kept."
            raise DalstonError(told, code="worker_lost", status=503)
        if self._losses > LOSSES:
            raise DalstonError("One worker after another was lost.", code="worker_lost", status=503)
        self._turns.lost()
        began = time.monotonic()
        await self._attach(WAIT_S, avoid=shunned)
        log.info("session %s: goes on after %.2f s", self.id, time.monotonic() - began)
        if self._unknown:
            self._unknown = False
            for final in self.minutes.finals:
                await self._log(final, self.done)

    async def _fail(self, error: DalstonError) -> None:
        log.warning("session %s failed: %s", self.id, error.code)
        self._trouble(error)
        self.cause = "failed"
        await self._finish(None)

    async def _finish(self, audio: float | None) -> None:
        """Keep what is to be kept, tell the end. Left to upkeep when the disk does not take it."""
        self._stay()
        audio = self.tape.seconds(self.tape.end) if audio is None and self.tape.rate else audio
        self.changing = True
        kept = await self.minutes.finish(self.cause, self.model, audio)
        word = "ended" if kept else "detached"
        await patiently(lambda: store.leave(self.redis, self.id, self.epoch, word, self.cause))
        if kept and not self.request.keep:
            await patiently(lambda: store.forget(self.redis, self.id))
        self.over = True
        self._tell(SessionEnded(self._next(), self.id, audio or self.done))

    # Small things.

    @property
    def _crowded(self) -> bool:
        return self.tape.full or self.tape.end - max(self._sent, self.tape.first) > AHEAD_BYTES

    def _settle(self, seconds: float) -> None:
        if seconds > self.settled:
            self.settled, self._losses = seconds, 0
        self.tape.heard(seconds)
        self._room.set()

    def _acknowledge(self, seconds: float) -> None:
        self.acked = max(self.acked, seconds)
        self._tell(Ack(self._next(), self.acked))

    def _tell(self, event: Any) -> None:
        if self.outbox is not None:
            self.outbox.put(event)

    def _trouble(self, error: DalstonError) -> None:
        self._tell(Trouble(self._next(), error.code, error.message, error.status))

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _vanish(self) -> None:
        self.cause = "vanished"
        self.end()

    def _rewind(self) -> None:
        """A container comes again, from its beginning."""
        self.tape, self._losses = Tape(self.request), 0
        self.lost()

    def _stir(self) -> None:
        for event in (self._room, self._work, self._news):
            event.set()
