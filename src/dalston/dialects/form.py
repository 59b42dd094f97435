"""A form's texts to the typed fields of a dialect.

What official clients put on the wire and other servers stumble over: `null` as a text, lists as
JSON, as repetition or as Python prints them, `name[]`, `name[key]`, objects encoded twice, a field
sent twice of which the last counts.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, inspect

from dalston.dialects.base import Fields
from dalston.errors import BadField

Form = TypeVar("Form", bound=Struct)
_NESTED = re.compile(r"(\w+)\[(\w*)\]")
_MANY = (inspect.ListType, inspect.SetType)
_OBJECT = (inspect.DictType, inspect.StructType)


def read(kind: type[Form], fields: Fields) -> Form:
    """The form's fields as `kind` declares them; raises BadField naming the first that is wrong."""
    shapes, values = _shapes(kind), {}
    for name, texts in _together(fields).items():
        if name not in shapes:
            raise BadField(name, f"There is no field `{name[:40]}` here.", kind="extra_forbidden")
        if texts:
            values[name] = _value(name, shapes[name], texts)
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in values:
            raise BadField(field.name, f"The field `{field.name}` is missing.", kind="missing")
        if field.name in values:
            values[field.name] = _converted(field, values[field.name])
    return kind(**values)


def _together(fields: Fields) -> dict[str, list[Any]]:
    """Texts by the plain names of their fields, without those that say nothing."""
    found: dict[str, list[Any]] = {}
    for name, texts in fields.items():
        present = [text for text in texts if text not in ("", "null")]
        nested = _NESTED.fullmatch(name)
        if nested is None:
            found.setdefault(name, []).extend(present)
        elif not nested[2]:
            found.setdefault(nested[1], []).extend(present)
        elif present:
            inside = found.setdefault(nested[1], [])
            if not inside or not isinstance(inside[-1], dict):
                inside.append({})
            inside[-1][nested[2]] = present[-1]
    return found


def _value(name: str, shapes: set[type], texts: Sequence[Any]) -> Any:
    if shapes & set(_MANY):
        return [one for text in texts for one in _listed(text)]
    last = texts[-1]
    if shapes & set(_OBJECT) and isinstance(last, str):
        with contextlib.suppress(msgspec.DecodeError):
            while isinstance(last, str):
                last = msgspec.json.decode(last)
    return last


def _listed(text: Any) -> list[Any]:
    """The elements that one text stands for."""
    if not isinstance(text, str):
        return [text]
    for decode in (msgspec.json.decode, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            found = decode(text)
            if isinstance(found, list):
                return found
            if isinstance(found, str | dict):
                return [found]
    return [text]


def _converted(field: msgspec.structs.FieldInfo, value: Any) -> Any:
    try:
        return msgspec.convert(value, field.type, strict=False)
    except msgspec.ValidationError as error:
        told = str(error).split(" - at")[0]
        raise BadField(field.name, f"The field `{field.name}`: {told}.") from None


@cache
def _shapes(kind: type[Struct]) -> dict[str, set[type]]:
    """Of what kinds each field may be."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return {
        field.name: {
            type(one)
            for one in (field.type.types if isinstance(field.type, inspect.UnionType) else [field.type])
        }
        for field in info.fields
    }
