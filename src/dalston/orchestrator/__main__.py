"""`python -m dalston.orchestrator`: one orchestrator, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from dalston_engine.errors import DalstonError
from dalston_engine.process import follow_parent, log_to_stderr

from dalston import settings as settings_
from dalston.orchestrator.leftovers import Leftovers
from dalston.orchestrator.loop import Orchestrator
from dalston.orchestrator.notices import Notices
from dalston.store.client import connect, wait_until_up
from dalston.store.events import Events
from dalston.store.files import Files
from dalston.store.jobs import Jobs
from dalston.store.keeping import Keeping
from dalston.store.webhooks import Webhooks


async def main() -> None:
    settings = settings_.load()
    redis = connect(settings.redis_url)
    await wait_until_up(redis)
    files = Files(settings.folder)
    jobs = Jobs(redis, files, Events(redis), settings.keep, settings.retention_s)
    webhooks, pauses = Webhooks(settings.folder), settings.webhook_pauses
    notices = Notices(redis, files, webhooks, settings.allow_addresses, pauses)
    leftovers = Leftovers(redis, Keeping(settings.folder), settings.live_grace_s, settings.retention_s)
    one = Orchestrator(redis, files, jobs, settings.engine_absent_s, notices, leftovers)
    running = asyncio.ensure_future(one.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        await redis.aclose()


if __name__ == "__main__":
    follow_parent()
    log_to_stderr()
    try:
        asyncio.run(main())
    except DalstonError as error:
        sys.exit(f"orchestrator: {error.message}")
