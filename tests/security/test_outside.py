"""Calls to addresses that callers name: which are refused, and that nothing gets around it."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import ipaddress
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dalston.errors import BadRequest, SourceRefused, SourceUnreachable, UploadTooLarge
from dalston.outside import Outside, checked, public, resolved
from tests.e2e.conftest import SCRIPTED, serving
from tests.security import craft

pytestmark = pytest.mark.anyio

PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::",
    "2001:0:7f00:1::1",
]  # fmt: skip
SPELLINGS = ["http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://[::1]/",
             "http://[::ffff:127.0.0.1]/", "http://localhost/", "http://0/",
             "http://127.0.0.1.:80/"]  # fmt: skip


class Talker(http.server.BaseHTTPRequestHandler):
    """Answers as its server's script says, and notes what it was asked."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Site)
        server.asked.append(self.path)
        server.script(self)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Site(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A web server of our own."""

    daemon_threads = True
    script: Callable[[Talker], None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talker)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server on loopback."""
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def says(body: bytes, status: int = 200, **headers: str) -> Callable[[Talker], None]:
    """A script: always the same answer."""

    def script(talker: Talker) -> None:
        talker.send_response(status)
        for name, value in headers.items():
            talker.send_header(name.replace("_", "-"), value)
        talker.end_headers()
        with contextlib.suppress(OSError):
            talker.wfile.write(body)

    return script


async def fetched(
    outside: Outside, url: str, limit: int = 10_000, stall: float = 5, seconds: float = 10
) -> bytes:
    """What is at an address."""
    content = outside.fetch(url, limit=limit, stall=stall, seconds=seconds)
    return b"".join([chunk async for chunk in content])


LOCAL = Outside("127.0.0.1")


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_the_open_internet_is_not_public(address: str) -> None:
    assert not public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_the_open_internet_is(address: str) -> None:
    assert public(ipaddress.ip_address(address))


@pytest.mark.parametrize("url", SPELLINGS)
async def test_loopback_is_refused_however_it_is_spelt(url: str) -> None:
    with pytest.raises((SourceRefused, SourceUnreachable)) as refused:
        await fetched(Outside(), url)
    assert "does not answer" not in refused.value.message  # it was not even tried


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_for_a_private_address_is_refused(address: str) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return [address]

    with pytest.raises(SourceRefused):
        await fetched(Outside(resolve=resolve), "http://innocent.example/")


async def test_the_address_that_was_checked_is_the_one_connected_to(site: Site) -> None:
    """A resolver that says something else every time: there is no second look."""
    site.script, looks = says(b"never"), []

    async def resolve(host: str, port: int) -> list[str]:
        looks.append(host)
        return ["192.0.2.1"] if len(looks) == 1 else ["127.0.0.1"]

    with pytest.raises(SourceRefused):
        await fetched(Outside(resolve=resolve), f"http://rebind.example:{site.server_port}/")
    assert (looks, site.asked) == (["rebind.example"], [])


async def test_a_redirect_is_checked_like_the_first_address(site: Site) -> None:
    site.script = says(b"", 302, location="http://169.254.169.254/latest/meta-data")
    with pytest.raises(SourceRefused, match=r"169\.254\.169\.254"):
        await fetched(LOCAL, site.url)
    site.script = says(b"", 302, location="file:///etc/passwd")
    with pytest.raises(SourceRefused):
        await fetched(LOCAL, site.url)


async def test_redirects_are_followed_but_not_for_ever(site: Site) -> None:
    def script(talker: Talker) -> None:
        (says(b"here") if talker.path == "/b" else says(b"", 301, location="/b"))(talker)

    site.script = script
    assert await fetched(LOCAL, site.url + "/a") == b"here"
    site.script = says(b"", 302, location="/again")
    with pytest.raises(SourceUnreachable, match="leads on"):
        await fetched(LOCAL, site.url)
    assert len(site.asked) == 2 + 6


async def test_the_allow_list_takes_names_and_networks(site: Site) -> None:
    site.script = says(b"in")
    for told in ("127.0.0.0/8", "localhost,10.0.0.0/8"):
        assert await fetched(Outside(told), f"http://localhost:{site.server_port}/") == b"in"
    with pytest.raises(SourceRefused):
        await fetched(Outside("localhost"), site.url)


async def test_too_much_and_too_slow_are_given_up(site: Site) -> None:
    site.script = says(b"x" * 20_000)
    with pytest.raises(UploadTooLarge):
        await fetched(LOCAL, site.url)

    def drip(talker: Talker) -> None:
        says(b"x", content_length="1000000")(talker)
        with contextlib.suppress(OSError):
            while True:
                time.sleep(0.05)
                talker.wfile.write(b"x")

    site.script = drip
    with pytest.raises(SourceUnreachable, match="within"):
        await fetched(LOCAL, site.url, seconds=0.5)
    stop = threading.Event()
    site.script = lambda talker: (says(b"x", content_length="9")(talker), stop.wait(10), None)[2]
    with pytest.raises(SourceUnreachable, match="too long"):
        await fetched(LOCAL, site.url, stall=0.2)
    stop.set()


@pytest.mark.parametrize(
    ("script", "told"),
    [(says(b"", 404), "404"), (says(b"<p>", content_type="text/html; charset=utf-8"), "web page"),
     (says(b"", 500), "500")],
    ids=["missing", "page", "broken"],
)  # fmt: skip
async def test_what_is_no_recording_is_told_apart(
    site: Site, script: Callable[[Talker], None], told: str
) -> None:
    site.script = script
    with pytest.raises(BadRequest, match=told) as refused:
        await fetched(LOCAL, f"{site.url}/secret?token=abc")
    assert "secret" not in refused.value.message
    assert "abc" not in refused.value.message


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "file:///etc/passwd", "http://", "a", "http://u:p@a.example/", "http://a b/",
            "http://a.example:0/", "http://a.example:99999/", "http://a\r\nHost: b/", "http://[::1",
            "http://" + "a" * 300]
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SourceRefused):
        checked(url)


