"""Sessions are held against the truth and against the same model's transcripts of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from dalston_engine.types import Word

from dalston.evaluation.live import last_heard, pair, rows, sums
from dalston.evaluation.recordings import Recording
from dalston.evaluation.scores import Heard


def words(text: str, shift: float = 0.0) -> list[Word]:
    return [Word(f" {word}", n + shift, n + shift + 0.5) for n, word in enumerate(text.split())]


def heard(text: str, shift: float = 0.0) -> Heard:
    return Heard(text=text, words=words(text, shift), duration=4.0)


def recording(text: str) -> Recording:
    return Recording(Path("a.wav"), "talks/a.wav", "en", text)


@pytest.mark.parametrize(
    ("told", "there"),
    [
        ("Ask what you can do.", True),
        ("ask what you can", False),
        ("ask what you can do today", True),
        ("do", True),
        ("", False),
    ],
)
def test_the_last_word_is_looked_for_where_it_was_said(told: str, there: bool) -> None:
    assert last_heard("Ask what you can do.", told, "en") is there


def test_sets_are_summed_up_and_times_compared() -> None:
    one = pair(recording("ask what you can do"), heard("ask what you can", 0.1), heard("ask what you can do"))
    other = pair(recording("so be it"), heard("so be it", 0.3), heard("so be it"))
    quiet = pair(recording(""), heard("you"), heard(""))
    (found, whole) = sums([one, other, quiet])
    assert (found.set, whole.set) == ("talks", "all")
    assert whole.live_error_rate == pytest.approx(1 / 8)
    assert whole.batch_error_rate == 0
    assert (whole.live_last, whole.batch_last) == (0.5, 1.0)
    assert (whole.live_made_up, whole.batch_made_up) == (1, 0)
    assert whole.start_difference == pytest.approx(0.1)
    assert whole.start_difference_95 == pytest.approx(0.3)
    assert whole.words == 7
    assert rows([whole])[0][4:10] == ["0.00", "12.50", "100.0", "50.0", "", "1"]
