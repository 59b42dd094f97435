"""What the answers look like, for the OpenAPI document."""

from __future__ import annotations

from dalston.dialects.base import Examples

EXAMPLES = Examples(
    done={"text": "Good morning.", "usage": {"type": "duration", "seconds": 1.2}},
    models={
        "object": "list",
        "data": [{"id": "base", "object": "model", "created": 0, "owned_by": "faster-whisper"}],
    },
    error={
        "error": {
            "message": "The field `response_format`: Invalid enum value 'xml'.",
            "type": "invalid_request_error",
            "param": "response_format",
            "code": "invalid_value",
        }
    },
)
