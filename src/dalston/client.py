"""The native API from Python, as `dalston.Client`; the command line uses it too.

    async with dalston.Client() as client:
        job = await client.transcribe("talk.mp3", language="en")
        print(job["text"])

Jobs are what the server answers: dictionaries, see `GET /v1/audio/transcriptions/{id}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx2
import msgspec
from dalston_engine.errors import DalstonError

URL = "http://127.0.0.1:8765"
PATH = "/v1/audio/transcriptions"
SESSIONS = "/v1/realtime/sessions"
_ID = re.compile("[0-9a-f]{1,64}")
ENDED = {"completed", "failed", "cancelled"}
FOLLOW_S = 0.4
"""How long one look at a running job may take; its end is told at once."""
PAUSES = 0.2, 1.0, 3.0, 9.0, 27.0
"""In seconds, before a recording is sent again to a gateway that could not take it."""
AGAIN_S = 0.2
"""The pause before a gateway that has ended is asked again."""


class ServerSaid(DalstonError):
    """The server refused, or a job did not complete; `code` and `status` are the server's."""


class NoServer(DalstonError):
    """No server is running."""

    code, retryable = "no_server", False


class HungUp(DalstonError):
    """The gateway ended before it answered; the server starts it again, and accepted jobs go on."""

    code = "hung_up"


