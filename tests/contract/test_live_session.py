"""Live sessions against scripted workers: what was said once is told once, whoever is lost."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from dalston_engine import keys
from dalston_engine.live import protocol
from dalston_engine.live.protocol import Options

from dalston import live
from dalston.errors import BadField, LiveFull, NotFound, NoWorker
from dalston.live import Event, FinalTranscript, LiveRequest, SessionEnded
from dalston.orchestrator.leftovers import Leftovers
from dalston.realtime.outbox import Outbox
from dalston.realtime.sessions import Sessions
from dalston.settings import Settings
from dalston.store import live as store
from dalston.store.client import connect
from dalston.store.keeping import Keeping
from tests.contract.listener import listening, spoken
from tests.waiting import soon

pytestmark = pytest.mark.anyio
REQUEST = LiveRequest(resumable=True)


@contextlib.asynccontextmanager
async def gateway(url: str, data: Path, **settings: Any) -> AsyncIterator[Sessions]:
    """A gateway's sessions."""
    client = connect(url)
    sessions = Sessions(client, Settings(data=str(data), redis_url=url, **settings))
    running = asyncio.create_task(sessions.run())
    try:
        yield sessions
    finally:
        await sessions.close()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await client.aclose()


@pytest.fixture
async def client(valkey: str, redis: Any) -> AsyncIterator[Any]:
    """An asynchronous client of the embedded server."""
    made = connect(valkey)
    yield made
    await made.aclose()


class Client:
    """Hears everything that is told."""

    def __init__(self, outbox: Outbox) -> None:
        self.events: list[Event] = []
        self.outbox = outbox
        self._task = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for event in self.outbox.events():
            self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def texts(self) -> list[str]:
        """The finals' texts."""
        return [event.text for event in self.of(FinalTranscript)]

    async def until(self, what: Callable[[], Any], seconds: float = 15) -> Any:
        """Wait for something."""
        return await soon(what, seconds)

    async def ended(self) -> SessionEnded:
        """Wait for the end."""
        await asyncio.wait_for(self._task, 15)
        last = self.events[-1]
        assert isinstance(last, SessionEnded)
        return last

    def ordered(self) -> bool:
        """Whether every event has a higher number than the one before."""
        numbers = [event.seq for event in self.events]
        return all(one < other for one, other in itertools.pairwise(numbers))


