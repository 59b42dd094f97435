"""The form as JSON with the recording inside, as Open WebUI may send it."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec
from msgspec import Struct

from dalston.dialects.base import Inline
from dalston.errors import BadRequest


class Recording(Struct):
    """The recording itself."""

    data: str
    """Base64."""
    format: str = ""
    """The usual extension of such files."""


def inline(body: bytes) -> Inline:
    """A JSON body's fields and its recording; raises BadRequest."""
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
        recording = msgspec.convert(told.pop("input_audio"), Recording)
        content = base64.b64decode(recording.data, validate=True)
    except (msgspec.MsgspecError, KeyError, binascii.Error):
        raise BadRequest(
            'Send a form with the recording in the field `file`, or JSON with `"input_audio": '
            '{"data": BASE64, "format": "wav"}`.'
        ) from None
    fields = {name: [_text(value)] for name, value in told.items() if value is not None}
    return Inline(fields, content, f"recording.{recording.format}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
