"""How commands show what they found: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

PIPE_COLUMNS = 1000


def as_json(found: Any) -> str:
    """A value as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(found)).decode()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show rows; ids are never cut, and in a pipe nothing is."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for column in columns:
        shown.add_column(column, no_wrap=column in {"job", "engine", "delivery"}, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(shown)


def say(text: str) -> None:
    """A line for the person at the terminal; only results go to stdout."""
    print(text, file=sys.stderr, flush=True)
