"""Live connections of every dialect: one loop that carries out what a `Talk` asks for.

A client may be slow, silent, gone or hostile; its session notices no more of that than it must.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlsplit

from dalston_engine.errors import DalstonError
from dalston_engine.live import protocol
from dalston_engine.queue import AWAY
from fastapi import APIRouter
from msgspec.structs import replace
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from dalston.dialects import spoken
from dalston.dialects.native_live import NativeTalk
from dalston.errors import BadRequest, Forbidden, Limited, Unauthorized, Unavailable
from dalston.gateway.access import LIVE, Caller, Door
from dalston.gateway.native import error_json
from dalston.gateway.state import State
from dalston.live import (
    Action,
    Audio,
    Begin,
    Change,
    Clear,
    Configure,
    End,
    Flush,
    Hang,
    Resume,
    Say,
    Talk,
    Trouble,
)
from dalston.realtime.outbox import Outbox
from dalston.realtime.session import LiveSession
from dalston.realtime.sessions import Sessions
from dalston.settings import Settings
from dalston.store.access_keys import Limits
from dalston.store.jobs import new_id

router = APIRouter()
TEXT_BYTES, BINARY_BYTES = 16 * 2**20, 2**20
"""The longest messages."""
LAST_S = 5.0
"""How long a client that hangs up is told what it has asked for before."""
STALLED_S = 30.0
"""Whoever takes nothing of what is sent for so long is gone."""
HUNG_UP = {1000, 1001, 1005}
"""The codes of clients that are done; one that is lost may come back."""
CLOSES = {"taken": (1008, "The session was taken up elsewhere."), "restart": (1012, "The server restarts."),
          "stalled": (1008, "Nothing was read for too long."), "broken": (1011, "")}  # fmt: skip
"""How connections are closed that do not end with their session."""


@router.websocket("/v1/audio/transcriptions/stream")
async def stream(websocket: WebSocket) -> None:
    """The native dialect."""
    await converse(websocket, NativeTalk(websocket.query_params.multi_items()))


async def converse(websocket: WebSocket, talk: Talk) -> None:
    """Serve one connection until either side hangs up."""
    line = Line(websocket, talk)
    caller: Caller | None = None
    try:
        try:
            async with _known_errors():
                caller = await _let_in(websocket)
        except DalstonError as error:
            await line.refuse(error)
            return
        if talk.accepting:
            await line.accept()
        await Conversation(websocket, talk, line, caller).run()
    except WebSocketDisconnect:
        pass


class Gone(Exception):
    """The connection is to be, or was, closed."""


class Line:
    """What goes to a client, in its order, one message at a time."""

    def __init__(self, websocket: WebSocket, talk: Talk) -> None:
        self._websocket, self._talk = websocket, talk
        self.accepted = self.closed = False
        self._turn = asyncio.Lock()

    async def accept(self) -> None:
        """Open it."""
        if not self.accepted:
            await self._websocket.accept(self._talk.protocol)
            self.accepted = True

    async def refuse(self, error: DalstonError) -> None:
        """Tell somebody that he does not get in, or why it cannot go on, and hang up."""
        if not self.accepted and not self._talk.accepting:
            headers = {"retry-after": str(math.ceil(error.retry_after))} if isinstance(error, Limited) else {}
            if isinstance(error, Unauthorized):
                headers["www-authenticate"] = "Bearer"
            self.closed = True
            await self._websocket.send_denial_response(self._denial(error, headers))
            return
        await self.accept()
        with contextlib.suppress(Gone):
            await self.say(self._talk.failed(error))
            await self.close(code_of(error.status, error.retryable))

    def _denial(self, error: DalstonError, headers: dict[str, str]) -> Response:
        """An error as the handshake's answer, in the client's dialect."""
        path, request = self._websocket.url.path, self._websocket.scope.get("request_id", "")
        if dialect := spoken(path, self._websocket.headers):
            answer = dialect.error(error, request)
            return Response(answer.content, answer.status, answer.headers | headers, answer.type)
        return Response(error_json(error), error.status, headers, "application/json")

    async def say(self, messages: Iterable[str | Hang]) -> None:
        """Send messages; raises Gone after a `Hang`, or when nobody reads."""
        async with self._turn:
            for message in messages:
                if self.closed:
                    raise Gone
                if isinstance(message, Hang):
                    await self._close(message.code, message.reason)
                    return
                try:
                    async with asyncio.timeout(STALLED_S):
                        await self._websocket.send_text(message)
                except (TimeoutError, WebSocketDisconnect, RuntimeError):
                    self.closed = True
                    raise Gone from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Hang up; raises Gone."""
        async with self._turn:
            await self._close(code, reason)

    async def _close(self, code: int, reason: str) -> None:
        if not self.closed:
            self.closed = True
            with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
                async with asyncio.timeout(STALLED_S):
                    await self._websocket.close(code, reason)
        raise Gone


