"""Reads PyTorch's checkpoints without PyTorch: a zip of one pickle and each tensor's raw bytes.

A pickle can call anything it names. This one may name what rebuilds tensors; the few classes that the
checkpoints at hand carry besides become empty objects, and any other name ends the reading.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
IGNORED = {
    ("pyannote.audio.core.task", "Specifications"),
    ("pyannote.audio.core.task", "Resolution"),
    ("pyannote.audio.core.task", "Problem"),
    ("torch.torch_version", "TorchVersion"),
}
"""Classes that say how a network was trained; nothing here asks."""


class Ignored:
    """Stands for an object of a class in `IGNORED`."""

    def __new__(cls, *_: object) -> Ignored:
        return object.__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Forget it."""


def rebuilt(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> np.ndarray:
    """A tensor out of its storage; offset and strides count elements."""
    size = math.prod(shape)
    expected = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    if [s for s, n in zip(strides, shape, strict=True) if n > 1] != [
        s for s, n in zip(expected, shape, strict=True) if n > 1
    ]:
        raise pickle.UnpicklingError("a tensor does not lie in order of its axes")
    return storage[offset : offset + size].reshape(shape)


class Unpickler(pickle.Unpickler):
    """Builds the numbers of a checkpoint and refuses to call anything else."""

    def __init__(self, file: io.BytesIO, storage: Callable[[str, np.dtype], np.ndarray]) -> None:
        super().__init__(file)
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuilt
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) in IGNORED:
            return Ignored
        raise pickle.UnpicklingError(f"a checkpoint of numbers has no need of {module}.{name}")

    def persistent_load(self, pid: tuple[str, np.dtype, str, str, int]) -> np.ndarray:
        _, dtype, key, _, _ = pid
        return self.storage(key, dtype)


def read(path: Path) -> Weights:
    """The named tensors of a checkpoint; raises UnpicklingError for one with more than that in it."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl") + "data/"

        def storage(key: str, dtype: np.dtype) -> np.ndarray:
            return np.frombuffer(archive.read(folder + key), dtype)

        content = Unpickler(io.BytesIO(archive.read(pickled)), storage).load()
    state = content.get("state_dict", content)
    return {name: tensor for name, tensor in state.items() if tensor.ndim}
