"""Live sessions while their workers, gateways, connections and Redis go: no word is lost, none comes twice.

The scripted engine hears numbers, each in its own half second: audio that was lost or heard twice shows.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import random
import re
import signal
import time
import wave
from collections.abc import Sequence
from pathlib import Path

import pytest
from dalston_engine import keys
from msgspec import Struct, field

from dalston.live import FinalTranscript, SessionEnded, SessionStarted
from dalston.live_client import LiveClient, paced, pieces
from dalston.local import environments
from tests import tones
from tests.chaos.cluster import Cluster, cluster
from tests.e2e.wav import decoded
from tests.waiting import soon

LONG = "DALSTON_CHAOS" in os.environ
ROUNDS = 4 if LONG else 1
SESSIONS, UTTERANCES = 20, 8
NUMBERS = 97
"""The fake engine's traps are above."""
SECOND = 2 * tones.RATE
PIECE = SECOND // 10
SILENCE_S = 0.5
LATEST_S = 10.0
"""Later than this no final may come, whatever happens."""
SETTINGS = {"DALSTON_LIVE_SESSIONS": "40"}

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800 if LONG else 300)]


class Session(Struct):
    """One client, what it says, and what it is told."""

    said: list[list[int]]
    began: float = 0.0
    id: str = ""
    finals: list[tuple[float, FinalTranscript]] = field(default_factory=list)
    seconds: float = 0.0
    """As the session's last event has it."""
    resumed: int = 0

    @property
    def audio(self) -> bytes:
        return tones.said(*self.said)

    @property
    def heard(self) -> list[str]:
        return " ".join(final.text for _, final in self.finals).split()

    @property
    def spoken(self) -> list[str]:
        return [str(number) for utterance in self.said for number in utterance]


def sessions(dice: random.Random) -> list[Session]:
    return [
        Session([[dice.randrange(NUMBERS) for _ in range(dice.randint(1, 4))] for _ in range(UTTERANCES)])
        for _ in range(SESSIONS)
    ]


async def converse(live: LiveClient, one: Session, audio: bytes = b"", speed: float = 1) -> None:
    """Say everything, or this audio, in real time, and hear everything."""

    async def speak() -> None:
        async for piece in paced(pieces(audio or one.audio, PIECE), SECOND, speed):
            await live.send(piece)
        live.end()

    speaking = asyncio.create_task(speak())
    one.began = time.monotonic()
    async for event in live:
        match event:
            case SessionStarted():
                one.id = event.session_id
            case FinalTranscript():
                one.finals.append((time.monotonic(), event))
            case SessionEnded():
                one.seconds = event.audio
    await speaking
    one.resumed = live.resumed


def assert_nothing_lost_or_doubled(found: Sequence[Session]) -> None:
    for one in found:
        assert one.heard == one.spoken
        assert one.seconds == pytest.approx(len(one.audio) / SECOND, abs=0.001)
        numbers = [final.seq for _, final in one.finals]
        assert numbers == sorted(set(numbers))
        starts = [final.start for _, final in one.finals]
        assert starts == sorted(starts)


@pytest.fixture
def meeting() -> Path:
    """The recording that comes with the project."""
    return environments.sample()


@pytest.fixture
def dice() -> random.Random:
    chosen = random.randrange(10**6) if LONG else 7
    print(f"seed {chosen}")
    return random.Random(chosen)


@pytest.mark.parametrize("lap", range(ROUNDS))
async def test_workers_die_and_freeze(tmp_path: Path, dice: random.Random, lap: int) -> None:
    async with cluster(tmp_path / "data", settings=SETTINGS) as house:
        for n in (1, 2):
            await house.start_engine("fake", n)
        await soon(lambda: _workers(house, 3))
        found = sessions(dice)

        async def run(one: Session) -> None:
            async with LiveClient(house.urls[0], model="fake") as live:
                await converse(live, one)

        async def chaos() -> tuple[float, float]:
            await asyncio.sleep(dice.uniform(4, 6))
            house.kill("fake-0")
            killed = time.monotonic()
            await asyncio.sleep(dice.uniform(5, 6))
            house.kill("fake-1", signal.SIGSTOP)
            frozen = time.monotonic()
            await asyncio.sleep(6)
            house.kill("fake-1", signal.SIGCONT)
            return killed, frozen

        (killed, frozen), *_ = await asyncio.gather(chaos(), asyncio.gather(*map(run, found)))
        assert_nothing_lost_or_doubled(found)
        calm = max(_late(found, 0, killed))
        dead, cold = max(_late(found, killed, frozen)), max(_late(found, frozen, frozen + 6))
        epochs = [int(await house.redis.hget(keys.SESSION(session=one.id), "epoch") or 0) for one in found]
        moved = sum(epoch > 1 for epoch in epochs)
        print(f"latest final: {calm:.2f} s, after a kill {dead:.2f} s, after a freeze {cold:.2f} s")
        print(f"{moved} sessions were moved")
        assert moved
        assert max(dead, cold) < LATEST_S


