"""`python -m dalston.gateway`: one gateway, on DALSTON_SOCKET_FD or on DALSTON_HOST and _PORT."""

from __future__ import annotations

import os
import resource
import socket

import uvicorn
from dalston_engine.process import follow_parent, log_to_stderr

from dalston import settings as settings_
from dalston.gateway.app import create_app
from dalston.gateway.connections import Connection


def main() -> None:
    settings = settings_.load()
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # as many connections as may be
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=Connection,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    descriptor = os.environ.get("DALSTON_SOCKET_FD")
    listening = [socket.socket(fileno=int(descriptor))] if descriptor else None
    uvicorn.Server(config).run(sockets=listening)


if __name__ == "__main__":
    follow_parent()
    log_to_stderr()
    main()
