"""A transcript in the formats that people and players read: pure functions, transcript in, bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dalston_engine.types import Transcript

from dalston.exports import documents, subtitles
from dalston.exports.options import DOCUMENT, SUBTITLES, TEXT, ExportOptions

__all__ = ["DEFAULT", "FORMATS", "ExportOptions", "Format", "Rendered", "render"]


def text(transcript: Transcript, options: ExportOptions) -> str:
    """The text, a line per segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


class Format(NamedTuple):
    """A way to write a transcript."""

    write: Callable[[Transcript, ExportOptions], str | bytes]
    extension: str
    content_type: str
    options: ExportOptions
    """What holds where nothing else is said."""
    binary: bool = False


class Rendered(NamedTuple):
    """A transcript as a file."""

    content: bytes
    format: Format


_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
FORMATS = {
    "text": Format(text, "txt", "text/plain", DOCUMENT),
    "srt": Format(subtitles.srt, "srt", "application/x-subrip", SUBTITLES),
    "vtt": Format(subtitles.vtt, "vtt", "text/vtt", SUBTITLES),
    "txt": Format(documents.txt, "txt", "text/plain", TEXT),
    "segments": Format(documents.json, "json", "application/json", DOCUMENT),
    "html": Format(documents.html, "html", "text/html", DOCUMENT),
    "docx": Format(documents.docx, "docx", _WORD, DOCUMENT, binary=True),
    "pdf": Format(documents.pdf, "pdf", "application/pdf", DOCUMENT, binary=True),
}
DEFAULT = ExportOptions()


def render(transcript: Transcript, format: str, options: ExportOptions = DEFAULT) -> Rendered:
    """The transcript in one of `FORMATS`; raises BadRequest where it cannot be shown."""
    chosen = FORMATS[format]
    written = chosen.write(transcript, options.over(chosen.options))
    return Rendered(written if isinstance(written, bytes) else written.encode(), chosen)
