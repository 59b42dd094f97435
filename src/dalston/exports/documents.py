"""Documents for people: txt, html, docx, pdf; and the segments as JSON."""

from __future__ import annotations

import html as escaping
import io
import re
import zipfile
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
_UNKNOWN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
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
        told = f'<p class="head">{escaping.escape(_printable(head))}</p>\n' if head else ""
        made.append(f"{told}<p>{escaping.escape(_printable(one.text))}</p>")
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
            paragraph.add_run(_printable(head)).font.color.rgb = RGBColor(0x66, 0x66, 0x66)
        document.add_paragraph(_printable(one.text))
    content = io.BytesIO()
    document.save(content)
    return _undated(content)


def pdf(transcript: Transcript, options: ExportOptions) -> bytes:
    """A PDF in Roboto, which has Latin, Greek and Cyrillic; raises BadRequest for a text it cannot show."""
    import font_roboto
    from fontTools.ttLib import TTFont
    from fpdf import FPDF

    font, found = (
        Path(font_roboto.__file__).parent / "files" / "Roboto-Regular.ttf",
        passages(transcript, options),
    )
    with TTFont(font, lazy=True) as known:
        shown = known.getBestCmap()
    if any(ord(one) not in shown for passage in found for one in passage.text + _head(passage, options)):
        raise BadRequest(
            "The PDF's font lacks characters of this transcript: it has Latin, Greek and Cyrillic. "
            "Take docx or html.", code="no_glyphs", status=422,
        )  # fmt: skip
    page = FPDF()
    page.creation_date = EPOCH
    page.add_font("Roboto", fname=font)
    page.set_font("Roboto", size=11)
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


def _printable(text: str) -> str:
    """A text without the characters that XML does not know."""
    return _UNKNOWN.sub("", text)


def _undated(content: io.BytesIO) -> bytes:
    """A zip file whose entries all carry the same date."""
    made = io.BytesIO()
    with zipfile.ZipFile(content) as before, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(
                zipfile.ZipInfo(name, EPOCH.timetuple()[:6]), before.read(name), zipfile.ZIP_DEFLATED
            )
    return made.getvalue()
