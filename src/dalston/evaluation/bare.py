"""The bare libraries that the server is held against, each in a process with its engine's Python."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from dalston_engine.errors import DalstonError

from dalston.evaluation.recordings import Recording
from dalston.evaluation.scores import Heard
from dalston.evaluation.speakers import by_turns
from dalston.local import environments
from dalston.local.environments import EngineFolder
from dalston.settings import Settings

SCRIPTS = Path(__file__).with_name("libraries")
"""No package: what is in it is run by engines' Pythons, and never imported here."""
WHISPER = "faster-whisper"
DIARIZER, OFFLINE = "pyannote-3.1", "offline"
"""The engine whose library diarizes, and its model whose weights come with it."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ERROR_LINES = 5


class Process:
    """One of those scripts, which answers a line with a line."""

    def __init__(self, engine: EngineFolder, script: str, *arguments: str, env: dict[str, str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._name = engine.manifest.id
        self._process = subprocess.Popen(  # noqa: S603
            [engine.command[0], "-P", str(SCRIPTS / script), str(engine.folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | env,
        )
        self._read()

    def ask(self, **question: Any) -> Any:
        """The answer to a question; raises DalstonError when the process ended instead."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").splitlines()[-ERROR_LINES:]
        raise DalstonError("\n".join([f"The library of {self._name} ended:", *last]))

    def end(self) -> None:
        """Stop it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


class Bare(NamedTuple):
    """The libraries that run; blocks while they work."""

    whisper: Process
    diarizer: Process | None
    decode: Callable[[Path], Path]
    about: dict[str, Any]
    """What runs, and with which settings."""

    def hear(self, recording: Recording, language: str | None) -> Heard:
        """What the libraries make of a recording: its words, and who speaks when where that is known."""
        heard = self._answer(self.whisper, WHISPER, path=str(recording.path), language=language)
        if self.diarizer and recording.turns is not None:
            path = str(self.decode(recording.path))
            told = self._answer(self.diarizer, DIARIZER, path=path)
            heard.turns, heard.failure = told.turns or [], heard.failure or told.failure
            heard.words = by_turns(heard.words or [], heard.turns)
            heard.cpu = (heard.cpu or {}) | (told.cpu or {})
        return heard

    def _answer(self, process: Process, name: str, **question: Any) -> Heard:
        told = process.ask(**question)
        if "failure" in told:
            return Heard(text="", words=[], failure=told["failure"])
        return msgspec.convert(told | {"cpu": {name: round(told["cpu"], 2)}}, Heard)


@contextlib.contextmanager
def libraries(
    settings: Settings,
    model: str | None,
    vad: bool,
    speakers: bool,
    decode: Callable[[Path], Path],
    say: Callable[[str], None],
) -> Iterator[Bare]:
    """The libraries for as long as the context lasts.

    `model` is the server's, which is taken if faster-whisper has it; `speakers`: whether to diarize too.
    """
    cache = str(Path(settings.models or settings.folder / "models").expanduser())
    whisper = _find(WHISPER, settings)
    whisper.install(say)
    known = model in whisper.manifest.models or "/" in (model or "")
    name = model if model and known else whisper.manifest.default_model
    assert name is not None
    about: dict[str, Any] = {
        "library": WHISPER, "model": name, "compute_type": "int8", "threads": 1, "vad_filter": vad,
        "word_timestamps": True, "otherwise": "the library's defaults",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        arguments = (name, cache, str(vad).lower())
        words = Process(whisper, "whisper.py", *arguments, env=ONE_THREAD)
        stack.callback(words.end)
        diarizer = None
        engine = _find(DIARIZER, settings)
        if speakers and engine.installed:
            about |= {"diarizer": DIARIZER, "diarizer_model": OFFLINE}
            env = engine.manifest.env | ONE_THREAD  # which keeps libraries from telling others of their use
            diarizer = Process(engine, "diarizer.py", OFFLINE, cache, env=env)
            stack.callback(diarizer.end)
        yield Bare(words, diarizer, decode, about)


def _find(name: str, settings: Settings) -> EngineFolder:
    return environments.find(name, settings.engines_path, settings.environments)


@contextlib.contextmanager
def decoder(settings: Settings, say: Callable[[str], None]) -> Iterator[Callable[[Path], Path]]:
    """Gives any recording as 16 kHz mono WAV, by the prepare engine; each file stays until the next one."""
    prepare = _find("prepare", settings)
    with tempfile.TemporaryDirectory() as folder:

        def decode(path: Path) -> Path:
            prepare.install(say)
            command = [*prepare.command, str(path), "--folder", folder]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)  # noqa: S603
            if done.returncode:
                raise DalstonError("A recording cannot be decoded.")
            return Path(folder, "audio.wav")

        yield decode
