"""What live sessions cost in which nobody speaks: the CPU of worker and gateway, as a share of one core."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator

import psutil

from bench import machine
from bench.conversation import QUERY, RATE
from bench.figure import Figure
from bench.live import until_there
from bench.server import Failed, Server, serving
from dalston.live import Ack
from dalston.live_client import LiveClient

SESSIONS, QUICK_SESSIONS = 200, 50
AT_ONCE = 10
SETTLE_S, MEASURE_S = 5.0, 20.0
FRAME_S = 0.1
HEARD = 0.8
"""The share of the audio that must have been acknowledged when it is over; that is told now and then."""
NOISE = 8
"""Highest sample of what a quiet room sounds like: about -75 dBFS."""


def run(quick: bool) -> Iterator[Figure]:
    """Sessions that send nothing, then the same sessions sending silence."""
    count = QUICK_SESSIONS if quick else SESSIONS
    with serving(DALSTON_LIVE_SESSIONS=str(count + 50)) as server:
        until_there(server)
        nothing, silence = asyncio.run(_measure(server, count))
    for name, (worker, gateway), limits in (
        (f"{count} sessions that send nothing", nothing, (5, 5)),
        (f"{count} sessions of silence", silence, (25, None)),
    ):
        yield Figure(f"live_idle: {name}, worker", worker, "%", limits[0])
        yield Figure(f"live_idle: {name}, gateway", gateway, "%", limits[1])


async def _measure(server: Server, count: int) -> tuple[tuple[float, float], tuple[float, float]]:
    turn = asyncio.Semaphore(AT_ONCE)
    async with contextlib.AsyncExitStack() as stack:

        async def begun() -> LiveClient:
            async with turn:
                return await stack.enter_async_context(LiveClient(f"http://{server.address}", **QUERY))

        sessions = await asyncio.gather(*(begun() for _ in range(count)))
        nothing = await _busy(server)
        heard = [0.0] * count
        talking = [asyncio.create_task(_silence(one, n / count, heard)) for n, one in enumerate(sessions)]
        try:
            silence = await _busy(server)
            if min(heard) < (SETTLE_S + MEASURE_S) * HEARD:
                raise Failed(f"of {SETTLE_S + MEASURE_S} s of silence only {min(heard):.1f} s were heard")
            return nothing, silence
        finally:
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)
            for one in sessions:
                one.end()


async def _busy(server: Server) -> tuple[float, float]:
    """Percent of a core that the worker and the gateway take."""
    pids = machine.child(server.pid, "faster-whisper"), machine.child(server.pid, "dalston.gateway")
    await asyncio.sleep(SETTLE_S)
    began, before = time.monotonic(), [_seconds(pid) for pid in pids]
    await asyncio.sleep(MEASURE_S)
    passed = time.monotonic() - began
    worker, gateway = ((_seconds(pid) - old) / passed * 100 for pid, old in zip(pids, before, strict=True))
    return worker, gateway


def _seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def _silence(session: LiveClient, offset: float, heard: list[float]) -> None:
    """A quiet room for ever; `heard` has how many seconds of it the server has dealt with, at its place."""
    draw, place = random.Random(offset), round(offset * len(heard))
    frame = b"".join(
        draw.randint(-NOISE, NOISE).to_bytes(2, "little", signed=True) for _ in range(round(FRAME_S * RATE))
    )

    async def listen() -> None:
        async for event in session:
            if isinstance(event, Ack):
                heard[place] = event.audio

    listening = asyncio.create_task(listen())
    try:
        due = time.monotonic() + offset * FRAME_S
        while True:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            await session.send(frame)
            due += FRAME_S
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
