"""Errors in the vendor's envelope."""

from __future__ import annotations

import msgspec
from dalston_engine.errors import DalstonError

from dalston.dialects.base import Answer
from dalston.errors import BadField

_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_CODES = {"unknown_model": "model_not_found", "quota_exceeded": "insufficient_quota"}
_KINDS = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


def error(error: DalstonError, request: str) -> Answer:
    """`{"error": …}`; a form's faults are 400."""
    field, status, code = None, error.status, _CODES.get(error.code, error.code)
    if isinstance(error, BadField):
        field, status = error.field, 400 if error.status == 422 else error.status
        code = _KINDS.get(error.kind, "invalid_value" if error.code == "invalid_parameters" else error.code)
    if error.code == "unknown_model":
        field = "model"
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    told = {"message": error.message, "type": kind, "param": field, "code": code}
    return Answer(msgspec.json.encode({"error": told}), status=status)
