"""How many conversations a worker on one core carries before it admits no more, and what that does to each.

The worker runs on the first core; the gateway, Redis and this generator share the others. Words lost are
those that a session misses of what the same speech came to while nobody else spoke.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import jiwer
import psutil
from dalston_engine.errors import DalstonError
from msgspec import Struct, field

from bench.conversation import QUERY, Told, Turn, clips, conversation, hold, quantile
from bench.figure import Figure
from bench.live import until_there
from bench.server import DALSTON, MODEL, SCRIPTED, STOP_S, Failed, Server, environment, serving, temporary
from dalston.evaluation.words import tokens
from dalston.live_client import LiveClient

STEP_S = 0.1
EVERY_S, HOLD_S, QUICK_HOLD_S = 4.0, 30.0, 15.0
"""How long until one more session comes, and how long all go on once none is let in."""
MOST, ROUNDS = 40, 3
FAST = 3.0
"""How much faster than it was spoken the speech is sent that nobody disturbs."""


class Session(Struct):
    """One conversation."""

    samples: bytes
    turns: list[Turn]
    told: Told = field(default_factory=Told)


class Plateau(Struct):
    """What sessions were told while there were so many of them, in seconds late."""

    finals: list[float] = field(default_factory=list)
    partials: list[float] = field(default_factory=list)


def run(quick: bool) -> Iterator[Figure]:
    """Sessions are added until one is refused; then all go on together."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, cores[1:] or cores)
        with temporary() as folder, serving(SCRIPTED, DALSTON_LIVE="false") as server:
            said = clips(folder)
            with _worker(server, cores[0]):
                yield from asyncio.run(_rise(server, said, QUICK_HOLD_S if quick else HOLD_S))
    finally:
        os.sched_setaffinity(0, cores)


async def _rise(server: Server, said: Sequence[bytes], seconds: float) -> list[Figure]:
    await asyncio.to_thread(until_there, server)
    alone = await _undisturbed(server, said)
    worker = _process()
    sessions, counts, tasks = list[Session](), list[tuple[float, int]](), list[asyncio.Task[None]]()
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as holding:
        while len(sessions) < MOST:
            live = LiveClient(f"http://{server.address}", **QUERY)
            try:
                await stack.enter_async_context(live)
            except DalstonError as refusal:
                if refusal.code != "at_capacity":
                    raise
                break
            one = Session(*conversation(said, len(sessions), ROUNDS))
            sessions.append(one)
            counts.append((time.monotonic(), len(sessions)))
            tasks.append(holding.create_task(hold(live, one.samples, STEP_S, one.told)))
            await asyncio.sleep(EVERY_S)
        full, used = time.monotonic(), _cpu(worker)
        await asyncio.sleep(seconds)
        busy = (_cpu(worker) - used) / (time.monotonic() - full) * 100
        for task in tasks:
            task.cancel()
    if not sessions:
        raise Failed("no session was let in")
    curve = _curve(sessions, counts)
    _show(curve)
    whole = curve[len(sessions)]
    return [
        Figure(
            "live_density: sessions admitted on one core", len(sessions), "sessions", 10, aim=16, least=True
        ),
        Figure(
            "live_density: finals beyond the silence, full, p50", quantile(whole.finals, 0.5) * 1000, "ms"
        ),
        Figure("live_density: the same, p95", quantile(whole.finals, 0.95) * 1000, "ms", 500),
        Figure(
            "live_density: partials behind the audio, full, p50", quantile(whole.partials, 0.5) * 1000, "ms"
        ),
        Figure("live_density: words lost", _lost(sessions, alone), "%", 1),
        Figure("live_density: the worker's core", busy, "%"),
    ]


async def _undisturbed(server: Server, said: Sequence[bytes]) -> list[list[str]]:
    """The words of each clip where nobody else speaks."""
    samples, turns = conversation(said)
    told = Told()
    async with LiveClient(f"http://{server.address}", **QUERY) as live:
        await hold(live, samples, STEP_S, told, speed=FAST)
    return _words(told, turns)


def _words(told: Told, turns: Sequence[Turn]) -> list[list[str]]:
    """What was heard in each turn."""
    texts = told.texts()
    return [
        tokens(" ".join(text for middle, text in texts if turn.start <= middle < turn.end), "en")
        for turn in turns
    ]


def _lost(sessions: Sequence[Session], alone: Sequence[Sequence[str]]) -> float:
    """Percent of the words of finished turns that are missing."""
    missing = length = 0
    for one in sessions:
        heard = max((at for at, _ in one.told.events), default=0) - one.told.began
        done = [turn for turn in one.turns if turn.end < heard]
        for turn, words in zip(done, _words(one.told, done), strict=True):
            expected = alone[turn.clip]
            length += len(expected)
            missing += jiwer.process_words(" ".join(expected), " ".join(words)).deletions if expected else 0
    return missing / length * 100 if length else float("nan")


def _curve(sessions: Sequence[Session], counts: Sequence[tuple[float, int]]) -> dict[int, Plateau]:
    """What came while there were so many sessions."""
    curve = {count: Plateau() for _, count in counts}

    def then(at: float) -> Plateau:
        return curve[max((count for began, count in counts if began <= at), default=1)]

    for one in sessions:
        for at, late in one.told.finals():
            then(at).finals.append(late)
        for at, late in one.told.partials():
            then(at).partials.append(late)
    return curve


def _show(curve: dict[int, Plateau]) -> None:
    print("sessions  finals p50 p95 ms  partials p50 p95 ms", file=sys.stderr)
    for count, one in curve.items():
        late = [
            quantile(values, share) * 1000 for values in (one.finals, one.partials) for share in (0.5, 0.95)
        ]
        print(f"{count:>8}  " + "  ".join(f"{value:8.0f}" for value in late), file=sys.stderr)


@contextlib.contextmanager
def _worker(server: Server, core: int) -> Iterator[None]:
    """A worker on one core, as long as the context lasts."""
    command = [DALSTON, "engine", "start", "faster-whisper", "--data", str(server.data)]
    with (server.data / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=environment() | {"DALSTON_PRELOAD": MODEL},
            preexec_fn=lambda: os.sched_setaffinity(0, [core]),
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)


def _process() -> psutil.Process:
    """The worker, which this process has started."""
    for process in psutil.Process().children(recursive=True):
        if any("faster-whisper" in part and part.endswith("engine.py") for part in process.cmdline()):
            return process
    raise Failed("the worker is not there")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
