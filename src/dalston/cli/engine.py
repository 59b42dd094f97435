"""`dalston engine …`: make, install, test and start engines. What these do is in the layers below."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from dalston_engine.errors import DalstonError
from dalston_engine.manifest import BadManifest

from dalston.cli.completion import engine_ids

engine = typer.Typer(help="Make, install, test and start engines.", no_args_is_help=True)

Place = Annotated[
    str, typer.Argument(metavar="NAME|PATH", help="An engine's id, or its folder.", autocompletion=engine_ids)
]


class NoServer(DalstonError):
    """There is no server to work for."""

    code, retryable = "no_server", False


@engine.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The engine's id: small letters, digits, dashes.")],
    stage: Annotated[
        str, typer.Option(help="What it does: prepare, transcribe, align, diarize or merge.")
    ] = "transcribe",
    folder: Annotated[Path | None, typer.Option(help="Where to make it; ./NAME when absent.")] = None,
) -> None:
    """Make the folder of a new engine that works as it stands."""
    from dalston.local.new import make

    target = folder or Path(name)
    make(name, stage, target)
    place = shlex.quote(str(target) if os.sep in str(target) else f"./{target}")
    print(f"{target / 'engine.py'} is the code, {target / 'pyproject.toml'} the manifest.")
    print(f"Test it: dalston engine test {place}")
    print(f"Let it work for the running server: dalston engine start {place}")


@engine.command("install")
def install(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|PATH]...", help="Ids or folders; the usual ones when absent.",
            autocompletion=engine_ids,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also the large ones, most with PyTorch.")] = False,
) -> None:  # fmt: skip
    """Build engine environments; afterwards nothing is fetched."""
    from dalston.cli.doctor import install

    install(names or [], every)


@engine.command("test")
def check(
    engine: Place,
    model: Annotated[str | None, typer.Option(help="A model's id; the default one when absent.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("-o", "--option", help="NAME=VALUE, for every task.")
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="16 kHz mono 16-bit WAV, in place of tones and noise.", exists=True)
    ] = None,
) -> None:
    """Check that an engine does what every engine must, on a server of its own.

    One line a check; exit code 1 when one failed.
    """
    from dalston import settings as settings_
    from dalston.conformance.suite import conforms
    from dalston.local import environments

    pairs = (word.partition("=") for word in option or [])
    params = {name: value for name, _, value in pairs} | ({"model": model} if model else {})
    try:
        settings = settings_.load()
        found = environments.at(engine, settings.engines_path, settings.environments)
    except BadManifest as error:
        print(f"✗ manifest: {error.message}")
        raise typer.Exit(1) from None
    if not conforms(found, params, lambda text: print(text, flush=True), _quote, recording):
        raise typer.Exit(1)


def _quote(words: str) -> None:
    print(f"\nThe engine's last lines:\n{words}", file=sys.stderr, flush=True)


@engine.command("start")
def start(
    engine: Place,
    data: Annotated[str | None, typer.Option(help="The data folder of the server to work for.")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Its Redis, when it is not the embedded one.")] = None,
) -> None:
    """Run one more instance of an engine for a running server, until Ctrl-C.

    Ctrl-C drains it: the task at hand goes back to its queue at its next progress call.
    """
    from dalston import settings as settings_
    from dalston.local import environments, valkey
    from dalston.local.server import ENGINE_NICE, engine_surroundings, holder, surroundings

    settings = settings_.load(data=data, redis_url=redis_url)
    found = environments.at(engine, settings.engines_path, settings.environments)
    embedded = holder(settings.folder) and valkey.socket_path(settings.folder).exists()
    if not settings.redis_url and not embedded:
        raise NoServer(
            f"No server with a Redis of its own runs for {settings.folder}. Start one with `dalston up`, "
            "name its data folder with --data, or its Redis with --redis-url."
        )
    found.install(lambda text: print(text, file=sys.stderr, flush=True))
    env = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    env |= engine_surroundings(found, surroundings(settings))
    os.nice(ENGINE_NICE)
    os.execve(found.command[0], found.command, env)  # noqa: S606
