"""Speech becomes windows without loss or overlap; loops and timestamps in tokens are found."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

MODULE: dict[str, Any] = runpy.run_path(
    str(Path(__file__).parents[2] / "engines" / "faster-whisper" / "windows.py")
)
Window, windows = MODULE["Window"], MODULE["windows"]
loop, pieces = MODULE["loop"], MODULE["pieces"]
RATE, LONGEST, FRAME = MODULE["RATE"], MODULE["LONGEST"], MODULE["FRAME"]
FIRST = 100
"""The first timestamp among the made-up tokens."""


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[tuple[int, int]], int]:
    """Spans of speech in order, none longer than LONGEST, and the samples of the whole."""
    spans, at = [], draw(st.integers(0, 40 * RATE))
    for _ in range(draw(st.integers(0, 8))):
        end = at + draw(st.integers(1, LONGEST))
        spans.append((at, end))
        at = end + draw(st.integers(0, 20 * RATE))
    return spans, at


@given(recordings(), st.integers(0, 60 * RATE))
def test_windows_hold_all_speech_in_order_and_never_overlap(
    recording: tuple[list[tuple[int, int]], int], padding: int
) -> None:
    spans, total = recording
    found = list(windows(spans, padding, total))
    heard: set[int] = set()
    for window in found:
        assert window.start % FRAME == 0
        assert 0 <= window.start < window.end <= total
        assert window.end - window.start <= 30 * RATE
        heard |= {second for second in range(window.start // RATE, window.end // RATE + 1)}
    assert all(a.end - FRAME < b.start for a, b in itertools.pairwise(found))
    assert all({start // RATE, (end - 1) // RATE} <= heard for start, end in spans)


def test_neighbours_are_put_together_and_far_ones_are_not() -> None:
    spans = [(1 * RATE, 3 * RATE), (4 * RATE, 6 * RATE), (60 * RATE, 61 * RATE)]
    first, second = windows(spans, RATE // 2, 90 * RATE)
    assert (first.start, first.end) == (RATE // 2, 6 * RATE + RATE // 2)
    assert (first.speech_start, first.speech_end) == (1 * RATE, 6 * RATE)
    assert (second.speech_start, second.speech_end) == (60 * RATE, 61 * RATE)


def test_a_window_knows_how_much_was_said_between_two_moments() -> None:
    (window,) = windows([(1 * RATE, 3 * RATE), (4 * RATE, 6 * RATE)], 0, 10 * RATE)
    assert window.speech(2 * RATE, 5 * RATE) == 2 * RATE
    assert window.speech(3 * RATE, 4 * RATE) == 0


def test_speech_too_long_for_one_window_is_split_between_spans() -> None:
    spans = [(n * 10 * RATE, n * 10 * RATE + 9 * RATE) for n in range(6)]
    assert [(w.speech_start // RATE, w.speech_end // RATE) for w in windows(spans, 0, 60 * RATE)] == [
        (0, 19), (20, 39), (40, 59)]  # fmt: skip


def test_what_comes_again_and_again_is_a_loop() -> None:
    assert loop([1, 2, *[3] * 6]) == 3
    assert loop([9, *[1, 2] * 3, 9]) == 3
    assert loop([1, 2, 3, 4, 5, 6] * 2) == 6
    assert loop([1, 1, 1]) is None
    assert loop([1, 2, 3, 4, 5] * 2) is None
    assert loop([]) is None


def test_tokens_are_cut_at_their_timestamps() -> None:
    tokens = [FIRST, 1, 2, FIRST + 50, FIRST + 60, 3, FIRST + 90]
    assert list(pieces(tokens, FIRST)) == [
        (0, 50, [FIRST, 1, 2, FIRST + 50]),
        (60, 90, [FIRST + 60, 3, FIRST + 90]),
    ]


def test_tokens_without_timestamps_are_one_piece() -> None:
    assert list(pieces([1, 2], FIRST)) == [(None, None, [1, 2])]
    assert list(pieces([FIRST + 3, 1, FIRST + 9, FIRST + 9, 2], FIRST)) == [
        (3, 9, [FIRST + 3, 1, FIRST + 9]),
        (9, None, [FIRST + 9, 2]),
    ]
    assert list(pieces([FIRST, FIRST], FIRST)) == []


def test_a_window_is_cut_in_its_longest_pause() -> None:
    window = Window(0, 20 * RATE, ((RATE, 3 * RATE), (4 * RATE, 6 * RATE), (9 * RATE, 18 * RATE)))
    halves = window.halves()
    assert halves is not None
    first, second = halves
    assert (first.start, first.end, second.end) == (0, int(7.5 * RATE), 20 * RATE)
    assert (second.start, second.spans) == (first.end, ((9 * RATE, 18 * RATE),))
    assert second.halves() is None
    assert window.between(6 * RATE, 9 * RATE) is None
