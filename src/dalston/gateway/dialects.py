"""Which dialect a request speaks. A dialect translates between its wire and the internal request.

Native and OpenAI share `POST /v1/audio/transcriptions`: it is OpenAI's when `model` is present and
neither a native-only field nor the header `X-Dalston-API: native` is.
"""

from __future__ import annotations

from collections.abc import Mapping

from dalston.errors import BadRequest
from dalston.gateway.native import NATIVE_ONLY


def refuse_foreign(fields: Mapping[str, object], header: str | None) -> None:
    """Raise BadRequest for a request in OpenAI's dialect, which has no adapter yet."""
    if header == "native" or "model" not in fields or NATIVE_ONLY & set(fields):
        return
    raise BadRequest(
        "This looks like a request for the OpenAI API, which this version does not speak yet. "
        "For the native API send the header `X-Dalston-API: native`.",
        code="unsupported_dialect",
    )