class Conversation:
    """One connection's session."""

    def __init__(self, websocket: WebSocket, talk: Talk, line: Line, caller: Caller) -> None:
        self._websocket, self._talk, self._line, self._caller = websocket, talk, line, caller
        self._sessions: Sessions = websocket.app.state.live
        self._session: LiveSession | None = None
        self._outbox: Outbox | None = None
        self._begun, self._told = asyncio.Event(), asyncio.Event()

    @property
    def _own(self) -> LiveSession | None:
        """Its session, unless another connection has taken that up."""
        session = self._session
        return session if session is not None and session.outbox is self._outbox else None

    async def run(self) -> None:
        """Carry out what the client asks for, until it is gone or its session over."""
        try:
            with contextlib.suppress(Gone):
                await self._begin()
                await self._go_on()
        finally:
            if self._session is not None and self._outbox is not None:
                self._session.part(self._outbox)

    async def _begin(self) -> None:
        try:
            async with _known_errors():
                for action in self._talk.began():
                    await self._do(action)
        except DalstonError as error:
            await self._line.refuse(error)
            raise Gone from None
        await self._line.accept()

    async def _go_on(self) -> None:
        """Hear and tell, until either is done."""
        tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._tell())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Gone):
                task.result()

    async def _hear(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                if message.get("code") in HUNG_UP and self._own is not None:
                    self._own.end()
                    await self._settle()
                return
            binary = message.get("bytes")
            content: str | bytes = (message.get("text") or "") if binary is None else binary
            if len(content) > (TEXT_BYTES if isinstance(content, str) else BINARY_BYTES):
                if self._own is not None:
                    self._own.end()
                await self._line.close(1009, "The message is too long.")
            try:
                async with _known_errors():
                    for action in self._talk.heard(content):
                        await self._do(action)
            except DalstonError as error:
                if self._session is None:
                    await self._line.refuse(error)
                    return
                await self._line.say(self._talk.failed(error))

    async def _settle(self) -> None:
        """Give a client that hangs up what it has asked for, if it comes soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                while self._talk.owing:
                    self._told.clear()
                    await self._told.wait()

    async def _tell(self) -> None:
        await self._begun.wait()
        outbox, code = self._outbox, 1000
        if outbox is None:
            return
        async for event in outbox.events():
            await self._line.say(self._talk.told(event))
            self._told.set()
            if isinstance(event, Trouble) and event.fatal:
                code = code_of(event.status)
        await self._line.close(*CLOSES.get(outbox.reason, (code, "")))

    async def _do(self, action: Action) -> None:
        match action:
            case Begin() | Resume():
                await self._take(action)
            case Say():
                await self._line.accept()
                await self._line.say([action.message])
            case Hang():
                if self._own is not None:
                    self._own.end()
                await self._line.close(action.code, action.reason)
            case _ if self._own is not None:
                await self._pass_on(self._own, action)
            case _ if self._outbox is None:
                raise BadRequest("No session has begun.", code="bad_message")

    async def _take(self, action: Begin | Resume) -> None:
        if self._outbox is not None:
            raise BadRequest("This connection has its session already.", code="bad_message")
        if isinstance(action, Begin):
            state: State = self._websocket.app.state.dalston
            caller, id = self._caller, new_id()
            async with state.line.passed(caller, id) as place:
                key = "" if caller.limits == Limits() else caller.key
                begun = await self._sessions.begin(action.request, caller.owner, key, id)
                self._session, self._outbox = begun
                place.kept = True
        else:
            asked = action.session, action.after, self._caller.sees
            self._session, self._outbox = await self._sessions.resume(*asked)
        self._begun.set()

    async def _pass_on(self, session: LiveSession, action: Action) -> None:
        match action:
            case Audio():
                await session.audio(action.content)
            case Flush():
                session.ask(protocol.Flush(action.id))
            case Configure():
                await session.configure(action.options)
            case Change():
                await session.configure(replace(session.request.options, **action.values))
            case Clear():
                session.ask(protocol.Clear())
            case End():
                session.end()


def code_of(status: int, retryable: bool = False) -> int:
    """The code of a connection that is closed because of an error."""
    return 1013 if retryable or status in (429, 503) else 1011 if status >= 500 else 1008


def fields(websocket: WebSocket) -> dict[str, list[str]]:
    """The query: every field with its texts in order."""
    return {name: websocket.query_params.getlist(name) for name in websocket.query_params}


async def _let_in(websocket: WebSocket) -> Caller:
    """Who it is that connects; raises Unauthorized, Forbidden, Limited."""
    door: Door = websocket.app.state.door
    _refuse_pages(websocket, door.settings)
    caller = await door.caller(websocket)
    caller.require(*LIVE)
    return caller


def _refuse_pages(websocket: WebSocket, settings: Settings) -> None:
    """Raise Forbidden for a page from elsewhere in a browser, where no key is needed."""
    origin = websocket.headers.get("origin")
    if origin is None or settings.keyed or {origin, "*"} & set(settings.origins):
        return
    if urlsplit(origin).netloc != websocket.headers.get("host"):
        told = "Pages of this origin may not connect: name it in the setting cors_origins."
        raise Forbidden(told, code="origin_refused")


@contextlib.asynccontextmanager
async def _known_errors() -> AsyncIterator[None]:
    """Raise what keeps Redis from answering as an error for clients."""
    try:
        yield
    except AWAY:
        told = "The server's Redis cannot be reached or takes no writes; try again soon."
        raise Unavailable(told) from None
