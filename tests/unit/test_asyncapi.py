"""The AsyncAPI document tells of every message of the native live socket, and leads nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from dalston.dialects.native_live import Message, Query
from dalston.gateway.asyncapi import document
from dalston.live import Event

DOCUMENT = document()


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for one in part.values():
            yield from references(one)
    elif isinstance(part, list):
        for one in part:
            yield from references(one)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        part = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def test_every_message_is_there_with_its_type_and_what_it_is() -> None:
    messages, schemas = DOCUMENT["components"]["messages"], DOCUMENT["components"]["schemas"]
    for kind in (*get_args(Message), *get_args(Event)):
        told = messages[kind.__name__]
        assert told["summary"]
        assert schemas[kind.__name__]["properties"]["type"]["enum"] == [told["name"]]
    sent, heard = (DOCUMENT["operations"][name]["messages"] for name in ("send", "hear"))
    assert len(sent) == len(get_args(Message)) + 1
    assert len(heard) == len(get_args(Event))


def test_every_field_of_the_query_is_told() -> None:
    query = DOCUMENT["channels"]["stream"]["bindings"]["ws"]["query"]["properties"]
    assert list(query) == list(Query.__struct_fields__)
    assert all(rule["description"] for rule in query.values())
