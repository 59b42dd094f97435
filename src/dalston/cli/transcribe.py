"""`dalston transcribe`: recordings in, transcripts out; only transcripts go to stdout."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.types import Transcript
from msgspec import Struct

from dalston import settings as settings_
from dalston.formats import FORMATS
from dalston.local.server import CannotStart, engine_ids, holder, locked, running
from dalston.settings import Settings

START_S = 60


class Wish(Struct, frozen=True):
    """What is wanted of every recording."""

    format: str
    model: str | None
    language: str | None
    output: Path | None

    @property
    def fields(self) -> dict[str, str]:
        """The form fields; plain text needs no word times, which cost a pass of the model."""
        given = {"model": self.model, "language": self.language}
        words = {"word_timestamps": "false"} if self.format == "text" else {}
        return {name: value for name, value in given.items() if value} | words


async def transcribe(files: list[Path], wish: Wish, data: str | None) -> None:
    """Transcribe `files` in order; raises DalstonError after the last when one has failed."""
    settings = settings_.load(data=data)
    targets = [_target(path, wish, len(files) > 1) for path in files]
    failures = []
    async with _server(settings, wish.model or "") as (url, engines):
        from dalston.cli.client import Client

        async with Client(url) as client:
            await client.ask("/ready", wait=START_S, engines=",".join(engines), loading=True)
            jobs = [await client.submit(path, wish.fields) for path in files]
            for path, job, target in zip(files, jobs, targets, strict=True):
                with _progress(path.name) as seen:
                    ended = await client.follow(job["id"], seen)
                if ended["state"] == "completed":
                    _put(render(ended, wish.format), target)
                else:
                    failures.append(f"{path.name}: {ended['error']['message']}")
    if failures:
        raise DalstonError("\n".join(failures))


def render(job: Any, format: str) -> str:
    """A completed job in one of the output formats."""
    if format == "json":
        return msgspec.json.format(msgspec.json.encode(job)).decode() + "\n"
    return FORMATS[format](msgspec.convert(job, Transcript))


def _target(path: Path, wish: Wish, several: bool) -> Path | None:
    if wish.output is None:
        return None
    if several or wish.output.is_dir():
        wish.output.mkdir(parents=True, exist_ok=True)
        suffix = "txt" if wish.format == "text" else wish.format
        return wish.output / f"{path.stem}.{suffix}"
    return wish.output


def _put(text: str, target: Path | None) -> None:
    if target is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        target.write_text(text)


@contextlib.asynccontextmanager
async def _server(settings: Settings, preload: str) -> AsyncIterator[tuple[str, list[str]]]:
    """The server that runs for this data folder, or one of our own for as long as this lasts."""
    found = holder(settings.folder)
    if found is not None:
        yield found.url, []
        return
    with _run_folder(settings.folder) as run:
        models = settings.models or str(settings.folder / "models")
        own = msgspec.structs.replace(
            settings, data=str(run), models=models, redis_url="", port=0, log_level="WARNING"
        )
        async with running(own, _say, logs=run, preload=preload) as (server, _):
            try:
                yield server.url, engine_ids(own)
            except DalstonError as error:
                if error.code == "not_ready":
                    raise CannotStart(f"{error.message}\n{_tail(run)}") from None
                raise


@contextlib.contextmanager
def _run_folder(data: Path) -> Iterator[Path]:
    """A data folder for this run alone; those that killed runs left behind are removed."""
    runs = data / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for old in runs.iterdir():
        with contextlib.suppress(CannotStart, FileNotFoundError), locked(old):
            shutil.rmtree(old, ignore_errors=True)
    run = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=runs))
    try:
        yield run
    finally:
        shutil.rmtree(run, ignore_errors=True)


def _tail(logs: Path) -> str:
    """The last lines of every process's output."""
    return "\n".join(
        f"{path.stem}: {line}"
        for path in sorted(logs.glob("*.log"))
        for line in path.read_text().splitlines()[-5:]
    )


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[Any], None]]:
    """Shows a job's progress on stderr: a bar on a terminal, a line a stage in a pipe."""
    if not sys.stderr.isatty():
        yield _Lines(name)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda job: bar.update(task, completed=job["progress"])


class _Lines:
    """One line for every stage that starts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: set[str] = set()

    def __call__(self, job: Any) -> None:
        for stage in job["stages"]:
            if stage["state"] not in {"waiting", "skipped"} and stage["stage"] not in self.told:
                self.told.add(stage["stage"])
                _say(f"{self.name}: {stage['stage']} ({stage['engine']})")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
