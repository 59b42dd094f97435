"""Opens the pipeline, from the hub or a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dalston_engine import ModelUnavailable
from pyannote.audio import Pipeline
from pyannote.audio.pipelines.clustering import BaseClustering

HELP = (
    "pyannote/speaker-diarization-community-1 is not on this machine and could not be fetched. Accept its "
    "conditions at the model hub, and start the server with HF_TOKEN set to a token of that account. The "
    "model `offline` of the engine pyannote-3.1 and the engine pyannote-onnx need no token."
)
MOST = 5_000
"""Voices clustered at once, about an hour's. Time and memory grow with the square, and the interpreter is
held all the while, which can cost the lease: 1.2 s for 5 000, 7 s for 10 000, 38 s and 3 GB for 20 000."""


def opened(name: str, find: Callable[[str], str], cache: Path) -> Any:
    """The pipeline of that name; `find` tells where it is, `cache` is where the hub's files belong."""
    try:
        pipeline = Pipeline.from_pretrained(find(name), cache_dir=cache)
    except (ModelUnavailable, OSError):
        raise ModelUnavailable(HELP) from None
    limit(pipeline.clustering)
    return pipeline


def limit(clustering: BaseClustering) -> None:
    """Let it cluster at most MOST voices, evenly spread; the others then go to the nearest cluster."""
    usable = clustering.filter_embeddings

    def some(*args: Any, **options: Any) -> list[np.ndarray]:
        found = usable(*args, **options)
        kept = np.linspace(0, len(found[0]) - 1, min(len(found[0]), MOST)).astype(int)
        return [part[kept] for part in found]

    clustering.filter_embeddings = some
