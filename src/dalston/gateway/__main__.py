"""`python -m dalston.gateway`: one gateway, on DALSTON_SOCKET_FD or on DALSTON_HOST and _PORT."""

from __future__ import annotations

import os
import resource
import socket
import sys

import uvicorn
from dalston_engine.errors import DalstonError
from dalston_engine.process import follow_parent, log_to_stderr

from dalston import settings as settings_
from dalston.gateway.app import create_app
from dalston.gateway.connections import Connection
from dalston.gateway.live import TEXT_BYTES
from dalston.gateway.sockets import Lasting
from dalston.store.access_keys import AccessKeys


class Server(uvicorn.Server):
    """Waits for its callers when it is asked to stop, but not for those who follow events."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        state = self.config.app.state  # type: ignore[union-attr]
        state.dalston.events.close()
        await state.live.close()
        await super().shutdown(sockets)


def main() -> None:
    settings = settings_.load()
    settings_.refuse_open(settings, bool(AccessKeys(settings.folder).all()))
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # as many connections as may be
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws=Lasting,
        ws_max_size=TEXT_BYTES + 1024,
        ws_per_message_deflate=False,
        ws_ping_interval=20,
        ws_ping_timeout=60,  # what answers a ping waits behind all that was sent before
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    descriptor = os.environ.get("DALSTON_SOCKET_FD")
    listening = [socket.socket(fileno=int(descriptor))] if descriptor else None
    Server(config).run(sockets=listening)


if __name__ == "__main__":
    follow_parent()
    log_to_stderr()
    try:
        main()
    except DalstonError as error:
        sys.exit(f"gateway: {error.message}")
