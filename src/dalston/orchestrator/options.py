"""Options of an engine that this process cannot import: from its card's JSON schema and back.

The gateway validates what a request carries against the chosen engines' schemas, and coerces the
texts of a form to the declared types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta, Struct

_LIMITS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
}
_SCALARS = {"integer": int, "number": float, "string": str, "boolean": bool, "null": None}


def type_of(schema: dict[str, Any]) -> type[Struct]:
    """The options struct that a schema from `schema_of` describes."""
    fields = [(name, _field(rule) | None, None) for name, rule in schema.get("properties", {}).items()]
    return msgspec.defstruct("Options", fields, forbid_unknown_fields=True, omit_defaults=True)


def _field(rule: dict[str, Any]) -> Any:
    if "anyOf" in rule:
        return Union[tuple(_field(choice) for choice in rule["anyOf"])]  # noqa: UP007
    if "enum" in rule:
        return Literal[tuple(rule["enum"])]
    if rule.get("type") == "array":
        kind: Any = list[_field(rule.get("items") or {})]  # type: ignore[misc]
    else:
        kind = _SCALARS.get(rule.get("type", ""), Any)
    limits = {_LIMITS[name]: rule[name] for name in _LIMITS if name in rule}
    return Annotated[kind, Meta(**limits)] if limits else kind
