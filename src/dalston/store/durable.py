"""Files that survive a power cut, changed by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LOCK_S = 2.0
"""How long to wait for somebody else who changes the same."""


@contextlib.contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """While nobody else changes what is in a folder; raises BlockingIOError when that takes too long."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    end = time.monotonic() + LOCK_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def write(folder: str | Path, files: dict[str, bytes], with_: Sequence[Path] = ()) -> None:
    """Replace files in their order, each as a whole, and make them and those of `with_` durable.

    All contents are written before the first is synced: one commit of the file system serves all.
    """
    asides = {f"{folder}/{name}.part": f"{folder}/{name}" for name in files}
    try:
        with contextlib.ExitStack() as opened:
            written = [opened.enter_context(open(aside, "wb")) for aside in asides]
            for file, content in zip(written, files.values(), strict=True):
                file.write(content)
                file.flush()
            for path in with_:
                sync(path)
            for file in written:
                os.fsync(file.fileno())
    except OSError:  # a full disk most likely: give back what can be given back
        for aside in asides:
            Path(aside).unlink(missing_ok=True)
        raise
    for aside, target in asides.items():
        os.rename(aside, target)
    sync(folder)


def sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