async def test_whoever_is_slow_to_take_a_recording_is_not_cut_off(site: Site) -> None:
    site.script = says(b"x" * 9_000)
    taken = b""
    async with contextlib.aclosing(LOCAL.fetch(site.url, limit=10_000, stall=5, seconds=0.2)) as pieces:
        async for chunk in pieces:
            await asyncio.sleep(0.3)  # longer than the whole may take
            taken += chunk
            break
    assert taken


async def test_an_address_is_sent_as_it_is_but_for_what_no_address_may_have(site: Site) -> None:
    site.script = says(b"x")
    assert await fetched(LOCAL, f"{site.url}/a%20b/größe;v=1?q=%2F&r=ü/'#part") == b"x"
    assert site.asked == ["/a%20b/gr%C3%B6%C3%9Fe;v=1?q=%2F&r=%C3%BC/'"]


async def test_a_name_that_leads_nowhere(site: Site) -> None:
    with pytest.raises(SourceUnreachable, match="cannot be found"):
        await fetched(Outside(), "http://does-not-exist.invalid/")
    assert await resolved("127.0.0.1", 80) == ["127.0.0.1"]


def test_a_recording_is_fetched_for_a_job(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    site.script = says(craft.wav(), content_type="audio/wav")
    with serving(tmp_path_factory.mktemp("fetch"), SCRIPTED, DALSTON_ALLOW_ADDRESSES="127.0.0.1") as server:
        url = f"{site.url}/talk.wav?signature=secret"
        form = {"source_url": (None, url), "wait": (None, "true"), "model": (None, "fake")}
        job = server.client.post("/v1/audio/transcriptions", files=form)
        assert (job.status_code, job.json()["state"]) == (200, "completed")
        assert job.json()["source"]["filename"] == "talk.wav"
        vendor = {"source_url": (None, url), "model_id": (None, "fake")}
        assert server.client.post("/v1/speech-to-text", files=vendor).json()["text"] == "a scripted answer"
        both = server.client.post("/v1/speech-to-text", data={"model_id": "fake", "source_url": url},
                                  files={"file": ("a.wav", craft.wav())},
                                  headers={"x-dalston-api": ""})  # fmt: skip
        assert (both.status_code, both.json()["detail"]["code"]) == (400, "two_sources")
        refused = server.client.post(
            "/v1/audio/transcriptions", files=form | {"source_url": (None, "http://10.0.0.1/")}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "source_refused")
        assert len(server.folders()) == 2
        assert "secret" not in server.log.read_text()
