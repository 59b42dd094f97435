"""The OpenAPI document: schemas from the types that answers are made of, with examples.

Answers are encoded by msgspec, so FastAPI does not know their shape; routes name it with `answer`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from dalston_engine.types import Card, Media, Transcript
from fastapi import FastAPI
from msgspec import Struct

from dalston.dialects.base import Dialect
from dalston.docstrings import of_fields
from dalston.exports import FORMATS, ExportOptions
from dalston.gateway import examples
from dalston.gateway.native import TIMES
from dalston.request import TranscribeRequest
from dalston.store.access_keys import AccessKey
from dalston.store.deliveries import Delivery
from dalston.store.events import Change
from dalston.store.fleet import Instance
from dalston.store.jobs import Job, StageResult
from dalston.store.keeping import LiveTranscript
from dalston.store.letters import Letter
from dalston.store.load import Load
from dalston.store.webhooks import Webhook

TYPES: tuple[type[Struct], ...] = (
    *(Job, Transcript, Media, StageResult, TranscribeRequest),
    *(Card, Instance, Load, Letter, Change, AccessKey, Webhook, Delivery, LiveTranscript),
)
VENDORS = {"type": ["object", "array"], "description": "As the vendor documents it"}
TAGS = [
    {"name": "transcriptions", "description": "Recordings in, transcripts out"},
    {"name": "realtime", "description": "Live sessions: who hears them, and what was said"},
    {"name": "elevenlabs", "description": "ElevenLabs' API"},
    {"name": "openai", "description": "OpenAI's API"},
    {"name": "models", "description": "Names of models, in both vendors' shapes"},
    {"name": "webhooks", "description": "Who is told when jobs end"},
    {"name": "keys", "description": "Who may call"},
    {"name": "engines", "description": "What does the work"},
    {"name": "events", "description": "What changes, as it changes"},
    {"name": "health", "description": "For supervisors and monitoring"},
]


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def answer(
    schema: str, description: str, status: int = 200, instead: str = "", texts: bool = False
) -> dict[int | str, dict[str, Any]]:
    """A route's answer: a schema by its name with the example of that name, or one `instead`, or `texts`."""
    rule = _ref(schema) if not instead else {"anyOf": [_ref(schema), _ref(instead)]}
    content: dict[str, Any] = {"application/json": {"schema": rule, "example": examples.ALL[schema]}}
    if texts:
        kinds = {one.content_type for one in FORMATS.values()} - {"application/json"}
        content |= {kind: {"schema": {"type": "string"}} for kind in sorted(kinds)}
    return {status: {"description": description, "content": content}}


