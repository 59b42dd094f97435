"""The API as the command line uses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from dalston_engine.errors import DalstonError

from dalston.local.server import holder
from dalston.settings import Settings

FOLLOW_S = 0.4
"""How long one look at a running job may take; its end is told at once."""
AGAIN_S = 0.2
"""The pause before a gateway that has ended is asked again."""


class ServerSaid(DalstonError):
    """The server refused."""


class NoServer(DalstonError):
    """No server is running."""

    code, retryable = "no_server", False


class HungUp(DalstonError):
    """The gateway ended before it answered; the server starts it again, and accepted jobs go on."""

    code = "hung_up"


def address(settings: Settings) -> str:
    """Where the server of this data folder listens; raises NoServer."""
    running = holder(settings.folder)
    if running is None:
        raise NoServer(f"No server runs for {settings.folder}. Start one with `dalston up`.")
    return running.url


class Client(httpx2.AsyncClient):
    """Calls to one server; raises ServerSaid for a refusal, NoServer or HungUp for no answer."""

    def __init__(self, url: str) -> None:
        headers = {"x-dalston-api": "native"}
        super().__init__(base_url=url, headers=headers, timeout=httpx2.Timeout(None), trust_env=False)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request, as every call does."""
        try:
            return await super().send(request, **options)
        except httpx2.ConnectError:
            raise NoServer(f"No server listens at {self.base_url} any more.") from None
        except httpx2.TransportError:
            raise HungUp from None

    async def ask(self, path: str, **query: Any) -> Any:
        """GET a path as JSON, again if the gateway falls meanwhile."""
        while True:
            with contextlib.suppress(HungUp):
                return self._answer(await self.get(path, params=query))
            await asyncio.sleep(AGAIN_S)

    async def tell(self, method: str, path: str) -> Any:
        """Send a request without a body; its answer as JSON, or None."""
        return self._answer(await self.request(method, path))

    async def submit(self, path: Path, fields: dict[str, str]) -> Any:
        """Upload a recording; returns its job."""
        with path.open("rb") as file:
            answer = await self.post(
                "/v1/audio/transcriptions", data=fields, files={"file": (path.name, file)}
            )
        return self._answer(answer)

    async def follow(self, job: str, seen: Callable[[Any], None]) -> Any:
        """The job once it has ended; `seen` is told of every look at it."""
        while True:
            found = await self.ask(f"/v1/audio/transcriptions/{job}", wait=FOLLOW_S)
            seen(found)
            if found["state"] in {"completed", "failed", "cancelled"}:
                return found

    @staticmethod
    def _answer(answer: httpx2.Response) -> Any:
        content: Any = msgspec.json.decode(answer.content) if answer.content else None
        if answer.is_error:
            raise ServerSaid(content["error"]["message"], code=content["error"]["code"])
        return content
