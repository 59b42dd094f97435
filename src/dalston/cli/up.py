"""`dalston up`: the server in the foreground."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from dalston_engine.process import log_to_stderr

from dalston import settings as settings_
from dalston.cli.output import say
from dalston.client import Client
from dalston.local.server import engine_ids, running

START_S = 120


async def serve(**given: Any) -> None:
    """Start everything, say when it is ready, stop everything at SIGINT or SIGTERM."""
    log_to_stderr()
    settings = settings_.load(**given)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings, say) as (server, _):
        ready = asyncio.create_task(_announce(server.url, engine_ids(settings)))
        await stop.wait()
        ready.cancel()


async def _announce(url: str, engines: list[str]) -> None:
    async with Client(url) as client:
        await client.ready(wait=START_S, engines=",".join(engines))
    say(f"dalston is ready at {url}  ({', '.join(engines)})")
