"""What the gateway's routes share: opened once, at the start of the process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from fastapi import FastAPI, Request

from dalston.gateway.access import Caller, Door
from dalston.gateway.line import Line
from dalston.realtime.sessions import Sessions
from dalston.settings import Settings
from dalston.store.client import Client, connect, wait_until_up
from dalston.store.events import Events
from dalston.store.files import Files
from dalston.store.fleet import Fleet
from dalston.store.jobs import Jobs


@dataclass(frozen=True)
class State:
    """Settings and open stores of one gateway, as a caller may see them."""

    settings: Settings
    redis: Client
    files: Files
    jobs: Jobs
    events: Events
    fleet: Fleet
    line: Line
    clock: Callable[[], float] = field(default=time.time)

    @staticmethod
    def of(request: Request) -> State:
        state: State = request.app.state.dalston
        sees = Caller.of(request).sees
        return state if sees is None else replace(state, jobs=state.jobs.seen_by(sees))


@contextlib.asynccontextmanager
async def opened(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Open everything, and close it in reverse."""
    redis = connect(settings.redis_url)
    await wait_until_up(redis)
    files, events = Files(settings.folder), Events(redis)
    jobs = Jobs(redis, files, events, settings.keep, settings.retention_s)
    line = Line(redis, events, settings.max_jobs)
    app.state.dalston = State(settings, redis, files, jobs, events, Fleet(redis), line)
    app.state.door = Door(settings, redis)
    live = app.state.live = Sessions(redis, settings)
    watching = [asyncio.create_task(events.run()), asyncio.create_task(live.run())]
    try:
        yield
    finally:
        await live.close()
        for task in watching:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await redis.aclose()
