"""`dalston.Client`, as a program uses it."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path
from typing import Any

import pytest

import dalston
from dalston.client import HungUp, NoServer, ServerSaid
from tests.e2e.conftest import Server

pytestmark = pytest.mark.anyio


async def test_a_recording_is_transcribed_in_three_lines(server: Server, meeting: Path) -> None:
    async with dalston.Client(server.url) as client:
        job = await client.transcribe(meeting, model="fake", text="three lines", word_timestamps=True)
        assert job["text"] == "three lines"
        assert await client.export(job["id"], "text") == b"three lines\n"
        (transcribed,) = (await client.stage(job["id"], "transcribe"))["tasks"]
        assert transcribed["engine"] == "fake"


async def test_a_refusal_has_the_servers_code_and_sentence(server: Server, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"nothing")
    async with dalston.Client(server.url) as client:
        with pytest.raises(ServerSaid) as refused:
            await client.transcribe(bad, model="fake")
        assert (refused.value.code, refused.value.status) == ("invalid_audio", 422)
        with pytest.raises(ServerSaid) as unknown:
            await client.export("f00", "srt")
        assert (unknown.value.code, unknown.value.status) == ("not_found", 404)


async def test_jobs_come_page_by_page(server: Server, meeting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dalston.Client(server.url) as client:
        made = [(await client.transcribe(meeting, model="fake"))["id"] for _ in range(3)]
        assert [job["id"] async for job in client.jobs(2)] == [made[2], made[1]]
        everything = [job["id"] async for job in client.jobs(state=["completed"])]
        assert everything[:3] == made[::-1]
        assert len(everything) == len(set(everything))
        cancelled = (await client.submit(meeting, model="fake", seconds=600))["id"]
        assert (await client.cancel(cancelled))["state"] == "cancelled"
        assert (await client.retry(cancelled))["state"] in {"queued", "running"}
        await client.delete(cancelled)
        assert cancelled not in [job["id"] async for job in client.jobs(3)]


async def test_events_are_followed(server: Server, meeting: Path) -> None:
    async with dalston.Client(server.url) as client:
        job = (await client.submit(meeting, model="fake"))["id"]
        told = []
        async for change in client.events(job, after="0-1"):
            told.append((change.get("task"), change["state"]))
            if told[-1] == (None, "completed"):
                break
        assert told[0] == (None, "queued")
        assert ("transcribe", "running") in told


async def test_no_server_is_said(tmp_path: Path) -> None:
    async with dalston.Client("http://127.0.0.1:9") as client:
        with pytest.raises(NoServer, match="Start one with `dalston up`"):
            await client.engines()


@pytest.mark.parametrize("id", ["", "?limit=1", "../../../health", "a/b", "0\n", "0?x"])
async def test_what_can_be_no_id_reaches_nothing_else(server: Server, id: str) -> None:
    async with dalston.Client(server.url) as client:
        for call in (client.job, client.follow, client.cancel, client.retry, client.delete):
            with pytest.raises(ServerSaid, match="There is no job"):
                await call(id)
        with pytest.raises(ServerSaid):
            await client.load(f"x{id}/../fake")


@pytest.mark.parametrize("url", ["localhost:8765", "ftp://localhost", "nonsense"])
async def test_an_address_that_is_none_is_said(url: str) -> None:
    async with dalston.Client(url) as client:
        with pytest.raises(NoServer, match="is no address of a server"):
            await client.engines()


async def test_another_kind_of_server_is_said(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        async with dalston.Client(f"http://127.0.0.1:{other.server_port}") as client:
            with pytest.raises(ServerSaid, match="not as Dalston does"):
                await client.engines()
        other.shutdown()


async def test_a_gateway_that_falls_while_a_recording_comes_makes_no_second_job(
    server: Server, meeting: Path
) -> None:
    before, lost = server.folders(), list[Any]()

    class Unlucky(dalston.Client):
        async def _send(self, method: str, path: str, **content: Any) -> Any:
            answer = await super()._send(method, path, **content)
            if method == "POST" and len(lost) < 2:
                lost.append(answer)
                raise HungUp
            return answer

    async with Unlucky(server.url) as client:
        job = await client.transcribe(meeting, model="fake", text="once")
    assert (len(lost), job["text"]) == (2, "once")
    assert server.folders() - before == {job["id"]}
    assert lost[1].headers["idempotent-replayed"] == "true"
