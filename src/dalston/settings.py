"""The server's settings: defaults, then an optional TOML file, then `DALSTON_…` variables.

Read once per process. Each field's docstring is its documentation.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from dalston_engine.errors import DalstonError
from msgspec import Meta, Struct

PREFIX = "DALSTON_"
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
"""Files that Docker and Podman put into every container."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TIMES = {"S": 1, "M": 60, "H": 3600, "D": 86_400}
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class BadSettings(DalstonError):
    """A setting has no usable value."""

    code, retryable = "bad_settings", False


class Settings(Struct, frozen=True, kw_only=True):
    """What one process of the server is told."""

    host: str = "127.0.0.1"
    """The address to listen on."""
    behind: Literal["", "container-network"] = ""
    """`container-network`: this is a container whose port its host publishes on loopback alone, so that
    `host` may be any address without keys; empty: nothing is in front."""
    keys: Literal["auto", "required"] = "auto"
    """`auto`: no key is needed on loopback; `required`: everywhere."""
    admin_key: str = ""
    """A key that may do everything, for a first start in a container: `dk_` and 32 characters or more."""
    api_key: str = ""
    """The key that commands send."""
    cors_origins: str = ""
    """Web pages that may call the server from a browser, such as `https://a.example,https://b.example`;
    `*`: all; empty: none."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8765
    """The port to listen on; 0 for any free one."""
    url: str = ""
    """Where the server is that commands talk to; empty: the one that runs for the data folder."""
    data: str = "~/.local/share/dalston"
    """The folder with jobs, models and the embedded server's state."""
    models: str = ""
    """The folder with models; empty for `models` in the data folder."""
    redis_url: str = ""
    """A Redis (7.0 or later) or Valkey (8 or later) to use; empty starts one."""
    engines: str = "prepare,faster-whisper,phone-align,pyannote-onnx,final-merger"
    """The engines that `dalston up` starts, by folder name."""
    engines_path: str = ""
    """More folders of engines, separated as in PATH."""
    environments: str = ""
    """The folder for environments of engines whose own is not for writing; empty for the user's own."""
    max_upload: str = "5GB"
    """The largest accepted recording."""
    upload_timeout: str = "60s"
    """How long an upload may stand still before it is given up."""
    max_jobs: Annotated[int, Meta(ge=0)] = 10_000
    """How many jobs may be waiting and at work; who comes then waits, or is refused. 0: any number."""
    wait_timeout: str = "230s"
    """How long callers that wait for their transcript wait to be let in, before they are refused."""
    keep: Annotated[int, Meta(ge=60)] = 86_400
    """Seconds a finished job stays in Redis; its files stay longer."""
    retention: str = ""
    """How long a finished job's files stay, such as 12h or 30d; empty: until they are deleted."""
    engine_absent_timeout: str = "10m"
    """How long tasks wait for an engine that is gone before they are given to another, or fail."""
    fetch_timeout: str = "10m"
    """How long fetching a recording from its URL may take."""
    webhook_retries: str = "5s,30s,2m,10m,1h,3h,6h"
    """The pauses between attempts to tell a webhook; after the last it is given up."""
    allow_addresses: str = ""
    """Hosts, addresses and networks that may be called though they are not public, separated by commas."""
    model_names: str = ""
    """What the vendors' model names stand for, such as `whisper-1=base,scribe_v2=large-v3`; those that are
    not named stand for the default model."""
    live_fast: str = "distil-large-v3,tiny.en,tiny,base"
    """What the live model `fast` stands for: the first of these models whose weights a worker has."""
    live_accurate: str = "large-v3,large-v3-turbo,base,tiny,tiny.en"
    """The same for the live model `accurate`."""
    live_grace: str = "30s"
    """How long a live session waits for its client to come back."""
    live_idle: str = "30m"
    """How long a live session's client may send nothing, before the session ends."""
    offline: bool = False
    """True: no model is ever fetched."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    log_format: Literal["text", "json"] = "text"
    """`text` or `json`."""

    @property
    def folder(self) -> Path:
        """The data folder as an absolute path."""
        return Path(self.data).expanduser().absolute()

    @property
    def max_upload_bytes(self) -> int:
        """`max_upload` in bytes; raises ValueError for what is no size."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B|)", self.max_upload.strip().upper())
        if not match:
            raise ValueError("expected a size such as 500MB or 2GB")
        return int(float(match[1]) * _UNITS[match[2]])

    @property
    def upload_timeout_s(self) -> int:
        """`upload_timeout` in seconds; raises ValueError for what is no time."""
        return _seconds(self.upload_timeout)

    @property
    def webhook_pauses(self) -> list[int]:
        """`webhook_retries` in seconds; raises ValueError for what are no times."""
        return [_seconds(one) for one in self.webhook_retries.split(",") if one.strip()]

    @property
    def fetch_timeout_s(self) -> int:
        """`fetch_timeout` in seconds; raises ValueError for what is no time."""
        return _seconds(self.fetch_timeout)

    @property
    def wait_timeout_s(self) -> int:
        """`wait_timeout` in seconds; raises ValueError for what is no time."""
        return _seconds(self.wait_timeout)

    @property
    def live_grace_s(self) -> int:
        """`live_grace` in seconds; raises ValueError for what is no time."""
        return _seconds(self.live_grace)

    @property
    def live_idle_s(self) -> int:
        """`live_idle` in seconds; raises ValueError for what is no time."""
        return _seconds(self.live_idle)

    @property
    def variants(self) -> dict[str, list[str]]:
        """What the names of live models that are variants stand for."""
        named = {"fast": self.live_fast, "accurate": self.live_accurate}
        return {name: [one.strip() for one in text.split(",") if one.strip()] for name, text in named.items()}

    @property
    def retention_s(self) -> int | None:
        """`retention` in seconds, or None; raises ValueError for what is no time."""
        return _seconds(self.retention) if self.retention else None

    @property
    def keyed(self) -> bool:
        """Whether callers need a key."""
        return self.keys == "required" or (self.host not in LOOPBACK and not self.behind)

    @property
    def origins(self) -> list[str]:
        """`cors_origins` one by one."""
        return [one.strip() for one in self.cors_origins.split(",") if one.strip()]

    @property
    def names(self) -> dict[str, str]:
        """`model_names` as a table; raises ValueError for what is none."""
        pairs = [pair.partition("=") for pair in self.model_names.split(",") if pair.strip()]
        if not all(name.strip() and mark for name, mark, _ in pairs):
            raise ValueError("expected NAME=MODEL,NAME=MODEL")
        return {name.strip(): model.strip() for name, _, model in pairs}

    @property
    def engine_absent_s(self) -> int:
        """`engine_absent_timeout` in seconds; raises ValueError for what is no time."""
        return _seconds(self.engine_absent_timeout)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([SMHD])", text.strip().upper())
    if not match:
        raise ValueError("expected a time such as 90s, 10m, 12h or 30d")
    return int(match[1]) * _TIMES[match[2]]


