"""Opens the pipeline, from the hub, a folder, or packaged weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from campplus import CampPlus
from dalston_engine import ModelUnavailable
from huggingface_hub import hf_hub_download
from pyannote.audio import Pipeline
from pyannote.audio.core.pipeline import expand_subfolders
from pyannote.audio.core.plda import PLDA
from pyannote.audio.pipelines.clustering import BaseClustering

HELP = (
    "pyannote/speaker-diarization-3.1 is not on this machine and could not be fetched. Accept its conditions "
    "and those of pyannote/segmentation-3.0 at the model hub, and start the server with HF_TOKEN set to a "
    "token of that account. The model `offline` and the engine pyannote-onnx need no token."
)
MOST = 5_000
"""Voices clustered at once, about an hour's. Time and memory grow with the square, and the interpreter is
held all the while, which can cost the lease: 1.2 s for 5 000, 7 s for 10 000, 38 s and 3 GB for 20 000."""


def opened(name: str, find: Callable[[str], str], cache: Path) -> Any:
    """The pipeline of that name; `find` tells where it is, `cache` is where the hub's files belong."""
    try:
        config = offline(Path(find(name))) if name == "offline" else configured(find(name), cache)
        # Version 4 wants this even for a clustering that does not use it, and would fetch it.
        config["pipeline"]["params"]["plda"] = object.__new__(PLDA)
        pipeline = Pipeline.from_pretrained(config, cache_dir=cache)
    except (ModelUnavailable, OSError):
        if name == "offline":
            raise
        raise ModelUnavailable(HELP) from None
    limit(pipeline.clustering)
    return pipeline


def configured(where: str, cache: Path) -> dict[str, Any]:
    """The configuration that comes with the pipeline in a folder or at the hub."""
    file = Path(where) / "config.yaml"
    if not file.exists():
        file = Path(hf_hub_download(where, "config.yaml", cache_dir=cache))
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    expand_subfolders(config, where, cache_dir=cache)
    return config


def offline(folder: Path) -> dict[str, Any]:
    """The configuration of 3.1, but for the network that describes voices and the threshold made for it."""
    params = {
        "segmentation": str(folder / "segmentation.bin"),
        "embedding": CampPlus(folder / "campplus.pt"),
        "embedding_exclude_overlap": True,
        "clustering": "AgglomerativeClustering",
    }
    return {
        "pipeline": {"name": "pyannote.audio.pipelines.SpeakerDiarization", "params": params},
        "params": {
            "segmentation": {"min_duration_off": 0.0},
            # Recordings with 1 to 3 speakers come out alike from 0.55 to 0.95, far-off ones from 0.8 on.
            "clustering": {"method": "centroid", "min_cluster_size": 12, "threshold": 0.8},
        },
    }


def limit(clustering: BaseClustering) -> None:
    """Let it cluster at most MOST voices, evenly spread; the others then go to the nearest cluster."""
    usable = clustering.filter_embeddings

    def some(*args: Any, **options: Any) -> list[np.ndarray]:
        found = usable(*args, **options)
        kept = np.linspace(0, len(found[0]) - 1, min(len(found[0]), MOST)).astype(int)
        return [part[kept] for part in found]

    clustering.filter_embeddings = some
