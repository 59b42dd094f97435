"""Requests made from the server's own OpenAPI document: no 5xx, and every answer as documented.

The document is the served one, so the test follows what is written there. An operation that documents
no error of its own is held to its successes alone; one that does, to every status it answers with.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx2
import hypothesis.strategies as st
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.conftest import Server
from tests.security import craft

LONG = "DALSTON_CHAOS" in os.environ
pytestmark = [pytest.mark.usefixtures("unharmed"), pytest.mark.timeout(1800 if LONG else 60)]
REQUESTS = settings(
    max_examples=200 if LONG else 20,
    derandomize=not LONG,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.filter_too_much,
        HealthCheck.too_slow,
    ],
)
MEASURES = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
AWAY = {503, 507}
"""What a server may say of itself when it is true: no engine for this model, a full disk."""
FRAMEWORKS_OWN = "HTTPValidationError"


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    """The document as it is served."""
    return server.client.get("/openapi.json").json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Every path and method but those whose answers have no end."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path != "/v1/events":
                yield path, method, operation


def tells_of_errors(operation: Any) -> bool:
    """True when the operation documents an error that the framework did not put there."""
    return any(
        status >= "4" and FRAMEWORKS_OWN not in json.dumps(response)
        for status, response in operation["responses"].items()
    )


def bounded(case: Any) -> None:
    """Nobody waits long for what does not come."""
    wait = (case.query or {}).get("wait")
    if isinstance(wait, int | float) and not isinstance(wait, bool) and wait > 0:
        case.query["wait"] = 0.01


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_answers_as_the_document_says(
    server: Server, document: Any, mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_dict(document)
    tried = 0
    for path, method, operation in operations(document):
        tried += 1
        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong where nothing is asked
            cases = schema[path][method.upper()].as_strategy(generation_mode=mode)
            answers_as_documented(server, cases, tells_of_errors(operation))
    assert tried >= 8


def answers_as_documented(server: Server, cases: Any, errors_too: bool) -> None:
    """Many requests to one operation."""

    @REQUESTS
    @given(case=cases, real=st.booleans(), native=st.booleans())
    def asked(case: Any, real: bool, native: bool) -> None:
        bounded(case)
        if real and "job" in (case.path_parameters or {}):
            case.path_parameters["job"] = server.submit(craft.wav(), model="fake").json()["id"]
        try:
            answer = case.call(
                base_url=server.url, headers={"x-dalston-api": "native"} if native else None, timeout=60
            )
        except (ValueError, httpx2.InvalidURL):  # a path that no client can send
            return
        checks: list[Any] = [not_a_server_error] if answer.status_code not in AWAY else []
        if answer.status_code < 400 or errors_too:
            checks += MEASURES
        if checks:
            case.validate_response(answer, checks=checks)
        if answer.status_code >= 400 and "json" in str(answer.headers.get("content-type")):
            told = answer.json()
            error = told.get("error") or told["detail"]
            for one in error if isinstance(error, list) else [error]:
                assert one.get("code") or one["type"]
                assert one.get("message") or one["msg"]

    asked()
