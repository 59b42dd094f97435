"""Where utterances begin and end, from scripted probabilities of speech."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from dalston_engine.live.endpoints import FRAME, LONG, RATE, Ended, Endpoints, Event, Paused, Resumed, Started
from dalston_engine.live.protocol import Options

OPTIONS = Options(vad_silence_ms=480, vad_min_speech_ms=96, vad_padding_ms=320)
PAD = 10 * FRAME
Run = tuple[int, float]


def heard(
    points: Endpoints, *runs: Run, at: int = 0, loudness: Iterable[float] = ()
) -> list[tuple[int, Event]]:
    """What frames change, each with how many frames there were by then; a run is so many of a probability."""
    told, loud = [], itertools.chain(loudness, itertools.repeat(0.1))
    frames = [probability for count, probability in runs for _ in range(count)]
    for n, probability in enumerate(frames):
        told += [(n + 1, event) for event in points.hear(at + n * FRAME, probability, next(loud))]
    return told


def kinds(told: list[tuple[int, Event]]) -> list[tuple[int, str]]:
    return [(n, type(event).__name__) for n, event in told]


def utterances(told: list[tuple[int, Event]]) -> list[tuple[int, int, int, int]]:
    """Onset, end, where it is heard from and to, in frames."""
    found = [event.utterance for _, event in told if isinstance(event, Ended)]
    return [(u.onset // FRAME, u.end // FRAME, u.begin // FRAME, u.stop // FRAME) for u in found]


def test_speech_begins_with_its_first_frame_and_ends_with_its_last() -> None:
    told = heard(Endpoints(OPTIONS), (20, 0.1), (30, 0.9), (15, 0.1))
    assert kinds(told) == [(23, "Started"), (55, "Paused"), (65, "Ended")]
    assert told[0][1] == Started(20 * FRAME)
    assert utterances(told) == [(20, 50, 10, 60)]


def test_what_follows_begins_where_an_utterance_was_heard_to() -> None:
    points = Endpoints(OPTIONS)
    told = heard(points, (20, 0.1), (30, 0.9), (15, 0.1), (2, 0.1), (30, 0.9), (15, 0.1))
    first, second = utterances(told)
    assert first[3] == second[2] == 60
    assert points.floor == 107 * FRAME


def test_a_short_sound_is_no_speech() -> None:
    points = Endpoints(OPTIONS)
    assert heard(points, (5, 0.1), (2, 0.9), (30, 0.1)) == []
    assert points.now is None


def test_a_voice_between_the_thresholds_neither_begins_nor_ends_speech() -> None:
    points = Endpoints(OPTIONS)
    assert heard(points, (30, 0.4)) == []
    assert kinds(heard(points, (10, 0.9), (30, 0.4))) == [(3, "Started")]


def test_a_hum_after_speech_is_cut_like_speech() -> None:
    told = heard(Endpoints(OPTIONS), (10, 0.9), (2 * LONG // FRAME, 0.4))
    assert [kind for _, kind in kinds(told)] == ["Started", "Ended", "Ended"]


@pytest.mark.parametrize("threshold", [0.05, 0.15, 0.9])
def test_silence_ends_speech_whatever_the_threshold(threshold: float) -> None:
    told = heard(Endpoints(Options(vad_threshold=threshold)), (10, 0.95), (30, 0.0))
    assert [kind for _, kind in kinds(told)] == ["Started", "Paused", "Ended"]


def test_speech_goes_on_after_a_pause() -> None:
    told = heard(Endpoints(OPTIONS), (10, 0.9), (8, 0.1), (10, 0.9), (15, 0.1))
    assert kinds(told) == [(3, "Started"), (15, "Paused"), (19, "Resumed"), (33, "Paused"), (43, "Ended")]
    assert utterances(told) == [(0, 28, 0, 38)]


def test_a_short_silence_ends_at_once() -> None:
    told = heard(Endpoints(Options(vad_silence_ms=50, vad_padding_ms=0)), (10, 0.9), (3, 0.1))
    assert kinds(told) == [(4, "Started"), (12, "Ended")]
    assert utterances(told) == [(0, 10, 0, 10)]


def test_a_long_utterance_is_cut_in_its_quietest_moment_of_late() -> None:
    long = LONG // FRAME + 1
    loudness = [0.1] * 50 + [0.0] * 10 + [0.1] * 300 + [0.01] * 4 + [0.1] * 200
    points = Endpoints(OPTIONS)
    told = heard(points, (long + 20, 0.9), (15, 0.1), loudness=loudness)
    assert kinds(told) == [(3, "Started"), (long, "Ended"), (long + 25, "Paused"), (long + 35, "Ended")]
    assert [one.utterance.cause for _, one in told if isinstance(one, Ended)] == ["length", "silence"]
    assert utterances(told) == [(0, 362, 0, 362), (362, long + 20, 362, long + 30)]


def test_speech_without_a_breath_is_cut_again_and_again() -> None:
    told = heard(Endpoints(OPTIONS), (3000, 0.9))
    spans = utterances(told)
    assert len(spans) >= 6
    assert all(a[3] == b[2] for a, b in itertools.pairwise(spans))
    assert all(LONG / 2 < (stop - begin) * FRAME <= LONG + FRAME for _, _, begin, stop in spans)


@pytest.mark.parametrize("silence", [500, 10_000])
def test_nothing_longer_than_24_seconds_is_ever_heard_in_one_piece(silence: int) -> None:
    points = Endpoints(Options(vad_silence_ms=silence))
    runs = [(300, 0.9), (290, 0.1), (430, 0.9), (305, 0.1), (2, 0.9), (310, 0.1), (600, 0.7), (400, 0.0)]
    for _, event in heard(points, *runs):
        if isinstance(event, Ended):
            assert 0 < event.utterance.stop - event.utterance.begin <= 24 * RATE


def test_a_flush_ends_speech_and_what_goes_on_is_speech_at_once() -> None:
    points = Endpoints(OPTIONS)
    heard(points, (10, 0.9))
    one = points.flush(10 * FRAME, "flush")
    assert one is not None
    assert one.started
    assert (one.onset, one.end, one.stop, one.upto) == (0, 10 * FRAME, 10 * FRAME, 10 * FRAME)
    assert heard(points, (1, 0.9), at=10 * FRAME) == [(1, Started(10 * FRAME))]


def test_a_flush_ends_a_sound_too_short_for_speech() -> None:
    points = Endpoints(OPTIONS)
    heard(points, (5, 0.1), (1, 0.9))
    one = points.flush(6 * FRAME, "end")
    assert one is not None
    assert not one.started
    assert points.flush(6 * FRAME, "end") is None


def test_a_session_that_goes_on_says_nothing_of_what_was_heard() -> None:
    runs = [(20, 0.1), (30, 0.9), (40, 0.1), (30, 0.9), (20, 0.1)]
    frames = [probability for count, probability in runs for _ in range(count)]
    whole = utterances(heard(Endpoints(OPTIONS), *runs))
    heard_to = whole[0][3]
    for before in (5, 16, 30):
        start = heard_to - before
        points = Endpoints(OPTIONS, heard_to * FRAME)
        told = heard(points, *[(1, p) for p in frames[start:]], at=start * FRAME)
        assert utterances(told) == whole[1:]


def test_a_session_that_goes_on_in_the_middle_of_speech_hears_it_from_there() -> None:
    points = Endpoints(OPTIONS, 10 * FRAME)
    told = heard(points, (12, 0.9), (20, 0.1))
    assert told[0] == (11, Started(10 * FRAME))
    assert utterances(told) == [(10, 12, 10, 22)]


def test_what_is_cleared_is_forgotten() -> None:
    points = Endpoints(OPTIONS)
    heard(points, (10, 0.9))
    points.clear(10 * FRAME)
    told = heard(points, (10, 0.9), (20, 0.1), at=10 * FRAME)
    assert utterances(told) == [(10, 20, 10, 30)]
    assert isinstance(told[1][1], Paused)
    assert not [one for one in told if isinstance(one[1], Resumed)]