async def test_what_is_said_is_told_and_kept(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        await session.audio(spoken(1, 2, 0, 4))
        session.ask(protocol.Flush("f"))
        await session.audio(spoken(5, seconds=0.5))
        session.end()
        end = await heard.ended()
        assert heard.texts == ["w1", "w2", "w4", "w5"]
        assert heard.ordered()
        assert end.audio == 4.5
        assert [one.id for one in heard.of(live.Flushed)] == ["f"]
        assert isinstance(heard.events[0], live.SessionStarted)
        assert heard.events[0].model == "tiny.en"
        await soon(lambda: not len(sessions))
        kept = sessions.keeping.read(session.id)
        assert kept is not None
        assert (kept.text, kept.duration, kept.cause, kept.language) == ("w1 w2 w4 w5", 4.5, "ended", None)
        stored = await store.read(client, session.id)
        assert stored is not None
        assert stored.state == "ended"


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_lost_worker_costs_no_word(valkey: str, client: Any, tmp_path: Path, how: str) -> None:
    async with (
        listening(client) as one,
        listening(client, "two") as two,
        gateway(valkey, tmp_path) as sessions,
    ):
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        first, second = (one, two) if one.attachments else (two, one)
        await session.audio(spoken(1, 2) + spoken(3, seconds=0.7))
        await heard.until(lambda: heard.texts == ["w1", "w2"])
        began = time.monotonic()
        first.kill() if how == "killed" else first.freeze()
        await session.audio(spoken(3, seconds=0.3) + spoken(4))
        await heard.until(lambda: "w4" in heard.texts)
        took = time.monotonic() - began
        session.end()
        await heard.ended()
        assert heard.texts == ["w1", "w2", "w3", "w4"]
        assert heard.ordered()
        (again,) = second.opened
        assert (again.epoch, again.start, again.heard, again.previous) == (2, 1.5, 2.0, "w1 w2")
        assert took < (1 if how == "killed" else 3)
        first.thaw()


async def test_speech_that_was_told_is_not_told_again(valkey: str, client: Any, tmp_path: Path) -> None:
    async with (
        listening(client) as one,
        listening(client, "two") as two,
        gateway(valkey, tmp_path) as sessions,
    ):
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        first = one if one.attachments else two
        await session.audio(spoken(1))
        await heard.until(lambda: heard.texts)
        first.delay = 30
        await session.audio(spoken(2))
        await heard.until(lambda: len(heard.of(live.SpeechEnded)) == 2)
        first.kill()
        await session.audio(spoken(3))
        session.end()
        await heard.ended()
        assert heard.texts == ["w1", "w2", "w3"]
        assert [event.at for event in heard.of(live.SpeechStarted)] == [0, 1, 2]
        assert [event.at for event in heard.of(live.SpeechEnded)] == [1, 2, 3]


async def test_a_flush_that_nobody_answered_is_asked_again(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client) as one, gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        await session.audio(spoken(1, 2, seconds=1) + spoken(3, seconds=0.5))
        await heard.until(lambda: heard.texts == ["w1", "w2"])
        one.freeze()
        session.ask(protocol.Flush("f"))
        await session.audio(spoken(4, 4))
        session.end()
        async with listening(client, "two"):
            await heard.ended()
        assert heard.texts == ["w1", "w2", "w3", "w4", "w4", "w4"]
        flushes = [n for n, event in enumerate(heard.events) if isinstance(event, live.Flushed)]
        assert [event.text for event in heard.events[: flushes[0]] if isinstance(event, FinalTranscript)] == [
            "w1", "w2", "w3"]  # fmt: skip
        assert len(flushes) == 1
        one.thaw()


async def test_a_session_waits_for_a_worker_to_come(valkey: str, client: Any, tmp_path: Path) -> None:
    async with gateway(valkey, tmp_path) as sessions:
        async with listening(client) as one:
            session, outbox = await sessions.begin(REQUEST, "local")
            heard = Client(outbox)
            await session.audio(spoken(1))
            await heard.until(lambda: heard.texts == ["w1"])
            one.kill()
            await session.audio(spoken(2))
        async with listening(client, "two"):
            await heard.until(lambda: heard.texts == ["w1", "w2"])
            session.end()
            await heard.ended()


async def test_a_session_that_no_worker_comes_for_fails_and_is_kept(
    valkey: str, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dalston.realtime.session.WAIT_S", 0.5)
    async with gateway(valkey, tmp_path) as sessions:
        async with listening(client):
            session, outbox = await sessions.begin(REQUEST, "local")
            heard = Client(outbox)
            await session.audio(spoken(1, 2))
            await heard.until(lambda: heard.texts == ["w1", "w2"])
        await heard.ended()
        (trouble,) = heard.of(live.Trouble)
        assert (trouble.fatal, trouble.status) == (True, 503)
        kept = sessions.keeping.read(session.id)
        assert kept is not None
        assert (kept.text, kept.cause) == ("w1 w2", "failed")


async def test_audio_that_breaks_every_worker_fails_its_session(
    valkey: str, client: Any, tmp_path: Path
) -> None:
    async with listening(client) as one, gateway(valkey, tmp_path) as sessions:
        one.fails_on = 3
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        await session.audio(spoken(1, 2, 3))
        await heard.ended()
        assert heard.texts == ["w1", "w2"]
        assert [event.code for event in heard.of(live.Trouble)] == ["worker_lost"]
        assert len(one.opened) > 2
        one.retryable = False
        session, outbox = await sessions.begin(REQUEST, "local")
        heard, opened = Client(outbox), len(one.opened)
        await session.audio(spoken(3))
        await heard.ended()
        assert [event.code for event in heard.of(live.Trouble)] == ["engine_error"]
        assert len(one.opened) == opened


async def test_a_client_comes_back_to_its_gateway(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        first = Client(outbox)
        await session.audio(spoken(1, 2) + spoken(3, seconds=0.5))
        await first.until(lambda: first.texts == ["w1", "w2"])
        seen = first.of(FinalTranscript)[0].seq
        session.part(outbox)
        await session.audio(b"")
        again, outbox = await sessions.resume(session.id, seen, "local")
        assert again is session
        second = Client(outbox)
        await session.audio(spoken(3, seconds=0.5))
        session.end()
        await second.ended()
        assert second.texts == ["w2", "w3"]
        started = second.events[0]
        assert isinstance(started, live.SessionStarted)
        assert (started.resumed, started.audio) == (True, 2.5)
        assert second.ordered()
        with pytest.raises(NotFound):
            await sessions.resume(session.id, 0, "somebody else")


async def test_a_client_comes_back_to_another_gateway(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path) as one, gateway(valkey, tmp_path) as two:
        session, outbox = await one.begin(REQUEST, "local")
        first = Client(outbox)
        await session.audio(spoken(1, 2) + spoken(3, seconds=0.5))
        await first.until(lambda: first.texts == ["w1", "w2"])
        again, outbox = await two.resume(session.id, first.of(FinalTranscript)[0].seq, "local")
        assert again is not None
        second = Client(outbox)
        started = await second.until(lambda: second.of(live.SessionStarted))
        assert started[0].audio == 2.0
        await soon(lambda: session.over, 5)
        assert first.outbox.reason == "taken"
        await again.audio(spoken(3, 4))
        again.end()
        await second.ended()
        assert second.texts == ["w2", "w3", "w4"]
        assert second.ordered()
        kept = two.keeping.read(session.id)
        assert kept is not None
        assert kept.text == "w1 w2 w3 w4"


async def test_options_that_were_changed_hold_at_another_gateway(
    valkey: str, client: Any, tmp_path: Path
) -> None:
    async with (
        listening(client, models={"base": ["*"]}) as worker,
        gateway(valkey, tmp_path) as one,
        gateway(valkey, tmp_path) as two,
    ):
        session, _ = await one.begin(LiveRequest("base", resumable=True), "local")
        await session.configure(Options(language="de", prompt="Züge"))
        again, outbox = await two.resume(session.id, 0, "local")
        assert again is not None
        assert (worker.opened[-1].options.language, worker.opened[-1].options.prompt) == ("de", "Züge")
        again.end()
        await Client(outbox).ended()
        await session.configure(Options(language="fr"))  # it is somebody else's by now
        stored = await store.read(client, session.id)
        assert stored is not None
        assert stored.facts.language == "de"


async def test_a_language_that_the_model_lacks_is_refused_and_the_session_goes_on(
    valkey: str, client: Any, tmp_path: Path
) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        with pytest.raises(BadField) as refused:
            await session.configure(Options(language="de"))
        assert refused.value.code == "unsupported_language"
        await session.configure(Options(language="en"))
        await session.audio(spoken(1))
        session.end()
        await heard.ended()
        assert heard.texts == ["w1"]


async def test_what_an_older_attachment_says_is_dropped(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path) as one, gateway(valkey, tmp_path) as two:
        session, outbox = await one.begin(REQUEST, "local")
        first = Client(outbox)
        again, outbox = await two.resume(session.id, 0, "local")
        second = Client(outbox)
        await session.audio(spoken(9))
        await soon(lambda: session.over, 5)
        assert first.texts == []
        assert again is not None
        await again.audio(spoken(1))
        again.end()
        await second.ended()
        assert second.texts == ["w1"]
        assert await store.finals(client, session.id) == second.of(FinalTranscript)


async def test_a_gateway_that_ends_leaves_its_sessions_to_others(
    valkey: str, client: Any, tmp_path: Path
) -> None:
    async with listening(client) as worker, gateway(valkey, tmp_path) as two:
        async with gateway(valkey, tmp_path) as one:
            session, outbox = await one.begin(REQUEST, "local")
            other, _ = await one.begin(LiveRequest(), "local")
            first = Client(outbox)
            await session.audio(spoken(1))
            await other.audio(spoken(7))
            await first.until(lambda: first.texts == ["w1"])
        assert first.outbox.reason == "restart"
        await soon(lambda: not worker.attachments)
        kept = two.keeping.read(other.id)
        assert kept is not None
        assert kept.text == "w7"
        again, outbox = await two.resume(session.id, 0, "local")
        assert again is not None
        second = Client(outbox)
        await again.audio(spoken(2))
        again.end()
        await second.ended()
        assert second.texts == ["w1", "w2"]


async def test_who_missed_the_end_is_told_it(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        first = Client(outbox)
        await session.audio(spoken(1, 2))
        session.end()
        await first.ended()
        await soon(lambda: not len(sessions))
        gone, outbox = await sessions.resume(session.id, 0, "local")
        assert gone is None
        second = Client(outbox)
        await second.ended()
        assert second.texts == ["w1", "w2"]


async def test_a_client_that_does_not_come_back_has_its_words_kept(
    valkey: str, client: Any, tmp_path: Path
) -> None:
    async with listening(client), gateway(valkey, tmp_path, live_grace="0s") as sessions:
        for request in (REQUEST, LiveRequest()):
            session, outbox = await sessions.begin(request, "local")
            await session.audio(spoken(1) + spoken(2, seconds=0.5))
            session.part(outbox)
            await session.wait()
            kept = sessions.keeping.read(session.id)
            assert kept is not None
            assert (kept.text, kept.cause) == ("w1 w2", "vanished")


async def test_a_full_fleet_says_so_at_once(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client, capacity=1), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(LiveRequest(), "local")
        began = time.monotonic()
        with pytest.raises(LiveFull):
            await sessions.begin(LiveRequest(), "local")
        assert time.monotonic() - began < 0.5
        session.end()
        await Client(outbox).ended()
        session, outbox = await sessions.begin(LiveRequest(), "local")
        session.part(outbox)


async def test_what_nobody_can_do_is_refused(valkey: str, client: Any, tmp_path: Path) -> None:
    async with gateway(valkey, tmp_path) as sessions:
        with pytest.raises(NoWorker, match="No worker"):
            await sessions.begin(LiveRequest(), "local")
        async with listening(client):
            with pytest.raises(NotFound, match=r"tiny\.en"):
                await sessions.begin(LiveRequest(model="nothing"), "local")
            with pytest.raises(BadField, match="de"):
                await sessions.begin(LiveRequest(options=Options(language="de")), "local")


async def test_a_worker_that_is_being_started_is_waited_for(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client) as worker, gateway(valkey, tmp_path) as sessions:
        worker.state = "loading"
        await worker.beat()
        beginning = asyncio.create_task(sessions.begin(LiveRequest(), "local"))
        with pytest.raises(NotFound):
            await sessions.begin(LiveRequest(model="nothing"), "local")
        assert not beginning.done()
        worker.state = "ready"
        session, outbox = await beginning
        session.part(outbox)


async def test_a_model_of_one_language_is_told_it(valkey: str, client: Any, tmp_path: Path) -> None:
    models = {"tiny.en": ["en"], "base": ["*"]}
    async with listening(client, models=models) as one, gateway(valkey, tmp_path) as sessions:
        for model, asked, language in (("fast", "tiny.en", "en"), ("accurate", "base", None)):
            session, outbox = await sessions.begin(LiveRequest(model=model), "local")
            session.part(outbox)
            assert (one.opened[-1].model, one.opened[-1].options.language) == (asked, language)
        session, outbox = await sessions.begin(LiveRequest(options=Options(language="de")), "local")
        session.part(outbox)
        assert one.opened[-1].model == "base"


async def test_a_client_that_sends_nothing_is_dismissed(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path, live_idle="1s") as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        await session.audio(spoken(1, seconds=0.5))
        await heard.ended()
        assert heard.texts == ["w1"]
        (trouble,) = heard.of(live.Trouble)
        assert (trouble.code, trouble.fatal) == ("session_idle", True)
        await soon(lambda: not len(sessions))


async def test_nothing_stays_of_what_is_not_to_be_kept(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(LiveRequest(keep=False), "local")
        await session.audio(spoken(1))
        session.end()
        heard = Client(outbox)
        await heard.ended()
        assert heard.texts == ["w1"]
        assert await store.read(client, session.id) is None
        assert list(sessions.keeping.folder.iterdir()) == []


async def test_a_client_that_does_not_read_has_its_partials_replaced(
    valkey: str, client: Any, tmp_path: Path
) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        for n in range(1, 10):
            for _ in range(10):
                await session.audio(spoken(n, seconds=0.1))
                await asyncio.sleep(0)
        session.end()
        await session.wait()
        heard = Client(outbox)
        await heard.ended()
        assert heard.texts == [f"w{n}" for n in range(1, 10)]
        assert len(heard.of(live.PartialTranscript)) <= 10


async def test_a_slow_worker_holds_its_client_back(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client) as one, gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        one.gate.clear()

        async def send() -> None:
            for _ in range(400):
                await session.audio(spoken(1))

        sending = asyncio.create_task(send())
        await soon(lambda: len(session.tape) > 2**20)
        assert await asyncio.wait([sending], timeout=0.2) == (set(), {sending})
        assert len(session.tape) < 8 * 2**20
        one.gate.set()
        await sending
        session.end()
        await heard.ended()
        assert len(heard.texts) == 400


async def test_a_recording_is_whole_at_any_moment(valkey: str, client: Any, tmp_path: Path) -> None:
    import wave

    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(LiveRequest(record=True), "local")
        for n in range(1, 5):
            await session.audio(spoken(n))
        path = sessions.keeping.recording(session.id)
        assert path is not None
        session.end()
        await Client(outbox).ended()
        with wave.open(str(path)) as wav:
            assert wav.readframes(wav.getnframes()) == spoken(1, 2, 3, 4)
        kept = sessions.keeping.read(session.id)
        assert kept is not None
        assert kept.recording == "audio.wav"


async def test_a_session_that_redis_forgot_is_told_it_anew(valkey: str, client: Any, tmp_path: Path) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        await session.audio(spoken(1, 2))
        await heard.until(lambda: heard.texts == ["w1", "w2"])
        await client.flushall()
        await session.audio(spoken(3, 4))
        await heard.until(lambda: heard.texts == ["w1", "w2", "w3", "w4"])
        assert [one.text for one in await store.finals(client, session.id)] == heard.texts
        session.end()
        await heard.ended()


async def test_what_the_disk_does_not_take_is_written_later(
    valkey: str, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(client), gateway(valkey, tmp_path) as sessions:
        session, outbox = await sessions.begin(REQUEST, "local")
        heard = Client(outbox)
        await session.audio(spoken(1, 2))

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(Keeping, "write", full)
            session.end()
            await heard.ended()
            await soon(lambda: not len(sessions))
        assert heard.texts == ["w1", "w2"]
        assert sessions.keeping.read(session.id) is None
        await client.zincrby(keys.SESSIONS(), -60_000, session.id)
        await Leftovers(client, sessions.keeping, 1, None).look_after()
        kept = sessions.keeping.read(session.id)
        assert kept is not None
        assert (kept.text, kept.cause) == ("w1 w2", "ended")
        assert await client.zcard(keys.SESSIONS()) == 0
