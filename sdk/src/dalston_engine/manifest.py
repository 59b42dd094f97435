"""The manifest: `[tool.dalston]` in an engine's pyproject.toml, read without importing the engine.

[tool.dalston]
id = "faster-whisper"
stage = "transcribe"
default_model = "base"
env = { OMP_WAIT_POLICY = "PASSIVE" }           # set in the engine's process

[tool.dalston.models.base]
languages = ["*"]
hub = "Systran/faster-whisper-base"             # where the hub has it
[tool.dalston.models.base.files."model.bin"]    # where installed packages have it
parts = ["some_package/model.bin.part1", "some_package/model.bin.part2"]
sha256 = "d01c…"
"""

import tomllib
from pathlib import Path

import msgspec
from msgspec import Struct, field

from dalston_engine.errors import DalstonError
from dalston_engine.stages import STAGES
from dalston_engine.types import About

PRIVATE = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
           "DISABLE_SAFETENSORS_CONVERSION": "true"}  # fmt: skip
"""In every engine's environment: what runs here is nobody else's business."""


class WeightFile(Struct, forbid_unknown_fields=True):
    """A file of a model, made of parts found in installed packages."""

    parts: list[str]
    """Paths below site-packages, concatenated in order."""
    sha256: str


class Model(Struct, forbid_unknown_fields=True):
    """A model an engine knows by name."""

    languages: list[str] = field(default_factory=lambda: ["*"])
    hub: str | None = None
    files: dict[str, WeightFile] = field(default_factory=dict)


class Manifest(About, forbid_unknown_fields=True):
    """What an engine folder declares."""

    models: dict[str, Model] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    optional: bool = False
    """True when its environment is built only where it is named: it is large, or its weights are fetched."""
    torch: str | None = None
    """The release of PyTorch it needs, which its lock leaves out: machines need different builds of it."""
    deadline: int = 6 * 3600
    """Seconds after which a task that has not returned is given up, and its process with it."""


class BadManifest(DalstonError):
    """An engine folder has no usable manifest."""

    code, retryable = "bad_manifest", False


def read(folder: Path) -> Manifest:
    """The manifest of the engine in `folder`; raises BadManifest saying what is wrong."""
    path = folder / "pyproject.toml"
    try:
        document = tomllib.loads(path.read_text())
        declared = {"version": document["project"]["version"], **document["tool"]["dalston"]}
        manifest = msgspec.convert(declared, Manifest)
        manifest.env = PRIVATE | manifest.env
    except KeyError as error:
        raise BadManifest(f"{path} has no {error}; an engine needs [project] and [tool.dalston]") from None
    except (OSError, ValueError) as error:
        raise BadManifest(f"{path}: {error}") from None
    if manifest.stage not in STAGES:
        raise BadManifest(f"{path}: stage {manifest.stage!r} is none of {', '.join(STAGES)}")
    manifest.listens = manifest.listens or manifest.stage == "listen"
    return manifest
