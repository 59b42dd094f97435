"""From the forms to what Dalston is asked for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from dalston.dialects import form as forms
from dalston.dialects.base import Fields, Names, Submission, mapped
from dalston.dialects.languages import short
from dalston.dialects.openai.form import MODELS, Form, ServerVad, Translation
from dalston.errors import BadField
from dalston.request import TranscribeRequest

TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")
"""The headers in which the vendor's clients say, in seconds, when they give up: Python's, JavaScript's."""


def patience(headers: Mapping[str, str]) -> float | None:
    """For how many seconds a client waits for its answer, if it says so."""
    for name in TIMEOUTS:
        with contextlib.suppress(ValueError):
            if 0 < (seconds := float(headers.get(name, ""))) < math.inf:
                return seconds
    return None


def submission(fields: Fields, names: Names) -> Submission:
    """What a form of `/v1/audio/transcriptions` asks for; raises BadField."""
    form = forms.read(Form, fields)
    _refuse(form)
    language = form.language or next(iter(form.languages), None)
    stream, word = form.stream and form.model != "whisper-1", "word" in form.timestamp_granularities
    options = {"prompt": form.prompt, "temperature": form.temperature, "keyterms": form.keywords or None}
    request = TranscribeRequest(
        model=mapped(form.model, MODELS, names),
        language=short("language", language) if language else None,
        speaker_detection="diarize" if form.response_format == "diarized_json" else "none",
        word_timestamps=word or bool(form.include) or form.response_format in ("srt", "vtt"),
        probabilities=bool(form.include),
        stream=stream,
        options={name: value for name, value in (options | _vad(form)).items() if value is not None},
        answer=_answer(form.response_format)
        | ({"words": True} if word else {})
        | ({"segments": False} if form.timestamp_granularities == ["word"] else {})
        | ({"logprobs": True} if form.include else {}),
    )
    return Submission(request)


def translation(fields: Fields, names: Names) -> Submission:
    """What a form of `/v1/audio/translations` asks for; raises BadField."""
    form = forms.read(Translation, fields)
    options = {"prompt": form.prompt, "temperature": form.temperature}
    request = TranscribeRequest(
        model=mapped(form.model, MODELS, names),
        task="translate",
        word_timestamps=False,
        options={name: value for name, value in options.items() if value is not None},
        answer=_answer(form.response_format) | {"task": "translate"},
    )
    return Submission(request)


def _refuse(form: Form) -> None:
    for name, why in Form.REFUSED.items():
        if getattr(form, name):
            raise _wrong(name, f"The field `{name}` is not supported: {why}.", "unsupported_parameter")
    if len({*form.languages, *filter(None, [form.language])}) > 1:
        raise _wrong("languages", "Give one language; a model takes one, or detects it.", "unsupported_value")
    if form.timestamp_granularities and form.response_format != "verbose_json":
        raise _wrong("timestamp_granularities", "`timestamp_granularities[]` needs verbose_json.")
    if form.include and form.response_format != "json":
        raise _wrong("include", "`include[]=logprobs` needs response_format=json.")


def _vad(form: Form) -> dict[str, Any]:
    """The options that cut a recording as is asked; `auto` leaves it to the engine."""
    vad = form.chunking_strategy
    if not isinstance(vad, ServerVad):
        return {}
    return {
        "vad": True,
        "vad_threshold": vad.threshold,
        "vad_padding_ms": vad.prefix_padding_ms,
        "vad_silence_ms": vad.silence_duration_ms,
    }


def _answer(format: str) -> dict[str, Any]:
    """What shaping the answer needs to know; only what is not the default."""
    return {"dialect": "openai"} | ({"format": format} if format != "json" else {})


def _wrong(field: str, message: str, code: str = "invalid_value") -> BadField:
    return BadField(field, message, code=code, status=400)
