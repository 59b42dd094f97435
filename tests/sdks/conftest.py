"""A live server, and the vendors' SDKs in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ALL, DATA, Server, serving
from tests.sdks import environments
from tests.sdks.driven import VERSIONS

VENDORS = ("elevenlabs", "openai")
LANGUAGES = ("python", "javascript")


class Sdk:
    """A driver that performs calls of one language's SDKs."""

    def __init__(self, process: subprocess.Popen[str], language: str, url: str) -> None:
        self.process, self.language, self.url = process, language, url
        VERSIONS.update(self._said())

    def ask(self, told: dict[str, Any]) -> Any:
        """What came of one call."""
        assert self.process.stdin is not None
        print(json.dumps(told), file=self.process.stdin, flush=True)
        return self._said()

    def call(self, vendor: str, call: str, key: str | None = "any", **more: Any) -> Any:
        """A call of a vendor's SDK: `ok`, or `error`."""
        return self.ask({"vendor": vendor, "url": self.url, "key": key, "call": call} | more)

    def named(self, vendor: str, call: str, key: str | None = "any", **names: Any) -> Any:
        """A call whose one argument has a name in Python and only a place in JavaScript."""
        told: dict[str, Any] = (
            {"args": names} if self.language == "python" else {"positional": list(names.values())}
        )
        return self.call(vendor, call, key, **told)

    def _said(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the {self.language} driver has ended"
        return json.loads(line)


TURNS = "prepare,turns,final-merger"
"""What only the scripted engine of these tests needs."""


@contextlib.contextmanager
def speaking(data: Path, engines: str, **settings: str) -> Iterator[Server]:
    """A server that knows the scripted engine of these tests, for as long as the context lasts."""
    with serving(data, engines, DALSTON_ENGINES_PATH=str(environments.engine()), **settings) as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all SDKs talk to."""
    settings = {"DALSTON_MODEL_NAMES": NAMES, "DALSTON_ALLOW_ADDRESSES": "127.0.0.1"}
    with speaking(tmp_path_factory.mktemp("sdks"), f"{ALL},turns", **settings) as running:
        yield running


NAMES = ",".join(f"{name}=tiny.en" for name in ("scribe_v1", "scribe_v2", "gpt-4o-transcribe"))
"""The small model for what is about shapes; the other names stand for the default one."""


@pytest.fixture(scope="session", params=LANGUAGES)
def sdk(request: pytest.FixtureRequest, server: Server) -> Iterator[Sdk]:
    """The SDKs of one language."""
    with driver(request.param, server.url) as found:
        yield found


@contextlib.contextmanager
def driver(language: str, url: str) -> Iterator[Sdk]:
    """A driver for as long as the context lasts: `javascript`, or an environment of Python's."""
    command = environments.node() if language == "javascript" else environments.python(language)
    if command is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing")
        pytest.skip("node is missing")
    pipe = subprocess.PIPE
    folder = Path(command[-1]).parent
    path = os.pathsep.join((str(Path(__file__).parent / "tools"), os.environ["PATH"]))
    environment = os.environ | {"PATH": path}
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, cwd=folder, env=environment
    ) as process:
        yield Sdk(process, language, url)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


@pytest.fixture(scope="session")
def clip() -> str:
    """An 11 s clip of English speech."""
    if not DATA.is_dir():
        pytest.skip("no recordings beside the project")
    return str(DATA / "clips" / "jfk.flac")


@pytest.fixture(scope="session")
def conversation(clip: str) -> str:
    """94 s in which three people read in turn."""
    return str(DATA / "dev_conv3_libri.flac")


@pytest.fixture(scope="session")
def stereo(clip: str) -> str:
    """Two people, each on a channel."""
    return str(DATA / "clips" / "stereo_2utt.wav")


@pytest.fixture(scope="session")
def mono(clip: str) -> str:
    """One person on one channel."""
    return str(DATA / "lj" / "LJ001-0002.flac")
