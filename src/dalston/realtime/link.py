"""The connection to one worker, for one attachment of one session."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
from dalston_engine.live.protocol import Failed, Open, Opened, Report, encode, reports
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from dalston.store.live import Place

CONNECT_S = 2.0
OPEN_S = 3.0
"""How long a worker may take to open a session: its model is there."""


class Lost(Exception):
    """The worker cannot be reached, hung up, or says what is no report."""


class Refused(Lost):
    """The worker says that this cannot go on."""

    def __init__(self, failed: Failed) -> None:
        self.failed = failed
        super().__init__(failed.code)


class Link:
    """An open attachment."""

    def __init__(self, place: Place, socket: ClientConnection) -> None:
        self.place, self._socket = place, socket

    @classmethod
    async def open(cls, place: Place, asked: Open) -> Link:
        """Attach the session; raises Lost."""
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await connect(
                    place.address,
                    additional_headers={"authorization": f"Bearer {place.secret}"},
                    compression=None,
                    proxy=None,
                    max_size=2**20,
                    ping_interval=None,
                    close_timeout=1,
                )
        except (OSError, WebSocketException, ValueError) as error:
            raise Lost(type(error).__name__) from None
        link = cls(place, socket)
        try:
            async with asyncio.timeout(OPEN_S):
                await socket.send(encode(asked).decode())
                told = await link.report()
        except TimeoutError:
            await link.close()
            raise Lost("TimeoutError") from None
        except (Lost, asyncio.CancelledError):
            link.drop()
            raise
        except WebSocketException as error:
            await link.close()
            raise Lost(type(error).__name__) from None
        if not isinstance(told, Opened):
            await link.close()
            raise Refused(told) if isinstance(told, Failed) else Lost("no Opened")
        return link

    async def send(self, message: bytes | str) -> None:
        """Send audio, or a command's text; waits while the worker does not read. Raises Lost."""
        try:
            await self._socket.send(message)
        except WebSocketException as error:
            raise Lost(type(error).__name__) from None

    async def report(self) -> Report:
        """What the worker says next; raises Lost."""
        try:
            return reports.decode(await self._socket.recv())
        except WebSocketException as error:
            raise Lost(type(error).__name__) from None
        except msgspec.MsgspecError:
            raise Lost("no report") from None

    def drop(self) -> None:
        """Cut the connection, whatever the worker does."""
        self._socket.transport.abort()

    async def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(WebSocketException, OSError):
            await self._socket.close()
