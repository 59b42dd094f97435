"""Live sessions of a whole server with a real model: what is said, kept, recorded and refused."""

from __future__ import annotations

import asyncio
import itertools
import re
import wave
from pathlib import Path
from typing import Any

import pytest

import dalston
from dalston.client import ServerSaid
from dalston.live import FinalTranscript, PartialTranscript, SessionEnded, SessionStarted, Trouble
from tests.e2e.conftest import Server
from tests.e2e.wav import decoded
from tests.waiting import soon, until

pytestmark = pytest.mark.anyio
RATE, PIECE_S, SPEED = 16_000, 0.1, 4


@pytest.fixture(autouse=True)
def _there(server: Server) -> None:
    """The worker is there, and has room."""

    def look() -> bool:
        workers = server.client.get("/v1/realtime/status").json()["workers"]
        return any(one["free"] >= 2 and "tiny.en" in one["models"] for one in workers)

    until(look)


@pytest.fixture(scope="session")
def samples(meeting: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The recording that comes with the project."""
    with wave.open(str(decoded(meeting, tmp_path_factory.mktemp("live") / "samples.wav"))) as wav:
        assert (wav.getframerate(), wav.getnchannels()) == (RATE, 1)
        content: bytes = wav.readframes(wav.getnframes())
    return content


async def paced(live: dalston.LiveClient, content: bytes, seconds: float = PIECE_S) -> None:
    """Send audio faster than it was spoken, but in pieces."""
    piece = int(RATE * seconds) * 2
    for n in range(0, len(content), piece):
        await live.send(content[n : n + piece])
        await asyncio.sleep(seconds / SPEED)


def words(text: str) -> set[str]:
    """The words of a text."""
    return set(re.findall(r"[a-z']+", text.lower()))


def recall(text: str, server: Server, meeting: Path) -> float:
    """Which share of the words of the whole recording's transcript a live transcript has."""
    whole = server.transcribed(meeting, model="tiny.en")["text"]
    return len(words(whole) & words(text)) / len(words(whole))


async def heard(live: dalston.LiveClient) -> list[Any]:
    """All events until the end."""
    return [event async for event in live]


async def test_what_is_said_is_told_while_it_is_said(server: Server, samples: bytes, meeting: Path) -> None:
    async with dalston.LiveClient(server.url, model="tiny.en", word_timestamps="true") as live:
        hearing = asyncio.create_task(heard(live))
        await paced(live, samples)
        live.end()
        events = await hearing
    finals = [event for event in events if isinstance(event, FinalTranscript)]
    text = " ".join(final.text for final in finals if final.text)
    assert recall(text, server, meeting) >= 0.75
    assert any(isinstance(event, PartialTranscript) for event in events)
    assert isinstance(events[0], SessionStarted)
    assert isinstance(events[-1], SessionEnded)
    seconds = len(samples) / 2 / RATE
    assert events[-1].audio == pytest.approx(seconds, abs=0.1)
    for one, other in itertools.pairwise(finals):
        assert one.end <= other.start + 0.5
    for final in finals:
        assert 0 <= final.start < final.end <= seconds + 0.5
        assert "".join(word.text for word in final.words or ()).strip() == final.text
    kept = server.client.get(f"/v1/realtime/sessions/{live.session_id}").json()
    assert (kept["state"], kept["cause"], kept["text"]) == ("ended", "ended", text)
    assert len(kept["words"]) >= len(finals)


async def test_a_lost_connection_costs_no_word(server: Server, samples: bytes, meeting: Path) -> None:
    async with dalston.LiveClient(server.url, model="tiny.en") as live:
        hearing = asyncio.create_task(heard(live))
        half = len(samples) // 4 * 2
        await paced(live, samples[:half])
        live.cut()
        await paced(live, samples[half:])
        live.end()
        events = await hearing
    assert live.resumed >= 1
    text = " ".join(event.text for event in events if isinstance(event, FinalTranscript))
    assert recall(text, server, meeting) >= 0.75


async def test_a_file_is_heard_as_it_comes(server: Server, meeting: Path) -> None:
    query: dict[str, Any] = {"encoding": "flac", "record": True, "interim_results": False}
    async with dalston.LiveClient(server.url, model="tiny.en", **query) as live:
        hearing = asyncio.create_task(heard(live))
        await live.send(meeting.read_bytes())
        live.end()
        events = await hearing
    assert not any(isinstance(event, PartialTranscript) for event in events)
    text = " ".join(event.text for event in events if isinstance(event, FinalTranscript))
    assert recall(text, server, meeting) >= 0.75
    audio = server.client.get(f"/v1/realtime/sessions/{live.session_id}/audio")
    assert (audio.headers["content-type"], audio.content) == ("audio/flac", meeting.read_bytes())


async def test_what_is_recorded_can_be_transcribed_again(server: Server, samples: bytes) -> None:
    async with dalston.LiveClient(server.url, model="tiny.en", record=True) as live:
        hearing = asyncio.create_task(heard(live))
        await live.send(samples[: 8 * RATE * 2])
        live.end()
        await hearing
    path = f"/v1/realtime/sessions/{live.session_id}"
    audio = server.client.get(f"{path}/audio").content
    job = server.transcribed(audio, model="tiny.en")
    assert job["duration"] == pytest.approx(8, abs=0.05)
    assert server.client.delete(path).status_code == 204
    assert not (server.data / "sessions" / live.session_id).exists()


async def test_a_client_that_is_done_without_a_word_has_its_words_kept(
    server: Server, samples: bytes
) -> None:
    async with dalston.LiveClient(server.url, model="tiny.en") as live:
        await live.send(samples[: 6 * RATE * 2])
        await live.sent()
    path = f"/v1/realtime/sessions/{live.session_id}"
    kept = await soon(lambda: (one := server.client.get(path).json())["state"] == "ended" and one, 30)
    assert words("good morning") <= words(kept["text"])


async def test_garbage_costs_one_session(server: Server, samples: bytes) -> None:
    async with (
        dalston.LiveClient(server.url, model="tiny.en") as good,
        dalston.LiveClient(server.url, model="tiny.en", encoding="ogg") as bad,
    ):
        hearing = asyncio.create_task(heard(good)), asyncio.create_task(heard(bad))
        await bad.send(b"this is no recording at all " * 2000)
        bad.end()
        await good.send(samples[: 6 * RATE * 2])
        good.end()
        events, faults = await asyncio.gather(*hearing)
    assert any(isinstance(event, FinalTranscript) for event in events)
    (trouble,) = [event for event in faults if isinstance(event, Trouble)]
    assert (trouble.status, trouble.fatal) == (422, True)


async def test_a_model_that_nobody_has_is_refused(server: Server) -> None:
    with pytest.raises(ServerSaid) as caught:
        async with dalston.LiveClient(server.url, model="nothing"):
            pass
    assert (caught.value.status, caught.value.code) == (404, "unknown_model")
