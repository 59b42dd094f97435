"""Any value of a type, for property tests: scalars, lists, unions, literals, limits and structs."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st
from msgspec import Meta

Strategy = st.SearchStrategy[Any]

SCALARS: dict[Any, Strategy] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    Any: st.none() | st.booleans() | st.text(max_size=5),
}


def values(kind: Any) -> Strategy:
    """Values that msgspec takes for this type."""
    if kind in SCALARS:
        return SCALARS[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.builds(kind, **{f.name: values(f.type) for f in msgspec.structs.fields(kind)})
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([values(arg) for arg in args])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is list:
        return st.lists(values(args[0]), max_size=4)
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    assert origin is Annotated, kind
    return limited(args[0], args[1])


def limited(kind: Any, meta: Meta) -> Strategy:
    """Values of a type within its limits."""
    if get_origin(kind) is list:
        return st.lists(values(get_args(kind)[0]), min_size=meta.min_length or 0, max_size=meta.max_length)
    if kind is str:
        return st.text(min_size=meta.min_length or 0, max_size=meta.max_length)
    low, high = (meta.ge if meta.gt is None else meta.gt), (meta.le if meta.lt is None else meta.lt)
    if kind is int:
        least = None if low is None else int(low) + (meta.gt is not None)
        return st.integers(least, None if high is None else int(high) - (meta.lt is not None))
    return st.floats(
        low, high, exclude_min=meta.gt is not None, exclude_max=meta.lt is not None, allow_nan=False
    )
