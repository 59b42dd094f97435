"""Who calls: every request has a caller, who owns the jobs it submits and sees no others'.

On loopback nobody needs a key, and whatever a client sends as one is ignored unless it is one of
ours. Anywhere else a key, or a single-use token, is needed for all but the health checks.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from fastapi import Depends
from msgspec import Struct
from starlette.requests import HTTPConnection

from dalston.errors import Forbidden, Limited, Unauthorized
from dalston.settings import Settings
from dalston.store.access_keys import MARK, SCOPES, AccessKeys, Limits
from dalston.store.client import Client
from dalston.store.tokens import EPHEMERAL, spend

OPEN = {"/health", "/ready"}
"""What anybody may ask."""
OFFERED = "openai-insecure-api-key."
"""How a browser's WebSocket, which sends no headers, brings a key: among the subprotocols that it offers."""
FAILURES, WINDOW_S, REMEMBERED = 10, 60.0, 10_000
"""How many failures an address may have in how long, and of how many addresses they are counted."""


class Caller(Struct, frozen=True):
    """Who sends a request, and what he may."""

    owner: str
    """The owner of the jobs he submits."""
    scopes: frozenset[str] = frozenset(SCOPES)
    key: str = ""
    """The id of the access key; empty for none."""
    limits: Limits = Limits()
    token: bool = False
    """Whether he came with a token, which opens less than a key and makes no others."""

    @property
    def sees(self) -> str | None:
        """Whose jobs he sees; None: everybody's."""
        return None if "admin" in self.scopes else self.owner

    def require(self, *scopes: str) -> None:
        """Raise Forbidden unless he has one of these scopes, or is an admin."""
        if not {*scopes, "admin"} & self.scopes:
            raise Forbidden(f"This key may not do this: it lacks the scope {' or '.join(scopes)}.")

    def may_issue(self, *scopes: str) -> None:
        """Raise Forbidden unless he may make tokens with one of these scopes."""
        self.require(*scopes)
        if self.token:
            raise Forbidden("A token makes no tokens: use a key.")

    @staticmethod
    def of(request: HTTPConnection) -> Caller:
        """The caller of a request."""
        caller: Caller = request.scope.get("caller", LOCAL)
        return caller


LOCAL = Caller("local")
"""Whoever reaches a server that listens on loopback, where no key is needed."""
ADMIN = Caller("admin")
"""Who has the key of the setting `admin_key`."""


class Door:
    """Lets callers in."""

    def __init__(self, settings: Settings, redis: Client) -> None:
        self.settings, self.redis = settings, redis
        self.keys, self.failures = AccessKeys(settings.folder), Failures()

    async def caller(self, request: HTTPConnection) -> Caller:
        """Who sends the request; raises Unauthorized, or Limited after too many failures."""
        address = request.client.host if request.client else ""
        secret = secret_of(request)
        token = secret if secret.startswith(EPHEMERAL) else request.query_params.get("token")
        ours = secret.startswith(MARK)  # official clients send something in any case
        if not token and not ours and not self.settings.keyed:
            return LOCAL
        found = await (self._by_token(token) if token and not ours else self._by_key(secret))
        if found is None:
            self.failures.refuse(address)
            self.failures.note(address)
            raise Unauthorized()
        return found

    async def _by_key(self, secret: str) -> Caller | None:
        found = await asyncio.to_thread(self.keys.find, secret)
        if hmac.compare_digest(secret.encode(), self.settings.admin_key.encode()) and self.settings.admin_key:
            return ADMIN
        return Caller(found.owner, frozenset(found.scopes), found.id, found.limits) if found else None

    async def _by_token(self, secret: str) -> Caller | None:
        found = await spend(self.redis, secret)
        return Caller(found.owner, frozenset(found.scopes), found.key, found.limits, True) if found else None


class Failures:
    """Failed attempts by address, for a while; a valid key is let in from anywhere."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def refuse(self, address: str) -> None:
        """Raise Limited for an address with too many failures."""
        began, count = self._counts.get(address, (0.0, 0))
        left = began + WINDOW_S - time.monotonic()
        if count >= FAILURES and left > 0:
            raise Limited("Too many failed attempts from this address; try again later.", retry_after=left)

    def note(self, address: str) -> None:
        """Count one failure."""
        began, count = self._counts.pop(address, (0.0, 0))
        now = time.monotonic()
        self._counts[address] = (began, count + 1) if now < began + WINDOW_S and count else (now, 1)
        while len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)


async def authenticated(request: HTTPConnection) -> None:
    """Know the caller of every request, before anything else of it is looked at."""
    if request.scope["type"] == "http" and request.url.path not in OPEN:  # sockets tell it in their dialect
        door: Door = request.app.state.door
        request.scope["caller"] = await door.caller(request)


def needs(*scopes: str) -> Callable[[HTTPConnection], Awaitable[None]]:
    """A dependency: the caller has one of these scopes, or is an admin; raises Forbidden."""

    async def check(request: HTTPConnection) -> None:
        Caller.of(request).require(*scopes)

    return check


TRANSCRIBE, ADMINISTER = Depends(needs("transcribe")), Depends(needs("admin"))
LIVE = ("realtime", "transcribe")
"""The scopes of which one opens live sessions."""


def secret_of(request: HTTPConnection) -> str:
    """The key that a request carries, in whichever header; empty when there is none."""
    if given := request.headers.get("xi-api-key"):
        return given
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return secret.strip()
    offered = [one.strip() for one in request.headers.get("sec-websocket-protocol", "").split(",")]
    return next((one.removeprefix(OFFERED) for one in offered if one.startswith(OFFERED)), "")
