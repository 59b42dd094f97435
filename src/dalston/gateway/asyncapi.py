"""The AsyncAPI document of the native live socket, from the types that its messages are made of."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

import dalston
from dalston.dialects.native_live import Message, Query
from dalston.docstrings import of_fields
from dalston.gateway.openapi import present, reached
from dalston.live import Event

router = APIRouter()
PATH = "/v1/audio/transcriptions/stream"
SENT, TOLD = get_args(Message), get_args(Event)
AUDIO = {
    "name": "samples",
    "title": "Audio",
    "summary": "A binary message: more samples in the session's encoding, or the next piece of a file.",
    "contentType": "application/octet-stream",
    "payload": {"type": "string", "format": "binary"},
}


@router.get("/asyncapi.json", include_in_schema=False)
async def asyncapi() -> Response:
    """The document."""
    return Response(msgspec.json.encode(document()), media_type="application/json")


@cache
def document() -> dict[str, Any]:
    """What a client of the native live socket sends and is told."""
    messages = {"Audio": AUDIO} | {one.__name__: _message(one) for one in (*SENT, *TOLD)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Dalston, live",
            "version": dalston.__version__,
            "description": "Transcription while somebody speaks: audio in, events out. Times are seconds of "
            "the session's audio.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": PATH,
                "description": "One session, or one more connection to it. Who may not enter is told so by "
                "the handshake's status.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "query": _schemas().pop("Query")}},
            }
        },
        "operations": {
            "send": _operation("receive", "What a client sends.", ["Audio", *(one.__name__ for one in SENT)]),
            "hear": _operation("send", "What it is told.", [one.__name__ for one in TOLD]),
        },
        "components": {
            "messages": messages,
            "schemas": {name: rule for name, rule in _schemas().items() if name != "Query"},
        },
    }


def _operation(action: str, summary: str, messages: list[str]) -> dict[str, Any]:
    """`action` is what the server does."""
    refs = [{"$ref": f"#/channels/stream/messages/{name}"} for name in messages]
    return {"action": action, "channel": {"$ref": "#/channels/stream"}, "summary": summary, "messages": refs}


def _message(kind: Any) -> dict[str, Any]:
    name = kind.__name__
    summary = _schemas()[name]["description"]
    payload = {"$ref": f"#/components/schemas/{name}"}
    return {"name": kind.__struct_config__.tag, "title": name, "summary": summary, "payload": payload}


def _schemas() -> dict[str, Any]:
    """Every schema by its name, with the texts of its fields."""
    kinds: tuple[Any, ...] = (Query, *SENT, *TOLD)
    _, found = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    known = {kind.__name__: kind for kind in reached(kinds)}
    for name, schema in found.items():
        told = of_fields(known[name])
        for field, rule in schema["properties"].items():
            text = {"description": told[field]} if field in told else {}
            schema["properties"][field] = present(rule) | text
    return dict(found)
