"""Connections as uvicorn alone does not have them.

One that sends no request is closed in time. A WebSocket tells a connection that was lost from one that was
closed, and may be refused without a word in the log.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

LOST = 1006
"""The code of a connection that ended without a close frame."""
HEAD_S = 10
"""Seconds within which a request's line and headers must have come, all of them."""


class Connection(H11Protocol):
    """An HTTP connection that is closed when a request's head is not there in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._relax()
        elif self._overdue is None:  # not anew with every byte
            self._overdue = self.loop.call_later(HEAD_S, self._hang_up)

    def _relax(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _hang_up(self) -> None:
        self._overdue = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self.conn.close_rcvd is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": LOST})
        super().connection_lost(exc)

    def send_receive_event_to_app(self) -> None:
        try:
            if self.curr_msg_data_type == "text":
                b"".join(self.frames).decode()
        except UnicodeDecodeError:  # uvicorn would log the whole trace
            self.frames = []
            self.conn.send_close(1007)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # refused, which completes it as well
