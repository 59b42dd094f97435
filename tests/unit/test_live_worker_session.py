"""One session at a worker: what it asks of the loop, and what it tells, in which order.

The sound says by its loudness whether it is speech, and a script is what the engine answers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dalston_engine.errors import BadInput
from dalston_engine.live import protocol
from dalston_engine.live.endpoints import FRAME, RATE
from dalston_engine.live.loop import Loop, Rank, Request
from dalston_engine.live.protocol import Final, Flushed, Options, Partial, SpeechEnded, SpeechStarted
from dalston_engine.live.session import Session, Stable
from dalston_engine.types import Segment, Transcript, Word

OPTIONS = Options(vad_silence_ms=512, vad_min_speech_ms=96, vad_padding_ms=320)


class Loudness:
    """Whatever is loud is speech."""

    def probabilities(self, samples: Any) -> tuple[Any, Any]:
        loud = np.abs(samples.reshape(-1, FRAME)).max(axis=1)
        return (loud > 0.1) * 0.9, loud


class Desk(Loop):
    """A loop that answers when the test says so."""

    def __init__(self) -> None:
        super().__init__(lambda model, batch: [])
        self.asked: list[Request] = []

    def submit(self, request: Request) -> None:
        super().submit(request)
        self.asked.append(request)

    @property
    def open(self) -> list[Request]:
        return list(self._queue)

    def begin(self, request: Request) -> None:
        """Take it off the queue, as a pass does."""
        self.withdraw(request)
        request.begun = True

    def answer(self, request: Request, text: str, **more: Any) -> None:
        self.begin(request)
        request.done(Transcript([Segment(0, 1, text)] if text else [], **more))


class Stage:
    """A session with its desk."""

    def __init__(self, options: Options = OPTIONS, **asked: Any) -> None:
        self.desk, self.told = Desk(), list[Any]()
        opened = protocol.Open("s", 1, "m", options=options, **asked)
        self.session = Session(opened, self.desk, Loudness(), self.told.append, lambda call: call())  # type: ignore[arg-type]

    def hear(self, *seconds: float) -> None:
        """Silence, speech, silence, … of so many seconds, in pieces of 20 ms."""
        for n, length in enumerate(seconds):
            for _ in range(round(length * 50)):
                self.session.hear(np.full(RATE // 50, 0.5 * (n % 2), np.float32))

    def all(self, *kinds: type) -> list[Any]:
        return [one for one in self.told if isinstance(one, kinds)]

    @property
    def last(self) -> Request:
        return self.desk.asked[-1]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_what_two_passes_agree_on_is_stable_and_stays() -> None:
    stable = Stable()
    assert stable.hear("And so") == ("", "And so")
    assert stable.hear("And so my") == ("And so", " my")
    assert stable.hear("and so my fellow") == ("And so", " my fellow")
    assert stable.hear("And so my fellow") == ("And so", " my fellow")
    assert stable.hear("And so my fellow men") == ("And so my fellow", " men")
    assert stable.hear("And") == ("And so my fellow", "")
    assert stable.hear("") == ("And so my fellow", "")


def test_a_pause_that_becomes_the_end_has_its_final_already(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.3)
    assert stage.last.rank == Rank.PAUSE
    assert stage.last.speech.final
    stage.desk.answer(stage.last, " Hello.")
    assert stage.all(Partial)[-1].unstable == "Hello."
    count = len(stage.desk.asked)
    stage.hear(0.4)
    assert [type(one) for one in stage.told[-2:]] == [SpeechEnded, Final]
    assert stage.told[-1].text == "Hello."
    assert stage.told[-1].waited < 0.1
    assert len(stage.desk.asked) == count


def test_a_pass_on_its_way_when_the_pause_becomes_the_end_is_the_final(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.7)
    assert stage.last.rank == Rank.FINAL
    assert not stage.all(Final)
    stage.desk.answer(stage.last, "Hello.")
    [final] = stage.all(Final)
    assert (final.text, final.cause) == ("Hello.", "silence")
    assert final.start == pytest.approx(0.5, abs=0.04)
    assert final.end == pytest.approx(1.5, abs=0.04)
    assert final.audio_end == pytest.approx(1.82, abs=0.04)


def test_speech_that_goes_on_makes_the_pass_of_its_pause_a_partial(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.3)
    pause = stage.last
    stage.desk.begin(pause)
    stage.hear(0, 0.5)
    stage.desk.answer(pause, "Hello")
    assert stage.all(Partial)[-1].unstable == "Hello"
    stage.hear(0.7)
    assert stage.last is not pause
    assert stage.last.speech.seconds == pytest.approx(0.32 + 1.8 + 0.2, abs=0.2)
    stage.desk.answer(stage.last, "Hello world.")
    assert [final.text for final in stage.all(Final)] == ["Hello world."]


def test_what_a_pause_asked_for_in_vain_is_withdrawn(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.3, 0.1)
    assert [one.rank for one in stage.desk.open] == [Rank.PARTIAL]


def test_one_partial_is_asked_for_at_a_time_and_a_newer_one_replaces_it(stage: Stage) -> None:
    stage.hear(0.5, 3.0)
    assert len(stage.desk.open) == 1
    assert stage.last.speech.seconds == pytest.approx(0.32 + 3.0, abs=0.3)
    stage.desk.begin(stage.last)
    count = len(stage.desk.asked)
    stage.hear(0, 2.0)
    assert len(stage.desk.asked) == count


def test_finals_are_told_in_order_and_a_flush_after_those_before_it(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.7, 1.0, 0.7)
    first, second = [one for one in stage.desk.open if one.rank == Rank.FINAL]
    stage.session.flush(Flushed("a", 3.9))
    stage.desk.answer(second, "two")
    assert not stage.all(Final, Flushed)
    stage.desk.answer(first, "one")
    assert [getattr(one, "text", "flushed") for one in stage.all(Final, Flushed)] == ["one", "two", "flushed"]


def test_a_flush_takes_speech_that_goes_on_and_a_sound_too_short(stage: Stage) -> None:
    stage.hear(0.5, 0.06)
    stage.session.flush(Flushed("a", 0.56))
    stage.desk.answer(stage.last, "")
    assert [type(one) for one in stage.told] == [Flushed]
    stage.hear(0.5, 0.06)
    stage.session.flush(Flushed("b", 1.12))
    stage.desk.answer(stage.last, "Oh.")
    assert [type(one) for one in stage.told[1:]] == [SpeechStarted, SpeechEnded, Final, Flushed]


def test_speech_in_which_nothing_was_said_after_all_still_has_its_final(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.7)
    stage.desk.answer(stage.last, "")
    assert [final.text for final in stage.all(Final)] == [""]


def test_words_are_told_on_the_clock_of_the_session() -> None:
    stage = Stage(Options(word_timestamps=True, partials=False), start=3600.0, heard=3600.0)
    stage.hear(1.0, 1.0, 0.9)
    assert stage.last.speech.words
    stage.desk.answer(stage.last, " Hi", words=[Word(" Hi", 0.3, 0.8, 0.9)])
    [final] = stage.all(Final)
    assert final.start == pytest.approx(3601, abs=0.04)
    assert final.words[0].start == pytest.approx(3601, abs=0.04)


def test_a_language_is_kept_once_it_was_surely_detected(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.7)
    assert stage.last.speech.language is None
    stage.desk.answer(stage.last, "Hi", language="cy", language_probability=0.4)
    stage.hear(0.5, 2.5, 0.7)
    assert stage.last.speech.language is None
    assert stage.last.speech.previous == "Hi"
    stage.desk.answer(stage.last, "Hello there", language="en", language_probability=0.9)
    stage.hear(0.5, 1.0, 0.7)
    assert stage.last.speech.language == "en"
    assert [final.language_probability for final in stage.all(Final)] == [0.4, 0.9]


def test_options_told_anew_are_for_what_follows(stage: Stage) -> None:
    stage.session.configure(Options(language="de", prompt="Zug", keyterms=["Gleis"], vad_silence_ms=1000))
    stage.hear(0.5, 1.0, 0.7)
    assert not stage.all(SpeechEnded)
    assert (stage.last.speech.language, stage.last.speech.prompt) == ("de", "Zug")
    assert stage.last.speech.keyterms == ["Gleis"]


def test_what_is_cleared_is_told_of_no_more(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.7, 1.0)
    old = stage.desk.asked[:]
    stage.session.clear()
    assert stage.all(protocol.Settled)[-1].audio == 3.2
    assert not stage.desk.open
    for request in old:
        stage.desk.answer(request, "old")
    assert not stage.all(Final)


def test_silence_is_settled_now_and_then_and_dropped(stage: Stage) -> None:
    stage.hear(60)
    settled = [one.audio for one in stage.all(protocol.Settled)]
    assert len(settled) >= 15
    assert settled[-1] == pytest.approx(60, abs=4)
    assert stage.session.tape.end - stage.session.tape.start < RATE
    assert not stage.desk.asked


def test_a_session_tells_when_it_is_behind_and_when_no_more(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 3.0)
    lags = stage.all(protocol.Lag)
    assert len(lags) == 1
    assert lags[0].seconds > 1
    stage.desk.answer(stage.last, "Hello.")
    assert stage.all(protocol.Lag)[-1].seconds == 0


def test_a_session_ends_with_what_the_engine_could_not_do(stage: Stage) -> None:
    stage.hear(0.5, 1.0, 0.7)
    stage.last.done(BadInput("No.", code="unsupported_language"))
    assert stage.told[-1] == protocol.Failed("unsupported_language", "No.", 422, False)
    before = len(stage.told)
    stage.session.close()
    stage.hear(0.5)
    assert len(stage.told) == before


def test_a_partial_that_fails_costs_nothing_but_itself(stage: Stage) -> None:
    stage.hear(0.5, 1.0)
    stage.desk.begin(stage.last)
    stage.last.done(RuntimeError("no"))
    stage.hear(0.0, 0.5, 0.7)
    stage.desk.answer(stage.last, "Hello.")
    assert [final.text for final in stage.all(Final)] == ["Hello."]


@pytest.mark.parametrize("cause", ["flush", "end"])
def test_a_pass_of_a_pause_is_not_final_once_its_speaker_has_gone_on(stage: Stage, cause: Any) -> None:
    stage.hear(0.5, 1.0, 0.3)
    early = stage.last
    assert early.rank == Rank.PAUSE
    stage.desk.begin(early)
    stage.hear(0.0, 1.5)
    stage.session.flush(Flushed("x", stage.session.seconds), cause)
    assert stage.last is not early
    stage.desk.answer(early, "first half")
    assert not stage.all(Final)
    stage.desk.answer(stage.last, "all of it")
    assert [one.text for one in stage.all(Final)] == ["all of it"]


@pytest.mark.parametrize("late", [False, True])
def test_nor_where_a_busy_worker_asks_for_none_at_the_next_pause(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    stage.hear(0.5, 1.0, 0.3)
    early = stage.last
    stage.desk.begin(early)
    monkeypatch.setattr(stage.desk.meter, "busy", lambda window=2.0: 0.95)
    stage.hear(0.0, 1.5, 0.3)
    if not late:
        stage.desk.answer(early, "first half")
    stage.hear(0.4)
    if late:
        stage.desk.answer(early, "first half")
    assert not stage.all(Final)
    stage.desk.answer(stage.last, "all of it")
    assert [one.text for one in stage.all(Final)] == ["all of it"]
