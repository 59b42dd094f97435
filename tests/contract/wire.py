"""Redis as it can go wrong: a server that answers what a test says, and a proxy that loses replies."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from io import BufferedRWPair
from pathlib import Path
from typing import Self

HELLO = b"%3\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$5\r\nproto\r\n:3\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
HANDSHAKE = {b"HELLO": HELLO, b"CLIENT": b"+OK\r\n"}

Command = list[bytes]


def bulk(text: str) -> bytes:
    """A bulk string reply."""
    return b"$%d\r\n%s\r\n" % (len(text.encode()), text.encode())


def name_of(command: Command) -> str:
    """What a command is called here: its name, or the digest of the script it runs."""
    match command[0].upper():
        case b"EVALSHA":
            return command[1].decode()
        case b"EVAL":
            return hashlib.sha1(command[1]).hexdigest()
        case name:
            return name.decode()


def _command(stream: BufferedRWPair) -> tuple[Command, bytes]:
    """The next command and its bytes; raises EOFError at the end."""
    head = stream.readline()
    if not head:
        raise EOFError
    raw, words = [head], []
    for _ in range(int(head[1:])):
        size = stream.readline()
        word = stream.read(int(size[1:]) + 2)
        raw += [size, word]
        words.append(word[:-2])
    return words, b"".join(raw)


class Listener:
    """Serves each connection of a unix socket in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.connections = 0
        """How many there ever were."""
        self._path = path
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                hang_up(connection)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def serve(self, connection: socket.socket) -> None:
        """Do what is to be done with one connection."""
        raise NotImplementedError

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._run(self._hold, connection)

    def _hold(self, connection: socket.socket) -> None:
        with connection, self._kept(connection), contextlib.suppress(OSError, EOFError):
            self.serve(connection)

    @contextlib.contextmanager
    def _kept(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)


class Scripted(Listener):
    """A Redis that answers as `answer` says: bytes, or None to say nothing. Handshakes succeed.

    With `closes` it hangs up on everybody at once.
    """

    def __init__(
        self, path: Path, answer: Callable[[Command], bytes | None] = lambda _: None, closes: bool = False
    ) -> None:
        super().__init__(path)
        self.answer, self.closes = answer, closes
        self.commands: list[Command] = []
        """All it was told but for handshakes."""

    def serve(self, connection: socket.socket) -> None:
        if self.closes:
            return
        with connection.makefile("rwb") as stream:
            while True:
                command, _ = _command(stream)
                reply = HANDSHAKE.get(command[0].upper())
                if reply is None:
                    self.commands.append(command)
                    reply = self.answer(command)
                if reply is not None:
                    stream.write(reply)
                    stream.flush()


class Proxy(Listener):
    """Passes commands on to a real server, and hangs up in place of a reply when `loses` says so.

    The command has been carried out by then: the server has answered.
    """

    def __init__(self, path: Path, server: str) -> None:
        super().__init__(path)
        self._server = server.removeprefix("unix://")
        self._wanted: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        """How often each command was passed on."""
        self.lost: list[str] = []
        """The commands whose replies were lost."""
        self.loses: Callable[[str], bool] = self._loses
        """Whether the reply to this command is to be lost, asked for each."""

    def lose(self, name: str, times: int = 1) -> None:
        """Lose the next replies to a command, or to a script by its digest."""
        self._wanted[name] += times

    def _loses(self, name: str) -> bool:
        if self._wanted[name] > 0:
            self._wanted[name] -= 1
            return True
        return False

    def serve(self, connection: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with server, self._kept(server), connection.makefile("rwb") as stream:
            server.connect(self._server)
            losing = threading.Event()
            self._run(self._reply, server, connection, losing)
            try:
                while True:
                    command, raw = _command(stream)
                    name = name_of(command)
                    with self._lock:
                        self.seen[name] += 1
                        if self.loses(name):
                            self.lost.append(name)
                            losing.set()
                    server.sendall(raw)
            finally:
                hang_up(server)

    def _reply(self, server: socket.socket, connection: socket.socket, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while (data := server.recv(1 << 16)) and not losing.is_set():
                connection.sendall(data)
        hang_up(connection)


def hang_up(connection: socket.socket) -> None:
    """End a connection whoever reads it; it may have ended."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
