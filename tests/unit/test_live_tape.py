"""What a session keeps of its audio, and what waits to be told to its client."""

from __future__ import annotations

import asyncio
import time

import pytest
from dalston_engine.live.protocol import Clear, Configure, End, Flush, Options

from dalston.errors import BadRequest
from dalston.live import Event, FinalTranscript, LiveRequest, PartialTranscript, SessionEnded, SpeechStarted
from dalston.realtime import outbox as outboxes
from dalston.realtime import tape as tapes
from dalston.realtime.outbox import Outbox
from dalston.realtime.tape import Tape
from dalston.store.keeping import transcript

SECOND = 32_000


def tape(**changes: object) -> Tape:
    """A tape of 16 kHz samples."""
    return Tape(LiveRequest(**changes))  # type: ignore[arg-type]


def read(one: Tape, place: int | None = None) -> bytes:
    """All that is kept from a place on."""
    place, found = one.first if place is None else place, b""
    while piece := one.piece(place):
        place += len(piece)
        found += piece
    return found


def test_what_is_dealt_with_is_dropped_but_for_its_context() -> None:
    one = tape()
    one.add(b"a" * SECOND + b"b" * SECOND + b"c" * SECOND)
    one.heard(2.0)
    assert one.start == 1.5
    assert read(one) == b"b" * (SECOND // 2) + b"c" * SECOND
    one.heard(1.0)
    assert one.start == 1.5
    one.heard(9.0)
    assert (len(one), one.start) == (0, 3.0)


def test_a_piece_ends_where_something_was_asked() -> None:
    one = tape()
    one.add(b"a" * 1000)
    one.ask(Flush("f"))
    one.add(b"b" * 1000)
    one.ask(End())
    assert one.piece(0) == b"a" * 1000
    assert one.piece(1000) == b"b" * 1000
    assert one.piece(2000) == b""
    assert [mark.place for mark in one.marks] == [1000, 2000]


def test_pieces_are_short() -> None:
    one = tape()
    one.add(bytes(10 * SECOND))
    assert len(one.piece(0)) == tapes.PIECE_BYTES
    assert len(read(one)) == 10 * SECOND


def test_options_count_from_where_they_were_changed() -> None:
    one, other = tape(), Options(vad_silence_ms=900)
    one.add(bytes(SECOND))
    one.ask(Configure(other))
    one.add(bytes(SECOND))
    one.heard(1.2)
    assert one.options.vad_silence_ms == 500
    assert len(one.marks) == 1
    one.heard(1.6)
    assert one.options == other
    assert not one.marks


def test_a_flood_of_messages_is_not_kept() -> None:
    one = tape()
    for silence in range(100, 5000):
        one.ask(Configure(Options(vad_silence_ms=silence)))
    assert [mark.number for mark in one.marks] == [4900]
    for _ in range(tapes.MOST_MARKS - 1):
        one.ask(Flush("f"))
    with pytest.raises(BadRequest, match="send fewer"):
        one.ask(Flush("f"))
    one.ask(End())


def test_what_was_answered_is_not_asked_again() -> None:
    one = tape()
    one.add(bytes(SECOND))
    one.ask(Clear())
    one.ask(Flush("f"))
    one.ask(Flush("g"))
    one.flushed("f")
    assert [mark.command for mark in one.marks] == [Flush("g")]
    one.ask(Clear())
    one.cleared(0.5)
    assert len(one.marks) == 2
    one.cleared(1.0)
    assert [mark.command for mark in one.marks] == [Flush("g")]


@pytest.mark.parametrize(("encoding", "width"), [("pcm_f32le", 4), ("mulaw", 1)])
def test_places_are_those_of_whole_samples(encoding: str, width: int) -> None:
    one = tape(encoding=encoding, sample_rate=8_000)
    one.add(bytes(8_000 * width * 3))
    one.heard(1.23456)
    assert one.first % width == 0
    assert one.start == pytest.approx(0.73456, abs=1 / 8_000)
    assert Tape(LiveRequest(encoding=encoding, sample_rate=8_000), 2.5).first == 20_000 * width  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_a_client_is_asked_for_nothing_that_was_acknowledged(rate: int) -> None:
    """Whoever rounds a time to a sample, and tells its time, gets the same sample again."""
    for n in range(5000):
        acknowledged = n * 0.00137
        begun = Tape(LiveRequest(sample_rate=rate), acknowledged)
        assert round(begun.seconds(begun.end) * rate) == round(acknowledged * rate)


def test_a_file_is_kept_from_its_beginning_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapes, "MOST_BYTES", 1000)
    one = tape(encoding="container")
    one.add(b"a" * 900)
    one.heard(5.0)
    one.sent(900)
    assert (len(one), one.whole, one.start) == (900, True, 0.0)
    one.add(b"b" * 200)
    assert not one.whole
    assert read(one, 900) == b"b" * 200
    one.sent(1100)
    assert (len(one), one.full) == (0, False)


def final(seq: int) -> FinalTranscript:
    """A final."""
    return FinalTranscript(seq, 0.0, 1.0, f"{seq}", "silence")


def partial(seq: int) -> PartialTranscript:
    """A partial."""
    return PartialTranscript(seq, 0.0, 1.0, f"{seq}", "")


def told(one: Outbox) -> list[Event]:
    """All that is told until the end."""

    async def all_() -> list[Event]:
        return [event async for event in one.events()]

    return asyncio.run(asyncio.wait_for(all_(), 5))


def test_a_partial_that_nobody_took_is_replaced() -> None:
    one = Outbox()
    for event in (
        partial(1),
        partial(2),
        final(3),
        partial(4),
        SpeechStarted(5, 1.0),
        partial(6),
        partial(7),
    ):
        one.put(event)
    one.put(SessionEnded(8, "s", 1.0))
    assert [event.seq for event in told(one)] == [2, 3, 4, 5, 7, 8]


def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Outbox()
    for n in range(outboxes.MOST + 1):
        one.put(final(n))
    assert one.reason == "stalled"
    assert told(one) == []
    other, now = Outbox(), time.monotonic()
    other.put(final(1))
    monkeypatch.setattr("dalston.realtime.outbox.time.monotonic", lambda: now + outboxes.STALLED_S + 1)
    assert other.stalled
    other.put(final(2))
    assert other.reason == "stalled"


def test_all_that_was_missed_is_told_however_much() -> None:
    one = Outbox()
    for n in range(outboxes.MOST * 2):
        one.put(final(n), missed=True)
    one.put(SessionEnded(outboxes.MOST * 2, "s", 1.0))
    assert len(told(one)) == outboxes.MOST * 2 + 1


@pytest.mark.parametrize(("language", "text"), [("ja", "はい。どうぞ。"), ("en", "はい。 どうぞ。")])
def test_utterances_are_joined_as_their_language_writes(language: str, text: str) -> None:
    said = [FinalTranscript(1, 0, 1, "はい。", "silence"), FinalTranscript(2, 2, 3, "どうぞ。", "silence")]
    asked = LiveRequest(options=Options(language=language))
    assert transcript("a" * 32, "ended", "me", 0.0, "base", asked, said).text == text
