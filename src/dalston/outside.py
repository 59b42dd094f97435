"""Calls to addresses that callers name: recordings to fetch, webhooks to tell.

Names are resolved here, every address is checked, and the very address that was checked is connected
to: a name that resolves otherwise a moment later changes nothing. Redirects are followed by hand,
each checked like the first address. Messages name the host, never the rest of an address, which may
hold secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import httpcore2
from httpcore2 import AnyIOBackend, AsyncConnectionPool, AsyncNetworkBackend, AsyncNetworkStream

from dalston.errors import SourceRefused, SourceUnreachable, UploadTooLarge

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
REDIRECTS = 5
REDIRECTED = {301, 302, 303, 307, 308}
CONNECT_S = 10.0
NAT64 = ipaddress.ip_network("64:ff9b::/96")
AGENT = b"dalston"
SENT = "/?%:@!$&'()*+,;=-._~"
"""What is sent of an address as it is, besides letters and digits."""


class Allowed:
    """What may be called besides public addresses: host names, addresses and networks."""

    def __init__(self, told: str) -> None:
        self.names: set[str] = set()
        self.networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for one in filter(None, (part.strip().lower() for part in told.split(","))):
            try:
                self.networks.append(ipaddress.ip_network(one, strict=False))
            except ValueError:
                self.names.add(one)

    def name(self, host: str) -> bool:
        """Whether whatever this name resolves to may be called."""
        return host.lower().rstrip(".") in self.names

    def address(self, address: Address) -> bool:
        """Whether an address is on the list."""
        return any(address in network for network in self.networks)


def public(address: Address) -> bool:
    """Whether an address is the open internet's, however it is wrapped."""
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inside is not None:
            return public(inside)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def resolved(host: str, port: int) -> list[str]:
    """The addresses of a name."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class Guard(AsyncNetworkBackend):
    """Connects to addresses that may be called, and to no others."""

    def __init__(self, allowed: Allowed, resolve: Resolve = resolved) -> None:
        self.allowed, self.resolve, self.backend = allowed, resolve, AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to a name's first address that may be called; raises SourceRefused for none."""
        try:
            async with asyncio.timeout(CONNECT_S):
                addresses = await self.resolve(host, port)
        except (OSError, UnicodeError, TimeoutError):
            raise SourceUnreachable(f"The host {host[:100]} cannot be found.") from None
        address = self.chosen(host, port, addresses)
        return await self.backend.connect_tcp(address, port, timeout, local_address, socket_options)

    def chosen(self, host: str, port: int, addresses: Iterable[str]) -> str:
        """The first of a name's addresses that may be called; raises SourceRefused for none."""
        for address in addresses:
            if self.permitted(host, port, address):
                return address
        raise SourceRefused(
            f"The host {host[:100]} has an address, or a port, that this server does not call: "
            "private ones are refused unless DALSTON_ALLOW_ADDRESSES has them."
        )

    def permitted(self, host: str, port: int, address: str) -> bool:
        """Whether this address may be connected to."""
        ip = ipaddress.ip_address(address.split("%")[0])
        if self.allowed.name(host) or self.allowed.address(ip):
            return True
        return public(ip) and (port in (80, 443) or port >= 1024)


class Reply(NamedTuple):
    """A response whose body has not been read."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


class Outside:
    """Calls with limits; raises SourceRefused or SourceUnreachable."""

    def __init__(self, allowed: str = "", resolve: Resolve = resolved) -> None:
        self.guard = Guard(Allowed(allowed), resolve)

    def refuse(self, url: str) -> None:
        """Raise SourceRefused for what is no address, or plainly one that is never called."""
        parts = checked(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(host.split("%")[0])
            self.guard.chosen(host, port, [host])

    @contextlib.asynccontextmanager
    async def call(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes = b"", *, seconds: float
    ) -> AsyncIterator[Reply]:
        """One request; `seconds` is for each step of it. Redirects are left to the caller."""
        parts = checked(url)
        host = parts.hostname or ""
        limits = {"connect": CONNECT_S, "read": seconds, "write": seconds, "pool": seconds}
        sent = [
            (b"Host", parts.netloc.encode("idna")),
            (b"User-Agent", AGENT),
            (b"Accept-Encoding", b"identity"),
        ]
        sent += [(name.encode(), value.encode()) for name, value in headers.items()]
        sent += [(b"Content-Length", str(len(content)).encode())] if method != "GET" else []
        context = ssl.create_default_context() if parts.scheme == "https" else None
        try:
            async with AsyncConnectionPool(ssl_context=context, network_backend=self.guard) as pool:
                target = httpcore2.URL(
                    scheme=parts.scheme.encode(),
                    host=host.encode("idna"),
                    port=parts.port,
                    target=_target(parts),
                )
                options = {"timeout": limits}
                async with pool.stream(
                    method, target, headers=sent, content=content, extensions=options
                ) as got:
                    told = {name.decode().lower(): value.decode("latin-1") for name, value in got.headers}
                    yield Reply(got.status, told, got.aiter_stream())
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
            kind = "takes too long" if isinstance(error, httpcore2.TimeoutException) else "does not answer"
            raise SourceUnreachable(f"The host {host[:100]} {kind}.") from None

    async def fetch(self, url: str, *, limit: int, stall: float, seconds: float) -> AsyncGenerator[bytes]:
        """A recording piece by piece, redirects followed; raises UploadTooLarge beyond `limit` bytes."""
        end = asyncio.get_running_loop().time() + seconds
        async with contextlib.aclosing(self._followed(url, limit, stall)) as pieces:
            while True:
                try:  # not around the yield: what whoever takes the pieces does is not to be cancelled
                    async with asyncio.timeout_at(end):
                        chunk = await anext(pieces, None)
                except TimeoutError:
                    raise SourceUnreachable(f"The recording did not come within {seconds:g} s.") from None
                if chunk is None:
                    return
                yield chunk

    async def _followed(self, url: str, limit: int, stall: float) -> AsyncGenerator[bytes]:
        for _ in range(REDIRECTS + 1):
            async with self.call("GET", url, {"Accept": "*/*"}, seconds=stall) as reply:
                if reply.status not in REDIRECTED:
                    async for chunk in _media(reply, urlsplit(url).hostname or "", limit):
                        yield chunk
                    return
                url = urljoin(url, reply.headers.get("location", ""))
        raise SourceUnreachable(f"The recording's address leads on more than {REDIRECTS} times.")


def checked(url: str) -> SplitResult:
    """An address taken apart; raises SourceRefused for one that is none, or that carries a password."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except (ValueError, UnicodeError):
        good = False
    if not good or any(ord(one) <= 32 or ord(one) == 127 for one in url):
        raise SourceRefused("The address is no http or https URL.")
    if parts.username is not None or parts.password is not None:
        raise SourceRefused("The address carries a name or a password; this server does not send them.")
    return parts


async def _media(reply: Reply, host: str, limit: int) -> AsyncIterator[bytes]:
    if not 200 <= reply.status < 300:
        raise SourceUnreachable(f"The host {host[:100]} answered {reply.status}.")
    if reply.headers.get("content-type", "").lower().startswith("text/html"):
        raise SourceRefused("There is a web page at the address, no recording; give the media file's own.")
    size = 0
    async for chunk in reply.body:
        size += len(chunk)
        if size > limit:
            raise UploadTooLarge(f"The recording is larger than {limit} bytes.")
        yield chunk


def _target(parts: SplitResult) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe=SENT).encode()
