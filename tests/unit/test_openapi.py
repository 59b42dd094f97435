"""The OpenAPI document is complete, and its examples are what it says they are."""

from __future__ import annotations

from typing import Any

import pytest

from dalston.gateway.app import create_app
from dalston.settings import Settings

DOCUMENT = create_app(Settings()).openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
ROUTES = [
    (path, method, told) for path, methods in DOCUMENT["paths"].items() for method, told in methods.items()
]


@pytest.mark.parametrize(
    ("path", "method", "told"), ROUTES, ids=lambda one: one if isinstance(one, str) else ""
)
def test_every_route_is_described(path: str, method: str, told: dict[str, Any]) -> None:
    assert told["summary"]
    assert told["description"]
    assert told["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    assert {"4XX", "5XX"} <= set(told["responses"])
    for status, answer in told["responses"].items():
        assert answer["description"] != "Successful Response" or status == "204"
        for kind, content in answer.get("content", {}).items():
            assert content["schema"], kind
            if kind == "application/json":
                check(content["example"], content["schema"])
    for parameter in told.get("parameters", []):
        assert parameter["required"] or parameter.get("description") or "default" in parameter["schema"]


def test_every_reference_leads_somewhere() -> None:
    for name in references(DOCUMENT):
        assert name in SCHEMAS


def test_fields_are_described_as_in_the_code() -> None:
    assert SCHEMAS["Word"]["properties"]["probability"]["description"].startswith("The model's mean")
    assert SCHEMAS["Job"]["properties"]["progress"]["description"].startswith("Work done")
    assert SCHEMAS["Job"]["properties"]["created_at"]["format"] == "date-time"
    assert "null" not in str(SCHEMAS["Transcript"])


def check(value: Any, schema: dict[str, Any]) -> None:
    """Fail where a value is not what a schema says, or says more."""
    if "anyOf" in schema:
        schema = schema["anyOf"][0]
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[1]]
    match schema.get("type"):
        case "object" if "properties" in schema:
            assert set(value) <= set(schema["properties"])
            assert set(schema.get("required", [])) <= set(value)
            for name, one in value.items():
                check(one, schema["properties"][name])
        case "array":
            for one in value:
                check(one, schema["items"])
        case "string":
            assert isinstance(value, str)
        case "integer":
            assert type(value) is int
        case "number":
            assert isinstance(value, int | float)


def references(part: Any) -> list[str]:
    """The names of all schemas that a part of the document refers to."""
    if isinstance(part, dict):
        own = [part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else []
        return own + [name for one in part.values() for name in references(one)]
    return [name for one in part for name in references(one)] if isinstance(part, list) else []
