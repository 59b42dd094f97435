"""`dalston transcribe`: recordings in, transcripts out; only transcripts go to stdout."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.types import Transcript
from msgspec import Struct

from dalston import settings as settings_
from dalston.cli.board import Show, board
from dalston.cli.output import as_json, say
from dalston.cli.server import address
from dalston.cli.show import put, why_not
from dalston.exports import render as exported
from dalston.local.server import CannotStart, engine_ids, holder, locked, running
from dalston.settings import Settings

if TYPE_CHECKING:
    from dalston.client import Client

START_S = 60
AT_ONCE = 8
"""How many recordings are sent and followed at a time; the server works on as many as its engines can."""
_NAMES = (
    "aac ac3 aif aiff amr au avi caf flac flv m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg oga ogg ogv opus "
    "ts wav weba webm wma wmv"
)
RECORDINGS = {f".{name}" for name in _NAMES.split()}
"""The suffixes by which recordings are found in a folder; a file that is named is taken whatever its name."""


class Wish(Struct, frozen=True):
    """What is wanted of every recording."""

    format: str
    model: str | None
    language: str | None
    output: Path | None
    speakers: str = "none"

    @property
    def fields(self) -> dict[str, str]:
        """The form fields; plain text needs no word times, which cost a pass of the model."""
        given = {"model": self.model, "language": self.language}
        given |= {"speaker_detection": self.speakers} if self.speakers != "none" else {}
        words = {"word_timestamps": "false"} if self.format == "text" and self.speakers == "none" else {}
        return {name: value for name, value in given.items() if value} | words

    @property
    def needless(self) -> set[str]:
        """Stages that it takes no engine for."""
        return set() if self.speakers == "diarize" else {"align", "diarize"}


async def transcribe(given: list[Path], wish: Wish, data: str | None) -> None:
    """Transcribe recordings; raises DalstonError at the end when one failed.

    Transcripts are shown in the order of their recordings, and written to files as they come. When it is
    interrupted, so are its jobs.
    """
    here = asyncio.current_task()
    assert here is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    settings = settings_.load(data=data)
    files = recordings(given)
    targets = _targets(files, wish, several=len(files) > 1 or given[0].is_dir())
    failures = []
    async with serving(settings, wish.model or "", wish.needless) as (url, engines):
        from dalston.client import Client, NoServer

        async with Client(url, settings.api_key) as client:
            await client.ready(wait=START_S, engines=",".join(engines), loading=True)
            with board(len(files)) as show:
                async with contextlib.aclosing(_texts(client, wish, files, targets, show)) as texts:
                    async for path, text in texts:
                        try:
                            put(await text, None)
                        except NoServer:
                            raise
                        except (DalstonError, OSError) as failure:
                            failures.append(f"{path.name}: {_why(failure)}")
    if failures:
        raise DalstonError("\n".join(failures))


async def _texts(
    client: Client, wish: Wish, files: Sequence[Path], targets: Sequence[Path | None], show: Show
) -> AsyncGenerator[tuple[Path, asyncio.Task[str]]]:
    """Every recording with what is to be shown of it, which is nothing when it goes to a file."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def text_of(path: Path, target: Path | None) -> str:
        async with at_once:
            job = (await client.submit(path, **wish.fields))["id"]
            try:
                ended = await client.follow(job, show(path.name))
            except asyncio.CancelledError:
                with contextlib.suppress(DalstonError):
                    await client.cancel(job)  # nobody waits for it any more
                raise
        if ended["state"] != "completed":
            raise DalstonError(why_not(ended))
        if target is not None:
            put(render(ended, wish.format), target)
            return ""
        if wish.format == "json" and len(files) > 1:  # a line each
            return msgspec.json.encode(ended).decode() + "\n"
        return render(ended, wish.format)

    tasks = [asyncio.create_task(text_of(*one)) for one in zip(files, targets, strict=True)]
    try:
        for path, task in zip(files, tasks, strict=True):
            yield path, task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _why(failure: DalstonError | OSError) -> str:
    return failure.message if isinstance(failure, DalstonError) else failure.strerror or "cannot be read"


def render(job: Any, format: str) -> str:
    """A completed job in one of the output formats."""
    if format == "json":
        return as_json(job) + "\n"
    return exported(msgspec.convert(job, Transcript), format).content.decode()


def recordings(given: Sequence[Path]) -> list[Path]:
    """The files that are named, and the recordings in named folders; raises DalstonError for none."""
    found = []
    for path in given:
        inside = [path] if not path.is_dir() else sorted(p for p in path.rglob("*") if is_recording(p))
        if not inside:
            raise DalstonError(f"{path} holds no recording: no file in it has the name of one.")
        found += inside
    return found


def is_recording(path: Path) -> bool:
    """Whether a file in a folder is one by its name."""
    return path.suffix.lower() in RECORDINGS and not path.name.startswith(".") and path.is_file()


def _targets(files: Sequence[Path], wish: Wish, several: bool) -> list[Path | None]:
    """Where each transcript goes; recordings whose names differ in their suffix alone keep it."""
    if wish.output is None:
        return [None] * len(files)
    if not several and not wish.output.is_dir():
        wish.output.parent.mkdir(parents=True, exist_ok=True)
        return [wish.output]
    wish.output.mkdir(parents=True, exist_ok=True)
    suffix = "txt" if wish.format == "text" else wish.format
    whose: dict[str, set[Path]] = defaultdict(set)
    for path in files:
        whose[path.stem].add(path.resolve())
        whose[path.name].add(path.resolve())
    for path in files:
        if len(whose[path.name]) > 1:
            raise DalstonError(f"Several recordings are named {path.name}; give each folder its own -o.")
    names = [path.stem if len(whose[path.stem]) == 1 else path.name for path in files]
    return [wish.output / f"{name}.{suffix}" for name in names]


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, preload: str, without: Collection[str] = ()
) -> AsyncIterator[tuple[str, list[str]]]:
    """The server that the settings name or that runs, or one of our own for as long as this lasts, without
    engines of some stages."""
    if settings.url or holder(settings.folder):
        yield address(settings), []
        return
    with _run_folder(settings.folder) as run:
        models = settings.models or str(settings.folder / "models")
        own = msgspec.structs.replace(
            settings, data=str(run), models=models, redis_url="", port=0, log_level="WARNING",
            engines=",".join(engine_ids(settings, without)),
        )  # fmt: skip
        async with running(own, say, logs=run, preload=preload) as (server, _):
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
