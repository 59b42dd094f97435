"""Count lines of code (no blanks, comments or docstrings) and hold them against the budgets."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUDGETS = {"sdk/src": 1100, "engines/faster-whisper": 660}
LISTENING, LISTENING_BUDGET = "sdk/src/dalston_engine/live", 1350
"""What the SDK has for live sessions, which engines that hear none never import."""
ALIGNING, ALIGNING_BUDGET = ("alignment.py", "ctc.py"), 280
"""What the SDK has for engines that align, which no other imports."""
APART = {"testing.py", *ALIGNING}
"""What does not count: helpers for tests, and what has a budget of its own."""
MODULE, FUNCTION = 400, 60


def code_lines(path: Path) -> int:
    """Lines of `path` that hold code."""
    text = path.read_text()
    if path.suffix == ".lua":
        return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("--"))
    lines: set[int] = set()
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
            tokenize.ENDMARKER}  # fmt: skip
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skip:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def long_functions(path: Path) -> list[str]:
    """Functions over the limit, as `path:line name (lines)`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION:
                found.append(f"{path}:{node.lineno} {node.name} ({length})")
    return found


def sources(folder: Path) -> list[Path]:
    """Python and Lua files below `folder`, environments left out."""
    return [p for p in sorted(folder.rglob("*")) if p.suffix in {".py", ".lua"} and ".venv" not in p.parts]


def total(folder: str) -> int:
    """Lines of code below a folder of the project, but for what counts apart."""
    apart = listening() if (ROOT / LISTENING).is_relative_to(ROOT / folder) else 0
    return sum(code_lines(path) for path in sources(ROOT / folder) if path.name not in APART) - apart


def aligning() -> int:
    """Lines of the SDK's part for aligners."""
    return sum(code_lines(ROOT / "sdk/src/dalston_engine" / name) for name in ALIGNING)


def listening() -> int:
    """Lines of the SDK's part for live sessions."""
    return sum(map(code_lines, sources(ROOT / LISTENING)))


def main() -> int:
    over = []
    counted = {name: (total(name), budget) for name, budget in BUDGETS.items()}
    counted |= {"aligning": (aligning(), ALIGNING_BUDGET), "listening": (listening(), LISTENING_BUDGET)}
    for name, (lines, budget) in counted.items():
        print(f"{name}: {lines} of {budget}")
        if lines > budget:
            over.append(f"{name} has {lines} lines, its budget is {budget}")
    for name in ("src", "sdk", "engines"):
        for path in sources(ROOT / name):
            if code_lines(path) > MODULE:
                over.append(f"{path} has more than {MODULE} lines")
            if path.suffix == ".py":
                over += long_functions(path)
    print("\n".join(over))
    return bool(over)


if __name__ == "__main__":
    sys.exit(main())
