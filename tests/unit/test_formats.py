"""Transcripts as text and subtitles."""

from __future__ import annotations

import re

import pytest
from dalston_engine import Segment, Transcript
from hypothesis import given
from hypothesis import strategies as st

from dalston.exports import render
from dalston.exports.subtitles import clock

TWO = Transcript([Segment(0.0, 1.5, " One, two."), Segment(3661.0, 3662.25, " Three --> four. ")])
TIMES = st.floats(0, 400 * 3600)


def parsed(text: str) -> float:
    """The seconds that a clock shows."""
    hours, minutes, seconds, thousandths = map(int, re.split(r"[:.,]", text))
    assert minutes < 60
    assert seconds < 60
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


@given(seconds=TIMES, mark=st.sampled_from(".,"))
def test_a_clock_parses_back(seconds: float, mark: str) -> None:
    shown = clock(seconds, mark)
    assert re.fullmatch(rf"\d{{2,}}:\d\d:\d\d{re.escape(mark)}\d{{3}}", shown)
    assert parsed(shown) == pytest.approx(seconds, abs=0.00051)


@given(times=st.tuples(TIMES, TIMES).map(sorted))
def test_a_clock_never_runs_backwards(times: list[float]) -> None:
    early, late = (parsed(clock(seconds, ".")) for seconds in times)
    assert early <= late


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "00:00:00.000"), (0.9994, "00:00:00.999"), (0.9996, "00:00:01.000"), (59.9996, "00:01:00.000"),
     (3599.9999, "01:00:00.000"), (360000, "100:00:00.000")],
)  # fmt: skip
def test_a_clock_rounds_into_the_next_unit(seconds: float, shown: str) -> None:
    assert clock(seconds, ".") == shown


def test_text_has_a_line_for_each_segment() -> None:
    assert render(TWO, "text").content.decode() == "One, two.\nThree --> four.\n"


def test_subrip_numbers_its_cues_and_parts_thousandths_by_a_comma() -> None:
    assert render(TWO, "srt").content.decode() == (
        "1\n00:00:00,000 --> 00:00:01,500\nOne, two.\n\n2\n01:01:01,000 --> 01:01:02,250\nThree → four.\n"
    )


def test_webvtt_has_a_header_and_parts_thousandths_by_a_point() -> None:
    assert render(TWO, "vtt").content.decode() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nOne, two.\n\n01:01:01.000 --> 01:01:02.250\nThree → four.\n"
    )


@pytest.mark.parametrize(("format", "empty"), [("text", ""), ("srt", ""), ("vtt", "WEBVTT\n")])
def test_silence_gives_a_valid_file(format: str, empty: str) -> None:
    assert render(Transcript([]), format).content.decode() == empty


@given(texts=st.lists(st.text("ab .,-->世", min_size=1).filter(str.strip), max_size=4))
def test_whatever_is_said_there_are_as_many_cues_as_segments(texts: list[str]) -> None:
    spoken = Transcript([Segment(n, n + 1, text) for n, text in enumerate(texts)])
    for format in ("srt", "vtt"):
        assert render(spoken, format).content.decode().count(" --> ") == len(texts)
