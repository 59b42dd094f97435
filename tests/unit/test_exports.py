"""Exports: cut well, nothing lost, and readable by others."""

from __future__ import annotations

import io
import json
import time
from itertools import pairwise
from typing import Any

import pytest
from dalston_engine import Segment, Transcript, Word
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dalston.errors import BadRequest
from dalston.exports import FORMATS, ExportOptions, render
from dalston.exports.cutting import width
from dalston.exports.lines import lines
from dalston.exports.options import SUBTITLES
from dalston.exports.subtitles import CHARACTERS_PER_S, cues

WORDS = st.text("abcdefgh", min_size=1, max_size=12)
ENDS = st.sampled_from(["", "", "", ",", ".", "?"])


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Speech of one or two people, with pauses."""
    words, at = [], 0.0
    for _ in range(draw(st.integers(0, 60))):
        at += draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.5]))
        end = at + draw(st.floats(0.05, 0.8))
        words.append(
            Word(f" {draw(WORDS)}{draw(ENDS)}", at, end, 0.9, draw(st.sampled_from(["A", "A", "A", "B"])))
        )
        at = end
    return Transcript([Segment(0.0, at, "".join(word.text for word in words))], words, language="en")


@given(transcripts())
def test_cues_lose_no_word_and_never_overlap(transcript: Transcript) -> None:
    shown = cues(transcript, SUBTITLES)
    assert [word for cue in shown for word in cue.words] == transcript.words
    assert all(one.end <= other.start for one, other in pairwise(shown))
    for cue in shown:
        made = lines(cue.text, 42)
        assert len(made) <= 2
        assert " ".join(made) == cue.text
        assert all(width(line) <= 42 for line in made)
        assert len({word.speaker for word in cue.words}) == 1
        assert len(cue.words) == 1 or cue.words[-1].end - cue.words[0].start <= 4.0
        assert all(after.start - word.end <= 0.8 for word, after in pairwise(cue.words))
        assert cue.start == cue.words[0].start
        assert cue.end >= cue.words[-1].end


@given(transcripts())
def test_cues_can_be_read_where_the_speech_allows(transcript: Transcript) -> None:
    for cue, after in pairwise([*cues(transcript, SUBTITLES), None]):
        assert cue is not None
        fast = width(cue.text) / (cue.end - cue.start) > CHARACTERS_PER_S + 0.001
        assert not fast or (after is not None and cue.end == after.start)


@given(st.lists(WORDS, min_size=1, max_size=30), st.integers(12, 60))
def test_lines_are_as_few_as_can_be_and_within_the_limit(words: list[str], limit: int) -> None:
    made = lines(" ".join(words), limit)
    assert " ".join(made) == " ".join(words)
    assert all(width(line) <= limit for line in made)


def said(text: str, start: float = 0.0, step: float = 0.3) -> list[Word]:
    """A text spoken at an even pace."""
    return [
        Word(f" {word}", start + n * step, start + (n + 1) * step, 0.9) for n, word in enumerate(text.split())
    ]


def shown(text: str) -> list[list[str]]:
    """A text's cues, line by line."""
    return [lines(cue.text, 42) for cue in cues(Transcript([], said(text)), SUBTITLES)]


def test_cues_end_with_sentences_then_with_clauses() -> None:
    assert shown(
        "We ran all of them again. Only three failed, which is much better than last month was."
    ) == [["We ran all of them again."], ["Only three failed,", "which is much better than last month was."]]


def test_no_word_stands_alone_in_a_cue() -> None:
    text = "and so my fellow americans ask not what your country can do for you but rather what you can do"
    assert all(len(" ".join(cue).split()) > 1 for cue in shown(text))


def test_lines_are_balanced_and_break_after_a_clause() -> None:
    assert lines("Only three of them failed, which is better than last month.", 42) == [
        "Only three of them failed,",
        "which is better than last month.",
    ]


def test_wide_scripts_are_broken_between_characters() -> None:
    text = "これは日本語の長い文章でありどこで改行されるべきかを確かめるためのものです"
    made = lines(text, 42)
    assert "".join(made) == text
    assert all(width(line) <= 42 for line in made)


TWO = Transcript(
    [Segment(0.0, 1.5, " One & <two>.", "A"), Segment(2.0, 3.0, " Щи.", "B")],
    [Word(" One", 0.0, 0.5, 0.9, "A"), Word(" & <two>.", 0.5, 1.5, 0.9, "A"),
     Word(" Щи.", 2.0, 3.0, 0.9, "B")],
    language="en",
)  # fmt: skip


def text_of(format: str, **options: Any) -> str:
    """An export as text."""
    return render(TWO, format, ExportOptions(**options)).content.decode()


