"""Waiting for something to become true: never a sleep that hopes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

PAUSE_S = 0.01


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true answer of `what`."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, f"it did not happen within {seconds} s"
        time.sleep(PAUSE_S)
    return answer


async def soon(what: Callable[[], Any], seconds: float = 60) -> Any:
    """As `until`, while the loop goes on; `what` may be asynchronous."""
    end = time.monotonic() + seconds
    while True:
        answer = what()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < end, f"it did not happen within {seconds} s"
        await asyncio.sleep(PAUSE_S)
