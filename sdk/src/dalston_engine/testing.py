"""Helpers for tests of servers and engines; nothing at run time uses them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from dalston_engine import keys
from dalston_engine.keys import Key


def family(key: str) -> Key | None:
    """The family that a concrete Redis key belongs to, literal names before patterns."""
    for candidate in sorted(keys.ALL.values(), key=lambda known: known.pattern.count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^:]+", candidate.pattern), key):
            return candidate
    return None


def longest_pause(call: Callable[[], object], tick: float = 0.05) -> float:
    """How long, in seconds, a call kept every other thread of this process from running.

    A lease is renewed from a thread, so an engine that pauses it longer than 5 s loses its task.
    """
    ended, longest = threading.Event(), 0.0

    def watch() -> None:
        nonlocal longest
        last = time.monotonic()
        while not ended.wait(tick):
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        longest = max(longest, time.monotonic() - last)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call()
    finally:
        ended.set()
        watcher.join()
    return longest - tick
