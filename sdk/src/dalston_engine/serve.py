"""The entry of every engine: `engine.py` works for a server, `engine.py talk.wav` runs alone."""

import argparse
import os
import secrets
import sys
import wave
from pathlib import Path
from typing import Any

from msgspec import Struct, json

from dalston_engine import manifest as manifests
from dalston_engine.engine import Engine
from dalston_engine.errors import DalstonError
from dalston_engine.host import Host
from dalston_engine.live.speech import utterance
from dalston_engine.models import Models
from dalston_engine.parameters import from_environment
from dalston_engine.process import end, follow_parent, log_to_stderr
from dalston_engine.types import Audio, Parts, Transcript
from dalston_engine.workspace import encode


class Settings(Struct, frozen=True):
    """What an engine's process is told by its environment."""

    redis_url: str = "redis://127.0.0.1:6379"
    data: str = "~/.local/share/dalston"
    models: str = ""
    """The shared model cache; `<data>/models` when empty."""
    offline: bool = False
    """True: fetch nothing."""
    preload: str | None = None
    """The model to load at the start; empty for the default one, absent for none."""
    live: bool = True
    """False: an engine that can hear live sessions does not."""
    live_host: str = "127.0.0.1"
    """Where it waits for gateways to bring sessions."""
    live_port: int = 0
    """0: any."""
    live_url: str = ""
    """What gateways call it, when that is not its host and port: `ws://name:port`."""
    live_sessions: int = 0
    """How many sessions it takes; 0: as many as it is measured to be able to."""


def serve(engine: type[Engine]) -> None:
    """Run the engine as its command line says; does not return."""
    manifest = manifests.read(Path(sys.modules[engine.__module__].__file__ or "").resolve().parent)
    _apply_environment(manifest.env)
    settings = from_environment(Settings, "DALSTON_")
    data = Path(settings.data).expanduser()
    models = Models(manifest, Path(settings.models or data / "models"), settings.offline)
    host = Host(engine, manifest, models)
    args = _parser(host).parse_args()
    try:
        if args.install:
            for name in manifest.models:
                models.install(name)
        elif args.inputs:
            _alone(host, args)
        else:
            _work(host, settings, data)
    except DalstonError as error:
        sys.exit(f"{manifest.id}: {error.message}")


def _apply_environment(wanted: dict[str, str]) -> None:
    """Start over with the manifest's variables: allocators and OpenMP read them only at start."""
    if any(os.environ.get(name) is None for name in wanted):
        os.environ.update({name: os.environ.get(name, value) for name, value in wanted.items()})
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _parser(host: Host) -> argparse.ArgumentParser:
    about = "works for the server at DALSTON_REDIS_URL; with inputs, runs once and prints the result as JSON"
    names = ", ".join(host.options.__struct_fields__) or "none"
    parser = argparse.ArgumentParser(description=f"{host.manifest.id}, a Dalston engine: {about}.")
    parser.add_argument("inputs", nargs="*", type=Path, help="a recording, or results of other stages")
    parser.add_argument("--option", "-o", action="append", default=[], help=f"NAME=VALUE; names: {names}")
    parser.add_argument("--model", help="model id")
    parser.add_argument("--folder", type=Path, default=Path(), help="where prepare leaves the audio")
    parser.add_argument("--install", action="store_true", help="check and assemble weights, then exit")
    return parser


def _work(host: Host, settings: Settings, data: Path) -> None:
    from dalston_engine.worker import Worker

    follow_parent()
    log_to_stderr()
    instance = f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(2)}"
    worker = Worker(host, settings.redis_url, instance, data / "jobs")
    if host.manifest.listens and settings.live:
        from dalston_engine.live.side import Place, Side

        place = Place(settings.redis_url, settings.live_host, settings.live_port, settings.live_url,
                      settings.live_sessions)  # fmt: skip
        worker.side = Side(host, instance, place, settings.preload, lambda: worker.busy)
    worker.run(settings.preload)
    if worker.side:
        end()


def _alone(host: Host, args: argparse.Namespace) -> None:
    options = [*args.option, *([f"model={args.model}"] if args.model else [])]
    params = dict(option.split("=", 1) for option in options)
    arguments = [_argument(name, args.inputs, args.folder) for name in host.stage.takes]
    result, _ = host.perform(params, arguments, *[lambda _: None] * 2)
    print(json.format(encode(result)).decode())


def _argument(name: str, inputs: list[Path], folder: Path) -> Any:
    try:
        if name == "audio":
            return Audio(inputs[0])
        if name == "batch":
            return [utterance(Audio(one)) for one in inputs]
        if name == "transcript":
            return json.decode(inputs[1].read_bytes(), type=Transcript)
        if name == "parts":
            media, *rest = [path.read_bytes() for path in inputs]
            return json.decode(b'{"media":%b,"transcripts":[%b]}' % (media, b",".join(rest)), type=Parts)
        return inputs[0] if name == "source" else folder
    except (IndexError, OSError, EOFError, ValueError, wave.Error) as error:
        raise DalstonError(f"{inputs[0]} is no {name} for this stage: {error}") from None
