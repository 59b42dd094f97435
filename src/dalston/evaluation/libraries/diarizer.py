"""`diarizer.py ENGINE MODEL CACHE`: a diarization library alone, as its engine sets it up.

Run with the engine's Python; ENGINE is its folder. For each line read, `{"path": …}` of prepared audio,
a line with the turns and the CPU seconds they took.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from dalston_engine import Audio, Engine, manifest
from dalston_engine.host import Host
from dalston_engine.models import Models


def host_of(folder: Path, cache: Path) -> Host:
    """The one engine that a folder's `engine.py` defines."""
    sys.path.insert(0, str(folder))
    defined = vars(importlib.import_module("engine")).values()
    (engine,) = (one for one in defined if isinstance(one, type) and one.__module__ == "engine"
                 and issubclass(one, Engine))  # fmt: skip
    about = manifest.read(folder)
    return Host(engine, about, Models(about, cache))


def answer(host: Host, model: str, path: str) -> dict[str, Any]:
    """Who speaks when in a recording."""
    began, started = time.process_time(), time.perf_counter()
    told, _ = host.perform({"model": model}, [Audio(Path(path))], lambda _: None, lambda _: None)
    return {
        "cpu": time.process_time() - began,
        "seconds": time.perf_counter() - started,
        "turns": [{"start": t.start, "end": t.end, "speaker": t.speaker} for t in told.turns],
    }


def main(folder: str, model: str, cache: str) -> None:
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # libraries print
        host = host_of(Path(folder), Path(cache))
        host.loaded(model)
        print("{}", file=out, flush=True)
        for line in sys.stdin:
            try:
                told = answer(host, model, json.loads(line)["path"])
            except Exception as error:  # any of many libraries' errors is an answer: it cannot do this one
                told = {"failure": type(error).__name__}
            print(json.dumps(told), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