def test_paragraphs_say_who_and_when_if_that_is_wanted() -> None:
    assert text_of("txt").startswith("A  00:00:00.000 - 00:00:01.500\nOne & <two>.\n\nB")
    assert text_of("txt", include_speakers=False, include_timestamps=False) == "One & <two>.\n\nЩи.\n"
    assert "[A] One" in text_of("srt", include_speakers=True)
    assert "[A]" not in text_of("srt")


def test_segments_are_json_with_words() -> None:
    first, second = json.loads(text_of("segments"))["segments"]
    assert (first["text"], first["start_time"], first["end_time"], first["speaker"]) == (
        "One & <two>.",
        0,
        1.5,
        "A",
    )
    assert [word["text"] for word in second["words"]] == ["Щи."]
    assert "start_time" not in json.loads(text_of("segments", include_timestamps=False))["segments"][0]


def test_html_is_escaped() -> None:
    assert "<p>One &amp; &lt;two&gt;.</p>" in text_of("html")


def paragraphs(transcript: Transcript) -> list[str]:
    """What a docx says, read back."""
    from docx import Document

    return [one.text for one in Document(io.BytesIO(render(transcript, "docx").content)).paragraphs]


def test_docx_is_read_back() -> None:
    assert paragraphs(TWO)[1::2] == ["One & <two>.", "Щи."]


@pytest.mark.parametrize("format", ["docx", "pdf"])
def test_a_file_is_the_same_at_any_time(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = render(TWO, format).content
    localtime = time.localtime
    monkeypatch.setattr(time, "localtime", lambda seconds=None: localtime(10**9))
    assert render(TWO, format).content == before


def test_no_character_breaks_a_document() -> None:
    odd = Transcript([Segment(0.0, 1.0, "a\x01b\ufffec", "s\x02t")])
    html = render(odd, "html").content.decode()
    assert "abc" in html
    assert "\x02" not in html
    assert paragraphs(odd) == ["st  00:00:00.000 - 00:00:01.000", "abc"]


def test_pdf_is_the_same_every_time_and_refuses_what_it_cannot_show() -> None:
    made = render(TWO, "pdf").content
    assert made.startswith(b"%PDF-")
    assert made == render(TWO, "pdf").content
    with pytest.raises(BadRequest, match="docx or html") as refused:
        render(Transcript([Segment(0, 1, "日本語")]), "pdf")
    assert refused.value.code == "no_glyphs"
    with pytest.raises(BadRequest, match="docx or html"):
        render(Transcript([Segment(0, 1, "said", "田中")]), "pdf")


@pytest.mark.parametrize("format", FORMATS)
def test_silence_can_be_exported(format: str) -> None:
    assert render(Transcript([], []), format).format.extension


@pytest.mark.parametrize(
    "options",
    [{}, {"max_segment_chars": 1_000_000}, {"max_segment_duration_s": 3600.0, "max_segment_chars": 2000},
     {"max_segment_chars": 10**6, "max_segment_duration_s": 3600.0, "max_characters_per_line": 1000}],
)  # fmt: skip
def test_a_long_run_is_cut_whatever_is_asked(options: dict[str, Any]) -> None:
    """An hour of speech without a pause or a sentence's end; a piece is judged without reading its words."""
    words = said("word " * 10_000)
    shown = cues(Transcript([], words), ExportOptions(**options).over(SUBTITLES))
    assert [word for cue in shown for word in cue.words] == words


def test_channels_are_not_mixed_and_each_is_shown() -> None:
    left, right = said("I went home now.", 0.0), said("Yes right you did.", 0.0)
    for number, words in enumerate((left, right)):
        for word in words:
            word.channel = number
    both = sorted(left + right, key=lambda word: word.start)
    shown = cues(Transcript([], both), SUBTITLES)
    assert sorted(cue.text for cue in shown) == ["I went home now.", "Yes right you did."]
    assert all(cue.end - cue.start >= 0.8 for cue in shown)
    assert shown[0].end <= shown[1].start


def test_a_speakers_name_takes_its_room() -> None:
    words = [
        replace(word, speaker="speaker_0") for word in said("what one says here is quite a bit longer " * 6)
    ]
    options = ExportOptions(include_speakers=True).over(SUBTITLES)
    for cue in render(Transcript([], words), "srt", options).content.decode().split("\n\n"):
        assert len(cue.strip().splitlines()) <= 4


def test_a_word_at_a_segments_edge_is_kept() -> None:
    words = [Word(" a", 0.0, 1.0), Word(" b", 1.0, 1.0), Word(" c", 1.4, 1.6), Word(" d", 2.0, 3.0)]
    cut = Transcript([Segment(0.0, 1.0, " a b"), Segment(2.0, 3.0, " c d")], words)
    told = json.loads(render(cut, "segments").content)["segments"]
    assert [word["text"] for one in told for word in one["words"]] == ["a", "b", "c", "d"]
