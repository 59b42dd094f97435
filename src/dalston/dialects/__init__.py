"""The vendors' dialects: pure adapters between their wire and the internal request and transcript.

A dialect knows neither Redis nor files, and nothing outside this package but the routes that carry
its paths knows a dialect's names. Each has

- a form: a struct whose fields are the vendor's, with what is refused or differs and why;
- `submission`: the form to what Dalston is asked for;
- `answer`: a finished transcript to what the vendor would send;
- `error`: any error to the vendor's envelope;
- `LiveTalk`: its conversation while somebody speaks, see `dalston.live.Talk`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dalston.dialects.base import Dialect
from dalston.dialects.elevenlabs import ELEVENLABS
from dalston.dialects.openai import OPENAI, TRANSLATIONS

DIALECTS = {dialect.name: dialect for dialect in (ELEVENLABS, OPENAI)}
SHARED, SHARED_PATH = OPENAI, "/v1/audio/transcriptions"
"""The dialect that has a path in common with the native one."""
_PATHS = {
    "/v1/speech-to-text": ELEVENLABS,
    "/v1/single-use-token": ELEVENLABS,
    "/v1/workspace": ELEVENLABS,
    "/v1/audio/translations": TRANSLATIONS,
    "/v1/realtime/client_secrets": OPENAI,
    "/v1/realtime/transcription_sessions": OPENAI,
}
LIVE_PATH = "/v1/realtime"
"""Where OpenAI's live sessions are; what is below is mostly native."""


def spoken(path: str, headers: Mapping[str, str]) -> Dialect | None:
    """The dialect of a request, as far as its head tells; None: native."""
    if headers.get("x-dalston-api") == "native":
        return None
    if path in (SHARED_PATH, LIVE_PATH):
        return SHARED
    if path.startswith("/v1/models"):
        return ELEVENLABS if "xi-api-key" in headers or "x-fern-sdk-name" in headers else OPENAI
    return next((dialect for start, dialect in _PATHS.items() if path.startswith(start)), None)
