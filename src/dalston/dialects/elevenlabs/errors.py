"""Errors in the vendor's envelope."""

from __future__ import annotations

from typing import Any

import msgspec
from dalston_engine.errors import DalstonError

from dalston.dialects.base import Answer
from dalston.errors import BadField

_TYPES = {401: "authentication_error", 403: "authorization_error", 404: "not_found", 409: "conflict",
          413: "validation_error", 429: "rate_limit_error"}  # fmt: skip
OWN = {"queue_full": ("system_busy", 429), "quota_exceeded": ("quota_exceeded", 401)}
"""The vendor's codes and statuses where ours are others."""
FINAL = {
    "no_engine": 400,
    "engine_error": 422,
    "engine_died": 422,
    "deadline": 422,
    "idempotency_mismatch": 400,
}
"""Statuses of what will not change by asking again. The vendor's Python client repeats a request after
429 and 5xx without its fields, so that its user would see another error than this one."""


def error(error: DalstonError, request: str) -> Answer:
    """`{"detail": …}`: a list of a form's faults at 422, else an object that has old and new keys."""
    code, status = OWN.get(error.code, (error.code, FINAL.get(error.code, error.status)))
    detail: Any
    if isinstance(error, BadField) and status == 422:
        detail = [{"loc": ["body", error.field], "msg": error.message, "type": error.kind}]
    else:
        kind = _TYPES.get(status, "validation_error" if status < 500 else "internal_error")
        detail = {"type": kind, "code": code, "status": code, "message": error.message, "request_id": request}
        if isinstance(error, BadField):
            detail["param"] = error.field
    return Answer(msgspec.json.encode({"detail": detail}), status=status)
