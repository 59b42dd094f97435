"""What the docs say of the code is what the code says of itself."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

from dalston_engine import keys

OVERVIEW = Path(__file__).parents[2] / "docs" / "architecture" / "00-overview.md"


def told_of_keys() -> dict[str, str]:
    """The docstring of every key."""
    body = ast.parse(Path(keys.__file__).read_text()).body
    return {
        one.targets[0].id: " ".join(following.value.value.split())
        for one, following in pairwise(body)
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(following.value.value, str)
    }


def test_the_overview_lists_every_key_as_it_is() -> None:
    told, text = told_of_keys(), OVERVIEW.read_text()
    rows = [
        f"| `{key.pattern}` | {key.type} | {key.lifetime} | {key.writers} | {told[name]} |"
        for name, key in keys.ALL.items()
    ]
    assert [row for row in text.splitlines() if row.startswith("| `dalston:")] == rows
