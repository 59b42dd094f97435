"""What the docs say of the code is what the code says of itself."""

from __future__ import annotations

from pathlib import Path

from dalston_engine import keys

from dalston.docstrings import of_constants
from scripts.reference import FOLDER, pages

OVERVIEW = Path(__file__).parents[2] / "docs" / "architecture" / "00-overview.md"


def test_the_overview_lists_every_key_as_it_is() -> None:
    told, text = of_constants(keys), OVERVIEW.read_text()
    rows = [
        f"| `{key.pattern}` | {key.type} | {key.lifetime} | {key.writers} | {told[name]} |"
        for name, key in keys.ALL.items()
    ]
    assert [row for row in text.splitlines() if row.startswith("| `dalston:")] == rows


def test_the_reference_is_what_the_code_says() -> None:
    """Run `.venv/bin/python -m scripts.reference` after a change that shows."""
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == pages()
