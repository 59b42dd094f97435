"""The native dialect: form fields to the internal request, a job to JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from dalston_engine.errors import DalstonError
from msgspec import Raw

from dalston.errors import BadRequest
from dalston.exports import FORMATS, ExportOptions
from dalston.request import TranscribeRequest
from dalston.store.jobs import Job, StageResult
from dalston.store.letters import Letter
from dalston.store.webhooks import Notify

NATIVE_ONLY = {
    "wait",
    "format",
    "speaker_detection",
    "diarizer",
    "align",
    "aligner",
    "priority",
    "source_url",
    "webhook_url",
    "webhook_id",
}
"""Fields that no other dialect has."""

ONCE = NATIVE_ONLY | {"model", "language", "word_timestamps"}
"""Fields that are not an engine's options, which may be lists."""
TIMES = ("created_at", "finished_at", "succeeded_at", "failed_at", "at")
METADATA_BYTES = 16_384
SHAPES = ("json", "verbose", *FORMATS)
"""json: the job with its transcript · verbose: also what was asked and found · else the transcript alone."""
_TRACE = re.compile("(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Submission(NamedTuple):
    """What a form asks for."""

    request: TranscribeRequest
    wait: bool
    """Whether the caller waits for the end."""
    format: str
    """The shape of the answer then."""
    url: str | None = None
    """Where the recording is, in place of `file`."""
    notify: Notify | None = None
    """Whom the job tells of its end."""


def export_options(query: Mapping[str, str]) -> ExportOptions:
    """How a transcript alone is to be written, from a query; raises BadRequest."""
    given = {name: query[name] for name in ExportOptions.__struct_fields__ if name in query}
    try:
        return msgspec.convert(given, ExportOptions, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{error}.", code="invalid_option") from None


def claims(fields: Mapping[str, object], header: str | None) -> bool:
    """Whether a form is native. It is a vendor's when it names a model, has no field that only the
    native dialect has, and `X-Dalston-API: native` is not there."""
    return header == "native" or "model" not in fields or bool(NATIVE_ONLY & set(fields))


def submission_of(fields: Mapping[str, Sequence[str]]) -> Submission:
    """What a form asks for; raises BadRequest."""
    values: dict[str, Any] = {}
    for name, texts in fields.items():
        if len(texts) > 1 and name in ONCE:
            raise BadRequest(f"The field `{name[:40]}` is given more than once.")
        values[name] = texts[0] if len(texts) == 1 else list(texts)
    wait, format = truth("wait", values.pop("wait", "false")), _one_of(values, "format", *SHAPES)
    if format != "json" and not wait:
        raise BadRequest("`format` needs `wait=true`; without, ask for it when you read the job.")
    notify = _notify_of(values)
    words, url = values.pop("word_timestamps", None), values.pop("source_url", None)
    align = values.pop("align", None)
    asked = TranscribeRequest(
        model=values.pop("model", None) or None,
        language=values.pop("language", None) or None,
        speaker_detection=_one_of(values, "speaker_detection", "none", "diarize", "per_channel"),
        diarizer=values.pop("diarizer", None) or None,
        align=None if align is None else truth("align", align),
        aligner=values.pop("aligner", None) or None,
        word_timestamps=None if words is None else truth("word_timestamps", words),
        priority=_one_of(values, "priority", "normal", "high"),
        options=values,
    )
    return Submission(asked, wait, format, url or None, notify)


def _notify_of(values: dict[str, Any]) -> Notify | None:
    """The fields about webhooks taken out of `values`; raises BadRequest."""
    url, id, metadata = (values.pop(f"webhook_{name}", None) or None for name in ("url", "id", "metadata"))
    if url is None and id is None:
        if metadata is not None:
            raise BadRequest("`webhook_metadata` needs `webhook_url` or `webhook_id`.", code="invalid_option")
        return None
    if url is not None and id is not None:
        raise BadRequest("Give `webhook_url` or `webhook_id`, not both.", code="invalid_option")
    try:
        known = msgspec.json.decode(metadata or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, TypeError, RecursionError):
        known = None
    if known is None or len(metadata or "") > METADATA_BYTES:
        told = f"`webhook_metadata` is a JSON object of at most {METADATA_BYTES} bytes."
        raise BadRequest(told, code="invalid_option")
    return Notify("native", id, url, None if metadata is None else known)


def _one_of(values: dict[str, Any], name: str, *known: str) -> Any:
    """The field taken out of `values`, or the first known value; raises BadRequest."""
    value = values.pop(name, known[0])
    if value not in known:
        raise BadRequest(f"The field `{name}` is one of {', '.join(known)}.", code="invalid_option")
    return value


def trace_of(header: str) -> str | None:
    """A request's `traceparent`; one that is malformed counts for none, as W3C says."""
    known = _TRACE.fullmatch(header)
    return header if known and int(known[1], 16) and int(known[2], 16) else None


def truth(name: str, text: str) -> bool:
    """`true` or `false` as a bool; raises BadRequest naming the field."""
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise BadRequest(f"The field `{name}` is true or false.") from None


def job_json(job: Job, transcript: bytes | None = None, more: Mapping[str, Raw] | None = None) -> bytes:
    """A job with its transcript's fields, which are not decoded again, and `more`."""
    fields: dict[str, Any] = {name: getattr(job, name) for name in job.__struct_fields__}
    fields |= {"created_at": _rfc3339(job.created_at), "finished_at": _rfc3339(job.finished_at)}
    fields = {name: value for name, value in fields.items() if value is not None and value != []}
    if transcript is not None:
        fields |= msgspec.json.decode(transcript, type=dict[str, Raw])
        if job.warnings and isinstance(told := fields["warnings"], Raw):
            fields["warnings"] = [*job.warnings, *msgspec.json.decode(told)]
    return msgspec.json.encode(fields | dict(more or {}))


def stage_json(job: str, results: list[StageResult]) -> bytes:
    """What a stage's tasks have left so far."""
    return msgspec.json.encode({"id": job, "tasks": results})


def times(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with their times as RFC 3339."""
    return {name: _rfc3339(value) if name in TIMES else value for name, value in fields.items()}


def letter(letter: Letter) -> dict[str, Any]:
    """A dead letter's fields."""
    return msgspec.structs.asdict(letter) | {"at": _rfc3339(letter.at)}


def error_json(error: DalstonError, job: str | None = None) -> bytes:
    """The native error envelope, with the job that failed if there is one."""
    told = {"code": error.code, "message": error.message} | ({"job": job} if job else {})
    return msgspec.json.encode({"error": told})


def _rfc3339(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
