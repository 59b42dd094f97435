"""A web server of our own that keeps what it is sent."""

from __future__ import annotations

import contextlib
import http.server
import queue
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Got(NamedTuple):
    """One request as it came."""

    headers: dict[str, str]
    body: bytes


class Receiver(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Answers with the statuses it is told to, then with 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: queue.Queue[Got] = queue.Queue()
        self.statuses: list[int] = []
        self.hold: Callable[[], Any] = lambda: None
        self.url = f"http://127.0.0.1:{self.server_port}/told?key=secret"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        server.got.put(Got({name.lower(): value for name, value in self.headers.items()}, body))
        server.hold()
        self.send_response(server.statuses.pop(0) if server.statuses else 200)
        self.send_header("content-length", "0")
        with contextlib.suppress(OSError):
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for as long as the context lasts."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
