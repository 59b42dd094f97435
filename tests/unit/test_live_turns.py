"""What a client is told of who speaks, when the worker that told it is lost."""

from __future__ import annotations

from dalston.realtime.turns import Turns


def test_all_is_told_while_no_worker_is_lost() -> None:
    turns = Turns()
    assert [turns.started(1), turns.ended(2), turns.started(3), turns.ended(4)] == [True] * 4


def test_who_was_told_to_speak_is_only_told_to_stop() -> None:
    turns = Turns()
    turns.started(1)
    turns.lost()
    assert not turns.started(1.1)
    assert turns.ended(2)
    assert turns.started(3)


def test_an_utterance_that_was_told_as_over_is_not_told_again() -> None:
    turns = Turns()
    turns.started(1)
    turns.ended(2)
    turns.lost()
    assert not turns.started(1)
    assert not turns.ended(2.1)
    assert turns.started(3)
    assert turns.ended(4)


def test_several_are_told_apart_whatever_of_them_was_told() -> None:
    turns = Turns()
    turns.started(1)
    turns.ended(2)
    turns.started(3)
    turns.lost()
    assert [turns.started(1), turns.ended(2)] == [False, False]
    assert [turns.started(3), turns.ended(4)] == [False, True]


def test_one_that_was_told_as_two_ends_once() -> None:
    turns = Turns()
    turns.started(1)
    turns.ended(3)
    turns.lost()
    assert [turns.started(1), turns.ended(1.8), turns.started(2.2), turns.ended(3)] == [False] * 4
    assert turns.started(4)
