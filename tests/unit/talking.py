"""What tests of the vendors' live dialects share."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, Literal

from dalston_engine.types import Word

from dalston import live
from dalston.live import Hang, Say

SECOND = b"\0\1" * 16_000
Cause = Literal["silence", "length", "flush", "end"]


def b64(content: bytes) -> str:
    """Base64."""
    return base64.b64encode(content).decode()


def told(messages: Iterable[Any]) -> list[Any]:
    """Messages as their client reads them; closing as its code."""
    return [
        json.loads(one.message if isinstance(one, Say) else one) if isinstance(one, str | Say)
        else one.code if isinstance(one, Hang) else one
        for one in messages
    ]  # fmt: skip


def words(text: str, start: float) -> list[Word]:
    """One each second, of which only the first has no probability."""
    return [
        Word(f" {word}", start + n, start + n + 0.5, 0.9 if n else None)
        for n, word in enumerate(text.split())
    ]


class Told:
    """Events in the order of their `seq`."""

    def __init__(self) -> None:
        self.seq = 0

    def __call__(self, kind: Any, *args: Any, **fields: Any) -> Any:
        self.seq += 1
        return kind(self.seq, *args, **fields)

    def final(self, start: float, end: float, text: str, cause: Cause = "silence", **more: Any) -> Any:
        return self(live.FinalTranscript, start, end, text, cause, **more)

    def partial(self, start: float, stable: str, rest: str = "") -> Any:
        return self(live.PartialTranscript, start, start + 1, stable + rest, stable)