def _late(found: Sequence[Session], since: float, until: float) -> list[float]:
    return [when - one.began - final.end - SILENCE_S for one in found for when, final in one.finals
            if since < when <= until] or [0.0]  # fmt: skip


async def _workers(house: Cluster, count: int) -> bool:
    """Whether so many are ready."""
    found = await house.redis.zrange(keys.WORKERS(), 0, -1)
    states = [await house.redis.hget(keys.WORKER(worker=one), "state") for one in found]
    return states.count("ready") >= count


@pytest.mark.parametrize("lap", range(ROUNDS))
async def test_connections_gateways_and_redis_go(tmp_path: Path, dice: random.Random, lap: int) -> None:
    async with cluster(tmp_path / "data", instances=2, settings=SETTINGS) as house:
        await soon(lambda: _workers(house, 2))
        found = sessions(dice)

        async def run(n: int, one: Session) -> None:
            async with LiveClient(house.urls[n % 2], model="fake") as live:
                drops = asyncio.create_task(drop(live, n))
                await converse(live, one)
                drops.cancel()

        async def drop(live: LiveClient, n: int) -> None:
            if n % 4 == 0:
                await asyncio.sleep(dice.uniform(2, 15))
                live.cut()

        async def chaos() -> None:
            for victim in ("gateway-0", "valkey", "fake-0", "gateway-1"):
                await asyncio.sleep(dice.uniform(3, 4))
                house.kill(victim)

        await asyncio.gather(*(run(n, one) for n, one in enumerate(found)), chaos())
        assert_nothing_lost_or_doubled(found)
        resumed = sum(one.resumed for one in found)
        print(f"taken up again {resumed} times; latest final {max(_late(found, 0, time.monotonic())):.2f} s")
        assert resumed >= SESSIONS


async def test_a_real_model_hears_the_same_though_its_workers_die_mid_word(
    tmp_path: Path, meeting: Path
) -> None:
    with wave.open(str(decoded(meeting, tmp_path / "talk.wav", seconds=20)), "rb") as wav:
        samples = wav.readframes(wav.getnframes())
    own = {"DALSTON_PRELOAD": "tiny.en", "DALSTON_FASTER_WHISPER_DEVICE": "cpu"}
    async with cluster(tmp_path / "data", settings=SETTINGS) as house:
        for n in (0, 1):
            await house.start_engine("faster-whisper", n, **own)
        await soon(lambda: _workers(house, 3))
        calm, disturbed = Session([]), Session([])
        async with LiveClient(house.urls[0], model="tiny.en") as live:
            await converse(live, calm, samples, speed=0)
        async with LiveClient(house.urls[0], model="tiny.en") as live:
            talking = asyncio.create_task(converse(live, disturbed, samples))
            for seconds in (4, 7):
                await asyncio.sleep(seconds)
                worker = await house.redis.hget(keys.SESSION(session=disturbed.id), "worker")
                names = {pid: name for name, pid in house.supervisor.pids.items()}
                house.kill(names[int(worker.split("-")[-2])])
            await talking
        expected, heard = (re.findall("[a-z0-9']+", " ".join(one.heard).lower()) for one in (calm, disturbed))
        blocks = difflib.SequenceMatcher(None, expected, heard, autojunk=False).get_matching_blocks()
        same = sum(block.size for block in blocks)
        epoch = await house.redis.hget(keys.SESSION(session=disturbed.id), "epoch")
        print(f"{same} of {len(expected)} words the same, {len(heard)} heard; {epoch} attachments;"
              f" latest final {max(_late([disturbed], 0, time.monotonic())):.2f} s")  # fmt: skip
        assert int(epoch) == 3
        assert same >= 0.9 * len(expected)
        assert len(heard) <= 1.1 * len(expected)
