"""Every request gets an id, which its answer carries."""

from __future__ import annotations

import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = ("x-request-id", "x-trace-id")
"""What the vendors' clients read it from."""

REPLAYED = "idempotent-replayed"
"""Tells that the request was sent before, and that this is the job it was then."""


class Numbered:
    """Middleware that numbers requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        number = scope["request_id"] = secrets.token_hex(12)

        async def numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in HEADERS:
                    headers[name] = number
                if scope.get("replayed"):
                    headers[REPLAYED] = "true"
            await send(message)

        await self.app(scope, receive, numbered)
