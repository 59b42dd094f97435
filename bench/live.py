"""How soon a live session has what was said: one session in real time, through the gateway and without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from statistics import median

import msgspec
from dalston_engine import keys
from dalston_engine.live import protocol
from dalston_engine.queue import connect as connect_sync
from websockets.asyncio.client import connect

from bench.conversation import QUERY, RATE, SECOND, Told, clips, conversation, hold, quantile
from bench.figure import Figure
from bench.server import MODEL, Failed, Server, serving, temporary
from dalston import live
from dalston.live_client import LiveClient
from dalston.local import valkey

SECONDS, QUICK_SECONDS = 60, 30
STEP_S = 0.02
"""How much audio a message has: what telephones send."""
START_S = 60


def run(quick: bool) -> Iterator[Figure]:
    """Delays of finals and partials; what the gateway adds to those of the worker alone."""
    with temporary() as folder, serving() as server:
        samples, _ = conversation(clips(folder))
        samples = samples[: (QUICK_SECONDS if quick else SECONDS) * SECOND]
        until_there(server)
        asyncio.run(through(server, samples[: 10 * SECOND]))  # the model is loaded, and the code
        told = asyncio.run(through(server, samples))
        alone = asyncio.run(directly(server, samples))
    finals, partials = ([late for _, late in one] for one in (told.finals(), told.partials()))
    yield Figure("live: end of speech to final, beyond the silence, p50", median(finals) * 1000, "ms", 150)
    yield Figure("live: the same, p95", quantile(finals, 0.95) * 1000, "ms", 300)
    yield Figure("live: partials behind the audio, p50", median(partials) * 1000, "ms", 300)
    added = [ours - own for (_, ours), (_, own) in zip(told.finals(), alone.finals(), strict=False)]
    yield Figure(
        "live: final, directly from the worker, p50", median(one for _, one in alone.finals()) * 1000, "ms"
    )
    yield Figure("live: added to a final by the gateway, p50", median(added) * 1000, "ms", 5)


def until_there(server: Server, model: str = MODEL) -> dict[str, str]:
    """A worker that has a model and is ready, as Redis knows it; raises Failed when none comes."""
    end = time.monotonic() + START_S
    with connect_sync(valkey.url(server.data)) as redis:
        while time.monotonic() < end:
            for worker in redis.zrange(keys.WORKERS(), 0, -1):
                found: dict[str, str] = redis.hgetall(keys.WORKER(worker=worker))
                if model in found.get("models", "") and found.get("state") == "ready":
                    return found
            time.sleep(0.1)
    raise Failed("no live worker came")


async def through(server: Server, samples: bytes) -> Told:
    """A session as any client has it."""
    told = Told()
    async with LiveClient(f"http://{server.address}", **QUERY) as session:
        await hold(session, samples, STEP_S, told)
    return told


async def directly(server: Server, samples: bytes) -> Told:
    """The same audio to the worker, without the gateway."""
    worker, told = until_there(server), Told()
    headers = {"authorization": f"Bearer {worker['secret']}"}
    options = protocol.Options(language="en")
    async with connect(worker["address"], additional_headers=headers, compression=None, proxy=None) as socket:
        opening = protocol.Open("f" * 32, 1, MODEL, sample_rate=RATE, options=options)
        await socket.send(protocol.encode(opening).decode())
        if not isinstance(protocol.reports.decode(await socket.recv()), protocol.Opened):
            raise Failed("the worker did not open a session")

        async def listen() -> None:
            async for message in socket:
                if (event := _event(protocol.reports.decode(message))) is not None:
                    told.events.append((time.monotonic(), event))

        listening = asyncio.create_task(listen())
        told.began, size = time.monotonic(), round(STEP_S * RATE) * 2
        for begin in range(0, len(samples), size):
            due = told.began + (begin + size) / SECOND
            await asyncio.sleep(max(due - time.monotonic(), 0))
            await socket.send(samples[begin : begin + size])
        await socket.send(protocol.encode(protocol.End()).decode())
        await listening
    return told


def _event(report: protocol.Report) -> live.Event | None:
    """A report as a client is told it."""
    match report:
        case protocol.SpeechEnded():
            return live.SpeechEnded(0, report.at)
        case protocol.Final():
            given = msgspec.structs.asdict(report)
            names = [name for name in live.FinalTranscript.__struct_fields__ if name != "seq"]
            return live.FinalTranscript(0, **{name: given[name] for name in names})
    return None
