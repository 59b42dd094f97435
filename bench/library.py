"""The bare faster-whisper in a process of its own, which sleeps until it is asked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.server import MODEL, Failed
from dalston.local import environments
from dalston.local.server import ENGINE_NICE

BARE = Path(__file__).with_name("bare.py")


class Library:
    """One process of `bare.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._answer()

    def transcribe(self) -> tuple[str, float]:
        """The text of its recording and the seconds that took."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._answer()
        return answer["text"], answer["seconds"]

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed("the bare library ended")
        return json.loads(line)


@contextlib.contextmanager
def library(wav: Path, like_the_engine: bool) -> Iterator[Library]:
    """The library with the variables and the priority of the engine's process, or with none of them."""
    engine = environments.find("faster-whisper", "")
    variables = engine.manifest.env
    inherited = {name: value for name, value in os.environ.items() if name not in variables}
    weights = engine.environment / "weights" / MODEL
    command = [engine.command[0], "-P", str(BARE), str(weights), str(wav)]
    with subprocess.Popen(
        ["nice", "-n", str(ENGINE_NICE), *command] if like_the_engine else command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=inherited | variables if like_the_engine else inherited,
    ) as process:
        try:
            yield Library(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)
