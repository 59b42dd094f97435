"""From the form to what Dalston is asked for."""

from __future__ import annotations

from typing import Any

import msgspec

from dalston.dialects import form as forms
from dalston.dialects.base import Fields, Names, Submission, mapped
from dalston.dialects.elevenlabs.form import MODELS, Form
from dalston.dialects.elevenlabs.formats import checked
from dalston.dialects.languages import short
from dalston.errors import BadField
from dalston.request import TranscribeRequest

WORDS = 5
"""Words a key term may have."""
METADATA_BYTES, METADATA_DEPTH = 16_384, 2
EVENTS = "Audio events are not tagged: no running engine detects them."


def submission(fields: Fields, names: Names) -> Submission:
    """What the form asks for; raises BadField for what is malformed, contradictory or cannot be done."""
    form = forms.read(Form, fields)
    _refuse(form)
    _agree(form)
    options = {
        "temperature": form.temperature,
        "seed": form.seed,
        "keyterms": form.keyterms or None,
        "max_speakers": form.num_speakers,
    }
    request = TranscribeRequest(
        model=mapped(form.model_id, MODELS, names),
        language=short("language_code", form.language_code) if form.language_code else None,
        speaker_detection=_speakers(form),
        word_timestamps=form.timestamps_granularity != "none" or bool(form.additional_formats),
        probabilities=True,
        characters=form.timestamps_granularity == "character",
        source_format="pcm_s16le_16k" if form.file_format == "pcm_s16le_16" else "",
        options={name: value for name, value in options.items() if value is not None},
        answer=_answer(form),
    )
    return Submission(
        request,
        url=form.source_url or form.cloud_storage_url,
        later=form.webhook,
        keep=form.enable_logging,
        webhook=form.webhook_id,
        metadata=form.webhook_metadata,
    )


def _refuse(form: Form) -> None:
    """Raise BadField for a field that promises what cannot be kept."""
    defaults = {field.name: field for field in msgspec.structs.fields(Form)}
    for name, why in Form.REFUSED.items():
        if getattr(form, name) not in (None, False, [], defaults[name].default):
            raise _wrong(name, f"The field `{name}` is not supported: {why}.", "unsupported_parameter")


def _agree(form: Form) -> None:
    """Raise BadField for fields that do not go together."""
    if form.source_url and form.cloud_storage_url:
        raise _wrong("source_url", "Give only one of `file`, `source_url` and `cloud_storage_url`.")
    if form.use_multi_channel and form.diarize:
        raise _wrong("diarize", "Multichannel mode does not support diarization: every channel is a speaker.")
    if form.use_multi_channel and form.num_speakers is not None:
        raise _wrong("num_speakers", "Cannot specify num_speakers when use_multi_channel is enabled.")
    if form.num_speakers is not None and not form.diarize:
        raise _wrong("num_speakers", "The field `num_speakers` needs `diarize=true`.")
    if form.multichannel_output_style == "combined" and form.timestamps_granularity == "none":
        raise _wrong("multichannel_output_style", "The combined style needs timestamps to order words by.")
    if (form.webhook_id or form.webhook_metadata is not None) and not form.webhook:
        raise _wrong("webhook", "`webhook_id` and `webhook_metadata` need `webhook=true`.")
    if long := next((term for term in form.keyterms if len(term.split()) > WORDS), None):
        raise BadField("keyterms", f"A key term has {len(long.split())} words; at most {WORDS} are possible.")
    if form.webhook_metadata is not None:
        _bound(form.webhook_metadata)


def _bound(metadata: dict[str, Any]) -> None:
    if len(msgspec.json.encode(metadata)) > METADATA_BYTES:
        raise _wrong("webhook_metadata", f"`webhook_metadata` is longer than {METADATA_BYTES} bytes.")
    if _depth(metadata) > METADATA_DEPTH:
        raise _wrong("webhook_metadata", f"`webhook_metadata` is nested deeper than {METADATA_DEPTH}.")


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inside), default=0) if isinstance(value, dict | list) else 0


def _speakers(form: Form) -> Any:
    if form.use_multi_channel:
        return "per_channel"
    return "diarize" if form.diarize else "none"


def _answer(form: Form) -> dict[str, Any]:
    """What shaping the answer needs to know; only what is not the default."""
    asked: dict[str, Any] = {"dialect": "elevenlabs"}
    if form.timestamps_granularity != "word":
        asked["timestamps"] = form.timestamps_granularity
    if form.multichannel_output_style == "combined":
        asked["combined"] = True
    if form.additional_formats:
        asked["formats"] = checked(form.additional_formats)
    if form.tag_audio_events:
        asked["warnings"] = [EVENTS]
    return asked


def _wrong(field: str, message: str, code: str = "invalid_parameters") -> BadField:
    return BadField(field, message, code=code, status=400)
