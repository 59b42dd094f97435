"""WebSockets whose client may hang up and still be told what it has asked for.

uvicorn alone answers a client's close at once, after which nothing can be sent. Here the application hears of
it as usual, may go on sending, and the close is answered when it is done.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from dalston.gateway.connections import Socket


class Patient(ServerProtocol):
    """A connection that leaves a client's close unanswered."""

    asked: Frame | None = None
    """The client's close."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CLOSE or self.state is not State.OPEN or self.current_size is not None:
            super().recv_frame(frame)
            return
        self.close_rcvd, self.asked = Close.parse(frame.data), frame
        self.parser = self._ignored()
        next(self.parser)
        self.events.append(frame)

    def _ignored(self) -> Generator[None]:
        """What follows a close is not for reading."""
        while not (yield from self.reader.at_eof()):
            self.reader.discard()
        self.state = State.CLOSED
        yield

    def answer(self) -> None:
        """Close as the client did."""
        if self.asked is not None and self.state is State.OPEN:
            self.send_frame(Frame(Opcode.CLOSE, self.asked.data))
            self.close_sent, self.close_rcvd_then_sent = self.close_rcvd, True
            self.state = State.CLOSING


class Lasting(Socket):
    """One WebSocket."""

    conn: Patient

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = Patient(max_size=self.config.ws_max_size, logger=self.conn.logger)
        self._serve, self.app = self.app, self._served

    async def _served(self, *args: Any) -> None:
        await self._serve(*args)
        if not self.transport.is_closing():
            self.conn.answer()
            self.transport.write(b"".join(self.conn.data_to_send()))
            if self.conn.asked is not None:
                self.transport.close()

    def handle_close(self, event: Frame) -> None:
        asked = self.conn.close_rcvd
        if self.conn.asked is None or asked is None or self.close_sent:
            super().handle_close(event)
        elif not self.transport.is_closing():
            gone = {"type": "websocket.disconnect", "code": asked.code, "reason": asked.reason}
            self.queue.put_nowait(gone)  # type: ignore[arg-type]

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.close" and self.conn.asked is not None:
            self.transport.close()  # both have closed by now
