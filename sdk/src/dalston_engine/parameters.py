"""A method's options as a schema: the signature is the only declaration.

`options_of` turns the keyword parameters of a method into a msgspec struct type, `schema_of` gives
its JSON schema for the card, and `validated` checks and coerces values against the type.
"""

import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import msgspec
from msgspec import Struct

from dalston_engine.errors import BadInput

Settings = TypeVar("Settings", bound=Struct)


def options_of(method: Callable[..., Any], skip: int) -> type[Struct]:
    """The struct of a method's parameters after `self` and the first `skip` positional ones.

    Raises TypeError for a parameter without a type or without a default.
    """
    hints = get_type_hints(method, include_extras=True)
    fields: list[tuple[str, Any, Any]] = []
    for name, parameter in list(inspect.signature(method).parameters.items())[1 + skip :]:
        if name not in hints or parameter.default is parameter.empty:
            raise TypeError(f"{method.__qualname__}: option {name!r} needs a type and a default")
        fields.append((name, hints[name], parameter.default))
    return msgspec.defstruct(method.__name__.title(), fields, forbid_unknown_fields=True, kw_only=True)


def schema_of(options: type[Struct]) -> dict[str, Any]:
    """The JSON schema of an options struct, without references."""
    (schema,), definitions = msgspec.json.schema_components([options])
    return dict(definitions[schema["$ref"].rsplit("/", 1)[1]])


def validated(options: type[Settings], values: dict[str, Any]) -> Settings:
    """`values` as the options struct, texts coerced, one text as a list where a list is wanted.

    Raises BadInput naming the option.
    """
    kinds = options.__annotations__
    given = {n: [v] if isinstance(v, str) and "list[" in str(kinds.get(n)) else v for n, v in values.items()}
    try:
        return msgspec.convert(given, options, strict=False)
    except msgspec.ValidationError as error:
        what = str(error).replace(" - at `$.", " for option `").replace("Object contains", "There is an")
        raise BadInput(f"{what}.", code="invalid_option") from None


def from_environment(options: type[Settings], prefix: str) -> Settings:
    """The struct with those fields for which there is a variable `<prefix><NAME>`."""
    names = [name for name in options.__struct_fields__ if prefix + name.upper() in os.environ]
    return validated(options, {name: os.environ[prefix + name.upper()] for name in names})
