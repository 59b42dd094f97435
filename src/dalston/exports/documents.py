"""Documents for people: txt, html, docx, pdf; and the segments as JSON."""

from __future__ import annotations

import html as escaping
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from dalston_engine.types import Transcript

from dalston.errors import BadRequest
from dalston.exports.cutting import Passage, passages
from dalston.exports.lines import lines
from dalston.exports.options import ExportOptions
from dalston.exports.subtitles import clock

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""The date in files that carry one: the same transcript is the same file."""
STYLE = "body{font-family:sans-serif;max-width:45em;margin:2em auto;line-height:1.5}.head{color:#666}"


def txt(transcript: Transcript, options: ExportOptions) -> str:
    """Paragraphs, each under a line that says who and when."""
    found = []
    for one in passages(transcript, options):
        head = _head(one, options)
        found.append(
            "\n".join([*([head] if head else []), *lines(one.text, options.max_characters_per_line or 10**6)])
        )
    return "\n\n".join(found) + "\n"


def json(transcript: Transcript, options: ExportOptions) -> str:
    """`{"segments": […]}` with words, times in seconds."""
    return msgspec.json.encode(
        {"segments": [_segment(one, options) for one in passages(transcript, options)]}
    ).decode()


def html(transcript: Transcript, options: ExportOptions) -> str:
    """A page that needs nothing else."""
    made = []
    for one in passages(transcript, options):
        head = _head(one, options)
        told = f'<p class="head">{escaping.escape(head)}</p>\n' if head else ""
        made.append(f"{told}<p>{escaping.escape(one.text)}</p>")
    body = "\n".join(made)
    return (
        f'<!DOCTYPE html>\n<html lang="{escaping.escape(transcript.language or "und")}">\n<head>'
        f'<meta charset="utf-8"><title>Transcript</title><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def docx(transcript: Transcript, options: ExportOptions) -> bytes:
    """A Word document."""
    from docx import Document
    from docx.shared import RGBColor

    document: Any = Document()
    document.core_properties.created = document.core_properties.modified = EPOCH
    document.core_properties.author = "Dalston"
    for one in passages(transcript, options):
        if head := _head(one, options):
            paragraph = document.add_paragraph()
            paragraph.paragraph_format.keep_with_next = True
            paragraph.add_run(head).font.color.rgb = RGBColor(0x66, 0x66, 0x66)
        document.add_paragraph("".join(_printable(one.text)))
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()


def pdf(transcript: Transcript, options: ExportOptions) -> bytes:
    """A PDF in Roboto, which has Latin, Greek and Cyrillic; raises BadRequest for a text it cannot show."""
    import font_roboto
    from fpdf import FPDF

    folder = Path(font_roboto.__file__).parent / "files"
    page = FPDF()
    page.creation_date = EPOCH
    page.add_font("Roboto", fname=folder / "Roboto-Regular.ttf")
    page.set_font("Roboto", size=11)
    found = passages(transcript, options)
    shown = page.fonts["roboto"].cmap  # type: ignore[union-attr]
    if any(ord(one) not in shown for passage in found for one in passage.text):
        raise BadRequest(
            "The PDF's font lacks characters of this transcript: it has Latin, Greek and Cyrillic. "
            "Take docx or html.", code="no_glyphs", status=422,
        )  # fmt: skip
    page.add_page()
    for one in found:
        if head := _head(one, options):
            page.set_text_color(0x66)
            page.multi_cell(0, 6, head, new_x="LMARGIN", new_y="NEXT")
            page.set_text_color(0)
        page.multi_cell(0, 6, one.text, new_x="LMARGIN", new_y="NEXT")
        page.ln(3)
    return bytes(page.output())


def _head(passage: Passage, options: ExportOptions) -> str:
    """Who speaks, and from when to when."""
    speaker = passage.speaker if options.include_speakers else None
    times = f"{clock(passage.start, '.')} - {clock(passage.end, '.')}"
    return "  ".join(filter(None, (speaker, times if options.include_timestamps else None)))


def _segment(passage: Passage, options: ExportOptions) -> dict[str, Any]:
    told: dict[str, Any] = {"text": passage.text}
    if options.include_timestamps:
        told |= {"start_time": passage.start, "end_time": passage.end}
    if options.include_speakers and passage.speaker:
        told["speaker"] = passage.speaker
    told["words"] = [_word(word, options) for word in passage.words]
    return told


def _word(word: Any, options: ExportOptions) -> dict[str, Any]:
    times = {"start_time": word.start, "end_time": word.end} if options.include_timestamps else {}
    return {"text": word.text.strip()} | times


def _printable(text: str) -> Iterator[str]:
    """A text without the control characters that XML does not know."""
    return (one for one in text if one >= " " or one in "\t\n")