class Client:
    """Calls to one server; raises ServerSaid for a refusal, NoServer or HungUp for no answer."""

    def __init__(self, url: str = URL, api_key: str = "") -> None:
        api_key = api_key.strip()
        self.url, timeout = url, httpx2.Timeout(None)
        headers = {"x-dalston-api": "native"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._http = httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=timeout, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    # Keys

    async def make_key(self, **fields: Any) -> Any:
        """Make an access key; its `secret` is told this once. `fields`: name, scopes, owner, limits."""
        return _read(await self._send("POST", "/v1/keys", json=fields))

    async def keys(self) -> Any:
        """Every access key, without its secret."""
        return _read(await self._send("GET", "/v1/keys"))["keys"]

    async def revoke_key(self, id: str) -> None:
        """Let an access key open nothing any more."""
        _read(await self._send("DELETE", f"/v1/keys/{quote(id, safe='')}"))

    # Webhooks

    async def make_webhook(
        self, url: str, name: str = "webhook", headers: dict[str, str] | None = None
    ) -> Any:
        """Register an address that is told when jobs end; its `secret` is told this once."""
        fields = {"url": url, "name": name, "headers": headers or {}}
        return _read(await self._send("POST", "/v1/webhooks", json=fields))

    async def webhooks(self) -> Any:
        """The registered webhooks, with their last failures."""
        return (await self.ask("/v1/webhooks"))["webhooks"]

    async def delete_webhook(self, id: str) -> None:
        """Tell this address nothing any more."""
        _read(await self._send("DELETE", f"/v1/webhooks/{quote(id, safe='')}"))

    async def webhook_secret(self) -> str:
        """What deliveries to addresses that are not registered are signed with."""
        return str((await self.ask("/v1/webhooks/secret"))["secret"])

    async def deliveries(self, job: str | None = None) -> Any:
        """A job's deliveries, or those that were given up."""
        return (await self.ask("/v1/webhooks/deliveries", job=job))["deliveries"]

    async def replay(self, delivery: str | None = None) -> Any:
        """Make a delivery again, or all that were given up; returns them."""
        one = f"/{quote(delivery, safe='')}" if delivery else ""
        told = _read(await self._send("POST", f"/v1/webhooks/deliveries{one}/replay"))
        return [told] if delivery else told["deliveries"]

    # Recordings

    async def submit(self, path: str | os.PathLike[str], **fields: Any) -> Any:
        """Upload a recording; returns its job at once. `fields` are the form's: model, language, …

        Where the gateway falls meanwhile, or has no Redis, it is sent again, and is one job all the same.
        """
        key, again = {"idempotency-key": secrets.token_hex(16)}, {HungUp.code, "unavailable"}
        for pause in PAUSES:
            try:
                return await self._submit(path, fields, key)
            except (HungUp, NoServer, ServerSaid) as error:
                if error.code not in again:
                    raise
                again = {HungUp.code, NoServer.code, "unavailable"}  # it has been there
            await asyncio.sleep(pause)
        return await self._submit(path, fields, key)

    async def transcribe(self, path: str | os.PathLike[str], **fields: Any) -> Any:
        """Upload a recording and wait; returns the completed job, or raises ServerSaid saying why not."""
        job = await self.follow((await self.submit(path, **fields))["id"])
        if job["state"] == "completed":
            return job
        error = job.get("error") or {"code": "cancelled", "message": f"Job {job['id']} was cancelled."}
        raise ServerSaid(error["message"], code=error["code"], status=error.get("status", 0))

    # Jobs

    async def job(self, id: str, wait: float = 0, format: str = "json") -> Any:
        """A job after at most `wait` seconds; `format`: json or verbose."""
        return await self.ask(_path(id), wait=wait, format=format)

    async def follow(self, id: str, seen: Callable[[Any], None] = lambda _: None) -> Any:
        """A job once it has ended, however long that takes; `seen` is told of every look at it."""
        while True:
            found = await self.job(id, wait=FOLLOW_S)
            seen(found)
            if found["state"] in ENDED:
                return found

    async def export(self, id: str, format: str, **options: Any) -> bytes:
        """A completed job's transcript alone: text, srt, vtt, txt, segments, html, docx or pdf.

        `options`: include_speakers, max_characters_per_line, …, see `GET /v1/audio/transcriptions/{id}`.
        """
        answer = await self._patient(_path(id), format=format, **options)
        return answer.content

    async def stage(self, id: str, stage: str) -> Any:
        """What a stage's tasks have left so far."""
        return await self.ask(_path(id), stage=stage)

    async def jobs(self, limit: int | None = None, **filters: Any) -> AsyncIterator[Any]:
        """Jobs, newest first, page by page; filters: state, created_after, created_before."""
        query: dict[str, Any] = {"limit": min(1000 if limit is None else limit, 1000), **filters}
        told = 0
        while limit is None or told < limit:
            page = await self.ask(PATH, **query)
            for job in page["jobs"]:
                yield job
                told += 1
                if told == limit:
                    return
            if "next" not in page:
                return
            query["after"] = page["next"]

    async def cancel(self, id: str) -> Any:
        """End a job now and keep it."""
        return _read(await self._send("POST", _path(id) + "/cancel"))

    async def retry(self, id: str) -> Any:
        """Run again what did not complete of a failed or cancelled job."""
        return _read(await self._send("POST", _path(id) + "/retry"))

    async def delete(self, id: str) -> None:
        """Remove a job with its recording and its transcript."""
        _read(await self._send("DELETE", _path(id)))

    # Live sessions; `LiveClient` holds one

    async def live_status(self) -> Any:
        """How many live sessions there are, and how many more there could be."""
        return await self.ask("/v1/realtime/status")

    async def live_session(self, id: str) -> Any:
        """A live session with what was said in it so far."""
        return await self.ask(_path(id, SESSIONS))

    async def delete_live_session(self, id: str) -> None:
        """Remove what was kept of a live session."""
        _read(await self._send("DELETE", _path(id, SESSIONS)))

    # The server

    async def engines(self) -> Any:
        """The engines that run."""
        return (await self.ask("/v1/engines"))["engines"]

    async def load(self, engine: str) -> Any:
        """How much waits and runs for an engine."""
        return await self.ask(f"/v1/engines/{quote(engine, safe='')}/load")

    async def dead_letters(self, limit: int = 100) -> Any:
        """The tasks that were given up, newest first."""
        return (await self.ask("/v1/dead-letters", limit=limit))["dead_letters"]

    async def ready(self, wait: float = 0, **query: Any) -> None:
        """Return once a recording would be transcribed; raises ServerSaid saying what is missing."""
        await self.ask("/ready", wait=wait, **query)

    async def events(self, job: str | None = None, after: str | None = None) -> AsyncIterator[Any]:
        """Every change of a job or a task as it happens; goes on where it was when the gateway falls."""
        while True:
            headers = {"last-event-id": after} if after else {}
            query = {"job": job} if job else {}
            with contextlib.suppress(HungUp):
                async with self._stream("/v1/events", query, headers) as lines:
                    async for line in lines:
                        if line.startswith("data: "):
                            change = msgspec.json.decode(line.removeprefix("data: "))
                            after = change["id"]
                            yield change
            await asyncio.sleep(AGAIN_S)

    async def ask(self, path: str, **query: Any) -> Any:
        """GET a path as JSON, again if the gateway falls meanwhile."""
        return _read(await self._patient(path, **query))

    async def _submit(
        self, path: str | os.PathLike[str], fields: dict[str, Any], headers: dict[str, str]
    ) -> Any:
        with Path(path).open("rb") as file:  # noqa: ASYNC230
            name = os.fsencode(Path(path).name).decode(errors="replace")
            content = {"data": _texts(fields), "files": {"file": (name, file)}, "headers": headers}
            return _read(await self._send("POST", PATH, **content))

    async def _patient(self, path: str, **query: Any) -> httpx2.Response:
        while True:
            with contextlib.suppress(HungUp):
                answer = await self._send("GET", path, params=_texts(query))
                if not answer.is_success:
                    _read(answer)
                return answer
            await asyncio.sleep(AGAIN_S)

    async def _send(self, method: str, path: str, **content: Any) -> httpx2.Response:
        with _told(self.url):
            return await self._http.request(method, path, **content)

    @contextlib.asynccontextmanager
    async def _stream(
        self, path: str, query: dict[str, str], headers: dict[str, str]
    ) -> AsyncIterator[AsyncIterator[str]]:
        with _told(self.url):
            async with self._http.stream("GET", path, params=query, headers=headers) as answer:
                if not answer.is_success:
                    await answer.aread()
                    _read(answer)
                yield answer.aiter_lines()


@contextlib.contextmanager
def _told(url: str) -> Any:
    """Errors of the connection as ours."""
    try:
        yield
    except httpx2.LocalProtocolError:
        raise NoServer("This key, or something else of the request, cannot be sent.") from None
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
        raise NoServer(f"{url!r} is no address of a server: write it as {URL}.") from None
    except httpx2.ConnectError:
        raise NoServer(f"No server listens at {url}. Start one with `dalston up`.") from None
    except httpx2.TransportError:
        raise HungUp from None


def _texts(fields: dict[str, Any]) -> dict[str, Any]:
    """Values as forms and queries have them; None is left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}


def _path(id: str, path: str = PATH) -> str:
    """Of a job or a session; raises ServerSaid for what can be no id, and would name another path."""
    if not _ID.fullmatch(id):
        what = "job" if path == PATH else "session"
        raise ServerSaid(f"There is no {what} {id[:40]}.", code="not_found", status=404)
    return f"{path}/{id}"


def _read(answer: httpx2.Response) -> Any:
    try:
        content: Any = msgspec.json.decode(answer.content) if answer.content else None
        if answer.is_success:
            return content
        code, message = content["error"]["code"], content["error"]["message"]
    except (msgspec.DecodeError, KeyError, TypeError):
        message = f"{answer.url.host} answered with status {answer.status_code}, but not as Dalston does."
        code = "no_dalston"
    raise ServerSaid(message, code=code, status=answer.status_code)