def plain(description: str, kind: str, example: str) -> dict[int | str, dict[str, Any]]:
    """A route's answer that is text."""
    content = {kind: {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": description, "content": content}}


def vendor(dialect: Dialect) -> dict[str, Any]:
    """What a route that takes a vendor's form declares: the form, its answers and its errors."""
    _, found = msgspec.json.schema_components([dialect.form], ref_template="#/components/schemas/{name}")
    form, told = found[dialect.form.__name__], of_fields(dialect.form)
    form["properties"] = {
        name: present(rule) | {"description": told[name]} for name, rule in form["properties"].items()
    }
    form["properties"]["file"] = {"type": "string", "format": "binary", "description": "Audio or video"}
    body = {"content": {"multipart/form-data": {"schema": form}}}
    return {"responses": told_by(dialect, "As asked for", dialect.examples.done, texts=True),
            "openapi_extra": {"requestBody": body}}  # fmt: skip


def told_by(
    dialect: Dialect, description: str, example: Any, texts: bool = False
) -> dict[int | str, dict[str, Any]]:
    """The answers of a route in a vendor's dialect."""
    content: dict[str, Any] = {"application/json": {"schema": VENDORS, "example": example}}
    if texts:
        content |= {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/event-stream")}
    error = dialect.examples.error
    fault = {"application/json": {"schema": VENDORS, "example": error}}
    return {
        200: {"description": description, "content": content},
        "4XX": {"description": "The request is at fault, in the vendor's envelope", "content": fault},
        "5XX": {"description": "The server cannot do it now, or failed", "content": fault},
    }


def export_parameters() -> list[dict[str, Any]]:
    """The options of exported transcripts, as parameters of a query."""
    rules = msgspec.json.schema(ExportOptions)["$defs"]["ExportOptions"]["properties"]
    told = of_fields(ExportOptions)
    return [
        {"name": name, "in": "query", "required": False, "description": told[name], "schema": present(rule)}
        for name, rule in rules.items()
    ]


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": answer("Error", "The request is at fault; `message` says what, which, and what to do.")[200],
    "5XX": answer("Error", "The server cannot do it now, or failed.")[200],
}
"""What every route may answer besides."""


def describe(app: FastAPI) -> None:
    """Let the application tell the schemas that its routes name."""
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        document = generated()
        document["tags"] = TAGS
        document["components"] = {"schemas": schemas()}
        return document

    app.openapi = openapi  # type: ignore[method-assign]


@cache
def schemas() -> dict[str, Any]:
    """Every schema by its name."""
    _, found = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    known = {kind.__name__: kind for kind in reached(TYPES)}
    for name, schema in found.items():
        told = of_fields(known[name]) if name in known else {}
        for field, rule in list(schema.get("properties", {}).items()):
            rule = present(rule)
            if field in TIMES:
                rule = {"type": "string", "format": "date-time"}
            schema["properties"][field] = rule | ({"description": told[field]} if field in told else {})
    job, transcript = found["Job"], found["Transcript"]
    job["properties"] = transcript["properties"] | job["properties"]
    job["properties"] |= {
        "request": _ref("TranscribeRequest") | {"description": "What was asked for; with `format=verbose`"},
        "media": _ref("Media") | {"description": "What the source is; with `format=verbose`"},
    }
    job["description"] = (
        "A job; the transcript's fields appear once it is completed. What was not measured is absent."
    )
    webhook = found.pop("Webhook")
    webhook["properties"].pop("secret")
    webhook["required"] = [name for name in webhook["required"] if name != "secret"]
    found["LiveTranscript"]["properties"].pop("owner")
    found["LiveTranscript"]["required"].remove("owner")
    engine = found.pop("Card")
    engine["properties"]["instances"] = _list("Instance")
    found["Load"]["properties"]["capacity"] = {"type": "integer", "description": "Tasks worked on at once"}
    return found | {
        "LiveStatus": _live_status(),
        "Engine": engine,
        "Jobs": _object(jobs=_list("Job"), next={"type": "string", "description": "`after` of what follows"}),
        "Stage": _object(id={"type": "string"}, tasks=_list("StageResult")),
        "Engines": _object(engines=_list("Engine")),
        "DeadLetters": _object(dead_letters=_list("Letter")),
        "Webhook": webhook,
        "Webhooks": _object(webhooks=_list("Webhook")),
        "NewWebhook": _object(**webhook["properties"], secret={"type": "string"}),
        "Secret": _object(secret={"type": "string"}),
        "Delivery": _object(id={"type": "string"}, **found["Delivery"]["properties"]),
        "Deliveries": _object(deliveries=_list("Delivery")),
        "Keys": _object(keys=_list("AccessKey")),
        "NewKey": _object(**found["AccessKey"]["properties"], secret={"type": "string"}),
        "Status": _object(status={"type": "string"}),
        "Error": _object(error=_object(
            code={"type": "string"}, message={"type": "string"},
            job={"type": "string", "description": "The job that failed, if there is one"},
        )),
    }  # fmt: skip


def _live_status() -> dict[str, Any]:
    return _object(
        workers={"type": "array", "items": _object(
            id={"type": "string"}, engine={"type": "string"}, state={"type": "string"},
            models={"type": "object", "description": "Those it has, with the languages they know"},
            **{name: {"type": "integer"} for name in ("capacity", "sessions", "free")},
            seen_seconds_ago={"type": "number"},
            load={"type": "object", "description": "What it measures of itself"},
        )},
        capacity={"type": "integer", "description": "Sessions that all ready workers take"},
        sessions={"type": "integer", "description": "Sessions that workers have been given"},
        free={"type": "integer", "description": "Sessions that could begin, but for a reserve"},
        totals={"type": "object", "description": "Counters since the server's first session"},
    )  # fmt: skip


def reached(types: tuple[type, ...]) -> set[type]:
    """The struct types that these are made of, themselves included."""
    found: set[type] = set()
    waiting: list[Any] = list(types)
    while waiting:
        one = waiting.pop()
        waiting += getattr(one, "__args__", ())
        if isinstance(one, type) and issubclass(one, Struct) and one not in found:
            found.add(one)
            waiting += [field.type for field in msgspec.structs.fields(one)]
    return found


def present(rule: dict[str, Any]) -> dict[str, Any]:
    """A field's schema without null: what is not known is absent."""
    choices = [one for one in rule.get("anyOf", []) if one != {"type": "null"}]
    return choices[0] if len(choices) == 1 else rule


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}
