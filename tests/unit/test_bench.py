"""What the benchmarks make of what they measured."""

from __future__ import annotations

import pytest

from bench.clips import Cost, figures


def test_a_ratio_is_of_all_recordings_together() -> None:
    costs = [Cost(audio=2.0, server=1.0, engine=0.5, library=4.0), Cost(8.0, 3.0, 2.5, 4.0)]
    ratio, server, engine, library, audio = figures("tiny", costs, 2.5)
    assert (ratio.value, ratio.missed) == (2.0, True)
    assert [one.value for one in (server, engine, library)] == pytest.approx([0.4, 0.3, 0.8])
    assert (audio.value, "2 recordings" in audio.name) == (10.0, True)


def test_nothing_is_told_of_no_recordings() -> None:
    assert list(figures("tiny", [], 2.5)) == []
