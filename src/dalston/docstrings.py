"""The texts below fields and constants, as their source has them: the documents are made of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType


def of_fields(kind: type) -> dict[str, str]:
    """The text below each field of a class, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        if base.__module__.startswith("dalston"):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(tree, ast.ClassDef)
            found |= _texts(tree.body)
    return found


def of_constants(module: ModuleType) -> dict[str, str]:
    """The text below each constant of a module."""
    return _texts(ast.parse(inspect.getsource(module)).body)


def _texts(body: Sequence[ast.stmt]) -> dict[str, str]:
    found = {}
    for one, text in pairwise(body):
        target = one.targets[0] if isinstance(one, ast.Assign) else getattr(one, "target", None)
        if (
            isinstance(target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[target.id] = " ".join(inspect.cleandoc(str(text.value.value)).split())
    return found