def sources(**given: Any) -> dict[str, tuple[Any, str]]:
    """Every setting's value and where it came from; `given` (command line) wins over all."""
    path = Path(os.environ.get("DALSTON_CONFIG", "dalston.toml"))
    try:
        table = tomllib.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise BadSettings(f"{path.name} is no TOML: {error}") from None
    defaults = msgspec.structs.asdict(Settings())
    if unknown := set(table) - set(defaults):
        raise BadSettings(f"{path.name}: unknown settings {', '.join(sorted(unknown))}")
    found: dict[str, tuple[Any, str]] = {}
    for name, default in defaults.items():
        variable = PREFIX + name.upper()
        found[name] = (default, "default")
        if name in table:
            found[name] = (table[name], path.name)
        if variable in os.environ:
            found[name] = (os.environ[variable], variable)
        if given.get(name) is not None:
            found[name] = (given[name], "command line")
    return found


def load(**given: Any) -> Settings:
    """The settings in force; raises BadSettings that lists every problem at once."""
    found, problems = sources(**given), []
    for name, (value, source) in found.items():
        try:
            one = msgspec.convert({name: value}, Settings, strict=False)
            _ = (
                one.max_upload_bytes,
                one.upload_timeout_s,
                one.retention_s,
                one.engine_absent_s,
                one.names,
                one.fetch_timeout_s,
                one.webhook_pauses,
                one.wait_timeout_s,
                one.live_grace_s,
            )
        except ValueError as error:
            label = source if source.startswith(PREFIX) else f"{name} ({source})"
            problems.append(f"{label} = {value!r}: {error}")
    if problems:
        raise BadSettings("\n".join(problems))
    return msgspec.convert({name: value for name, (value, _) in found.items()}, Settings, strict=False)


def refuse_open(settings: Settings, keys: bool) -> None:
    """Raise BadSettings where others could reach a server without a key; `keys`: there are some."""
    if settings.admin_key and not re.fullmatch("dk_.{32,}", settings.admin_key):
        raise BadSettings("DALSTON_ADMIN_KEY is `dk_` and at least 32 characters that nobody can guess.")
    if settings.keyed and not (keys or settings.admin_key):
        raise BadSettings(
            f"Listening on {settings.host} needs a key, and there is none: make one with "
            "`dalston key create NAME`, or listen on 127.0.0.1."
        )
    if settings.keyed or settings.host in LOOPBACK:
        return
    if not any(Path(mark).exists() for mark in CONTAINER_MARKS):
        raise BadSettings(
            "DALSTON_BEHIND is container-network, but this is no container, so others could get in "
            "without a key: unset it and listen on 127.0.0.1."
        )


def environment(settings: Settings) -> dict[str, str]:
    """The settings as variables, for the processes that `dalston up` starts."""
    values = msgspec.structs.asdict(settings).items()
    return {PREFIX + name.upper(): str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in values}  # fmt: skip
