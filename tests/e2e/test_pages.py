"""What the README and the tutorials tell a reader to do works, word by word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.pages import NOT_RUN, ROOT, Reader, commands, steps

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    ROOT / "docs" / "how-to" / "write-an-engine.md",
]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Somebody with a checkout; all terminals are closed in the end."""
    someone = Reader(tmp_path)
    try:
        yield someone
    finally:
        someone.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_command_of_the_page_works(reader: Reader, page: Path) -> None:
    reader.follow(page)
    assert set(reader.close()) <= {0}
    assert set(reader.left_out) <= NOT_RUN.keys()


def test_pages_are_read_as_people_read_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say:\n\n    echo a \\\n         b   # why\n    echo c\n\n```text\na …\n```\n\n"
        "Into `x/y.py`:\n\n```python\npass\n```\n\nAs in\n\n```python\nno file\n```\n\n```\n picture\n```\n"
    )
    found = [(step.kind, step.text, step.name) for step in steps(page)]
    assert found == [
        ("command", "echo a  b   # why", ""),
        ("command", "echo c", ""),
        ("output", "a …", ""),
        ("file", "pass\n", "x/y.py"),
    ]
    assert commands("# only a comment") == []


def test_the_readme_has_commands() -> None:
    assert len([step for step in steps(ROOT / "README.md") if step.kind == "command"]) > 5
