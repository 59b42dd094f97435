"""`additional_formats`: the transcript in other formats besides."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from dalston_engine.types import Transcript

from dalston.errors import BadField, BadRequest
from dalston.exports import ExportOptions, render

NAMES = {
    "srt": "srt",
    "txt": "txt",
    "segmented_json": "segments",
    "html": "html",
    "docx": "docx",
    "pdf": "pdf",
}
"""The vendor's names of formats, and ours."""
KINDS = {"srt": "text/srt"}
"""What the vendor calls a format's type, where others call it otherwise."""
MOST = 10
_CAPITAL = re.compile("[A-Z]")


def checked(formats: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The formats that are asked for, names in snake case as Python sends them; raises BadField."""
    if len(formats) > MOST:
        raise BadField("additional_formats", f"At most {MOST} formats are possible.", status=400)
    return [_checked({_CAPITAL.sub(_snake, name): value for name, value in one.items()}) for one in formats]


def rendered(transcript: Transcript, formats: Sequence[dict[str, Any]], warnings: list[str]) -> list[Any]:
    """The formats in the order they were asked for; null for one that cannot show this transcript."""
    return [_rendered(transcript, dict(one), warnings) for one in formats]


def _checked(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        if asked.get("format") not in NAMES:
            raise ValueError(f"`format` is one of {', '.join(NAMES)}")
        options = {name: value for name, value in asked.items() if name != "format" and value is not None}
        if "max_characters_per_line" in options and asked["format"] not in ("srt", "txt"):
            raise ValueError("`max_characters_per_line` is for srt and txt")
        told: dict[str, Any] = msgspec.to_builtins(msgspec.convert(options, ExportOptions))
        return {"format": asked["format"]} | told
    except ValueError as error:
        raise BadField("additional_formats", f"The field `additional_formats`: {error}.") from None


def _rendered(transcript: Transcript, asked: dict[str, Any], warnings: list[str]) -> Any:
    name = asked.pop("format")
    try:
        content, chosen = render(transcript, NAMES[name], msgspec.convert(asked, ExportOptions))
    except BadRequest as error:
        warnings.append(error.message)
        return None
    text = base64.b64encode(content).decode() if chosen.binary else content.decode()
    return {"requested_format": name, "file_extension": chosen.extension,
            "content_type": KINDS.get(name, chosen.content_type), "is_base64_encoded": chosen.binary,
            "content": text}  # fmt: skip


def _snake(capital: re.Match[str]) -> str:
    return f"_{capital[0].lower()}"
