"""What aligners do beside their models: words into runs, frames into words, times into transcripts."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from dalston_engine import Segment, Transcript, Word
from dalston_engine.alignment import Found, Words, unaligned
from dalston_engine.ctc import STAR, Clock, align
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

BLANK = 0


def spoken(*lines: tuple[float, float, str], words: bool = True) -> Transcript:
    """Segments with these times, their words evenly spread if they are to have times at all."""
    segments = [Segment(*line) for line in lines]
    made = Words(Transcript(segments=segments)).words if words else None
    return Transcript(segments=segments, words=made, language="en")


@given(st.text(alphabet=" \n\tab.é-", max_size=40))
def test_words_made_of_a_text_are_the_text(text: str) -> None:
    words = Words(spoken((1.0, 3.0, text), words=False)).words
    assert "".join(word.text for word in words) == (text if text.strip() else "")
    assert all(word.text.strip() and 1.0 <= word.start <= word.end <= 3.001 for word in words)


def test_words_belong_to_the_segment_whose_text_they_are() -> None:
    transcript = spoken((0, 1, " One two."), (1, 2, " Three"), (2, 3, ""), (3, 4, " four"))
    transcript.words = [Word(word.text, 5, 5) for word in transcript.words or []]
    assert Words(transcript).of == [[0, 1], [2], [], [3]]


def test_words_that_are_no_segments_text_go_by_their_times() -> None:
    transcript = spoken((0, 1, " One."), (2, 3, " Two."))
    transcript.words = [Word(" uh", 0.2, 0.4), Word(" one", 0.5, 0.9), Word(" two", 2.1, 2.8)]
    assert Words(transcript).of == [[0, 1], [2]]


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.2, 40)), min_size=1, max_size=30), st.booleans())
def test_every_word_is_looked_for_once_around_its_time(gaps: list[tuple[float, float]], words: bool) -> None:
    lines, end = list[tuple[float, float, str]](), 0.0
    for gap, length in gaps:
        lines.append((end + gap, end + gap + length, " one two three"))
        end += gap + length
    held = Words(spoken(*lines, words=words))
    runs = held.runs(end + 1)
    assert [index for run in runs for index in run.words] == list(range(3 * len(gaps)))
    for run in runs:
        assert 0 <= run.start < run.end <= end + 1
        assert run.end - run.start <= 41
    for before, after in pairwise(runs):
        assert before.end <= after.start + 1e-6


def test_a_long_segment_is_cut_between_its_words() -> None:
    transcript = spoken((0, 200, " word" * 400))
    runs = Words(transcript).runs(200, 20)
    assert len(runs) >= 10
    assert all(run.end - run.start <= 21 for run in runs)
    assert not Words(spoken((0, 400, " word" * 400), words=False)).runs(400)


def test_who_talks_into_a_segment_is_looked_for_apart() -> None:
    transcript = spoken((1, 9, " a long story"), (4, 5, " yes"), (9.2, 11, " and more"))
    assert [run.words for run in Words(transcript).runs(12)] == [[0, 1, 2], [3], [4, 5]]


def test_what_was_not_found_keeps_its_times() -> None:
    transcript = spoken((0, 2, " one two"), (2, 4, " three - four"))
    found = [Found(0.5, 0.9, -9.0), Found(0.9, 1.2, -9.0), Found(2.5, 2.9, -1.0), None, Found(3.1, 3.5, -1.0)]
    aligned = Words(transcript).aligned(found, -5.0)
    assert [(word.start, word.end) for word in aligned.words or []] == [
        (0, 1), (1, 2), (2.5, 2.9), (2.9, 2.9), (3.1, 3.5)
    ]  # fmt: skip
    assert [(segment.start, segment.end) for segment in aligned.segments] == [(0, 2), (2.5, 3.5)]
    assert len(aligned.warnings) == 1
    assert "1 of 2 segments" in aligned.warnings[0]


def test_kept_times_do_not_reach_into_found_ones() -> None:
    transcript = spoken((0, 2, " one two"), (2, 4, " three"))
    aligned = Words(transcript).aligned([None, None, Found(1.7, 2.4, -1.0)], -5.0)
    assert [(word.start, word.end) for word in aligned.words or []] == [(0, 1), (1, 1.7), (1.7, 2.4)]


def test_what_else_is_known_of_words_and_segments_stays() -> None:
    word = Word(" one", 0, 1, probability=0.5, speaker="speaker_0", channel=1)
    segment = Segment(0, 1, " one", avg_logprob=-0.2, tokens=[7], channel=1)
    aligned = Words(Transcript(segments=[segment], words=[word])).aligned([Found(0.2, 0.6, -1.0)], -5.0)
    assert aligned.words == [Word(" one", 0.2, 0.6, probability=0.5, speaker="speaker_0", channel=1)]
    assert aligned.segments == [Segment(0.2, 0.6, " one", avg_logprob=-0.2, tokens=[7], channel=1)]


def test_an_unknown_language_is_told() -> None:
    transcript = spoken((0, 1, " un"))
    transcript.language = "fr"
    told = unaligned(transcript, ["en", "ko"])
    assert (told.segments, told.words) == (transcript.segments, transcript.words)
    assert told.warnings == ["Words were not aligned: the language is fr, and this engine knows en, ko."]


def heard(labels: list[int], size: int = 6) -> NDArray[np.float32]:
    """Frames in which the model is rather sure of these labels."""
    chance = np.random.default_rng(1)
    probabilities = chance.uniform(0.001, 0.01, (len(labels), size))
    probabilities[np.arange(len(labels)), labels] = 1
    log_probs: NDArray[np.float32] = np.log(probabilities / probabilities.sum(axis=1, keepdims=True))
    return log_probs.astype(np.float32)


def test_words_are_found_where_their_labels_are() -> None:
    frames = heard([0, 0, 1, 0, 2, 2, 0, 0, 3, 0, 3, 0, 1, 0, 0])
    found = align(frames, [[1, 2], [3, 3], [1]], BLANK)
    assert [(begin, last) for begin, last, _ in found] == [(2, 5), (8, 10), (12, 12)]
    assert all(score > -0.2 for _, _, score in found)


def test_speech_outside_the_words_is_passed_over() -> None:
    frames = heard([0, 1, 2, 0, 4, 5, 4, 5, 0, 3, 1, 0])
    assert [word[:2] for word in align(frames, [[1, 2], [3, 1]], BLANK)] == [(1, 2), (9, 10)]


def test_what_has_no_label_takes_what_is_left() -> None:
    frames = heard([0, 1, 2, 0, 4, 5, 4, 0, 3, 1, 0])
    assert [word[:2] for word in align(frames, [[1, 2], [STAR], [3, 1]], BLANK)] == [(1, 2), (4, 6), (8, 9)]


@pytest.mark.parametrize("words", [[], [[1, 2, 3]], [[1, 1]]])
def test_too_few_frames_find_nothing(words: list[list[int]]) -> None:
    assert align(heard([1, 1]), words, BLANK) == []
    assert align(np.empty((0, 6), np.float32), words, BLANK) == []


def test_a_random_way_is_found_again() -> None:
    chance = random.Random(3)
    words = [[chance.randint(1, 5) for _ in range(chance.randint(1, 6))] for _ in range(200)]
    labels, expected = [BLANK], list[tuple[int, int]]()
    for word in words:
        begin = len(labels)
        for label in word:
            labels += [label] * chance.randint(1, 3) + [BLANK] * chance.randint(1, 2)
        while labels[-1] == BLANK:
            labels.pop()
        expected.append((begin, len(labels) - 1))
        labels += [BLANK] * chance.randint(1, 9)
    assert [word[:2] for word in align(heard(labels), words, BLANK)] == expected


def test_frames_tell_time() -> None:
    clock = Clock(0.02, lag=0.08, join=0.3, tail=0.15)
    frames = [(10, 20, -1.0), (25, 30, -1.0), (80, 90, -1.0)]
    times = [(round(word.start, 2), round(word.end, 2)) for word in clock.words(frames, 50, 3.0)]
    assert times == [(1.12, 1.42), (1.42, 1.69), (2.52, 2.89)]
    assert clock.words([], 0, 3.0) == []
    assert Clock(0.02).words([(0, 4, -1.0), (5, 6, -1.0)], 0, 0.11)[1] == Found(0.1, 0.11, -1.0)
