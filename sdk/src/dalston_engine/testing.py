"""Helpers for tests of servers and engines; nothing at run time uses them."""

from __future__ import annotations

import re

from dalston_engine import keys
from dalston_engine.keys import Key


def family(key: str) -> Key | None:
    """The family that a concrete Redis key belongs to, literal names before patterns."""
    for candidate in sorted(keys.ALL.values(), key=lambda known: known.pattern.count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^:]+", candidate.pattern), key):
            return candidate
    return None
