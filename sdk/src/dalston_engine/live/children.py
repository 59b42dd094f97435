"""The decoder process of a session whose audio is a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

import numpy as np

from dalston_engine.errors import BadInput
from dalston_engine.live.audio import Samples

READ_BYTES = 2**15
STILL_S = 0.25
"""A decoder that has said nothing for so long has decoded what it was given, as far as it can."""


class Decoding:
    """A decoder that is fed, and read elsewhere."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process, self._still = process, asyncio.Event()
        self._fed = self._over = False
        """Given more since the last look; at its end."""

    @classmethod
    async def start(cls) -> Decoding:
        """A process of its own."""
        command = sys.executable, "-m", "dalston_engine.live.decode"
        harmless = {name: value for name, value in os.environ.items() if not name.startswith("DALSTON_")}
        return cls(await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=harmless))

    async def feed(self, content: bytes) -> None:
        """More of the file; waits while the decoder is behind."""
        self._fed = True
        self._still.clear()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its reader tells why
                self._process.stdin.write(content)
                await self._process.stdin.drain()

    def finish(self) -> None:
        """That was all."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def still(self) -> None:
        """Wait until it has decoded what it can."""
        if not self._over:
            await self._still.wait()

    async def samples(self) -> AsyncIterator[Samples]:
        """What it decodes, until the end; raises BadInput."""
        out, rest = self._process.stdout, b""
        while out is not None:
            read = asyncio.ensure_future(out.read(READ_BYTES))
            while not (await asyncio.wait([read], timeout=STILL_S))[0]:
                if not self._fed:
                    self._still.set()
                self._fed = False
            self._still.clear()
            if not (content := read.result()):
                break
            content, rest = rest + content, b""
            if len(content) % 2:
                content, rest = content[:-1], content[-1:]
            yield np.frombuffer(content, "<i2").astype(np.float32) / 32768
        self._over = True
        self._still.set()
        if await self._process.wait():
            raise BadInput("The audio cannot be decoded.", code="undecodable_audio")

    async def stop(self) -> None:
        """Be rid of it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
