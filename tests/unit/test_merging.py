"""Parts, channels and speakers become one transcript; no word is lost, doubled or given away."""

from __future__ import annotations

import wave
from array import array
from pathlib import Path

import pytest
from channels import joined
from dalston_engine import Audio, Diarization, Segment, Span, Transcript, Turn, Word
from dalston_engine.types import SAMPLE_RATE
from hypothesis import given
from hypothesis import strategies as st
from lines import lines_of, transcript_of
from speakers import attributed
from stitching import stitched

CUT_S, CONTEXT_S = 20.0, 1.5
SPANS = [Span(0, CUT_S + CONTEXT_S, CUT_S), Span(CUT_S - CONTEXT_S, 40, 40)]
TEXTS = st.permutations(["the", "a", "one", "two", "cat", "dog", "ran", "sat"]).map(lambda words: words * 11)


def spoken(text: str, start: float = 0.0, step: float = 0.4) -> Transcript:
    """A sentence a line, its words `step` seconds each."""
    segments, words = [], list[Word]()
    for line in text.splitlines():
        mine = list[Word]()
        for word in line.split():
            at = start + step * (len(words) + len(mine))
            mine.append(Word(f" {word}", at, at + step))
        segments.append(Segment(mine[0].start, mine[-1].end, "".join(w.text for w in mine), tokens=[1, 2]))
        words += mine
    return Transcript(segments, words=words, language="en", model="base")


def text_of(transcript: Transcript) -> str:
    whole = "".join(segment.text for segment in transcript.segments).strip()
    if transcript.words is not None:
        assert "".join(word.text for word in transcript.words).strip() == whole
    return whole


def heard(texts: list[str], span: Span, shift: float, line: int) -> Transcript:
    """What a part makes of a recording with a word every 0.44 s: those that it hears whole, all a little
    early or late, in segments of some words."""
    times = [(text, n * 0.44, n * 0.44 + 0.4) for n, text in enumerate(texts)]
    inside = [one for one in times if span.start <= one[1] and one[2] <= span.end]
    words = [
        Word(f" {text}", start - span.start + shift, end - span.start + shift) for text, start, end in inside
    ]
    groups = [words[n : n + line] for n in range(0, len(words), line)]
    return Transcript(
        [Segment(g[0].start, g[-1].end, "".join(w.text for w in g)) for g in groups],
        words=words,
        language="en",
    )


@given(
    TEXTS, st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.integers(1, 12), st.integers(1, 12), st.booleans()
)
def test_no_word_at_a_cut_is_lost_or_doubled(
    texts: list[str], early: float, late: float, left: int, right: int, timed: bool
) -> None:
    parts = [heard(texts, SPANS[0], early, left), heard(texts, SPANS[1], late, right)]
    if not timed:
        for part in parts:
            part.words = None
    whole = stitched(parts, SPANS)
    if timed or left == right == 1:
        assert text_of(whole).split() == texts
        assert (whole.words is None) is not timed


def test_writing_without_spaces_is_cut_between_characters() -> None:
    first = Transcript([Segment(17.0, 21.4, "\u6211\u4eec\u56de\u5bb6\u5403\u996d")])
    second = Transcript([Segment(0.1, 3.0, "\u56de\u5bb6\u5403\u996d\u7761\u89c9")])
    assert text_of(stitched([first, second], SPANS)).count("\u5403\u996d") == 1


def test_where_parts_agree_on_nothing_the_cut_decides() -> None:
    first, second = spoken("a b c", 18.6, 0.6), spoken("x y z", 0.3, 0.6)
    assert text_of(stitched([first, second], SPANS)) == "a b z"


def test_a_part_of_silence_is_a_part() -> None:
    nothing = Transcript([], words=[], language="nn")
    whole = stitched([spoken("good morning"), nothing], SPANS)
    assert (text_of(whole), whole.language) == ("good morning", "en")
    assert text_of(stitched([nothing, nothing], SPANS)) == ""


def test_times_are_on_the_clock_of_the_recording() -> None:
    second = spoken("good morning", 10)
    second.segments[0].seek = 100
    whole = stitched([Transcript([], words=[]), second], SPANS)
    assert [word.start for word in whole.words or ()] == pytest.approx([28.5, 28.9])
    assert (whole.segments[0].start, whole.segments[0].seek) == (28.5, 1950)


def test_words_go_to_who_speaks_and_segments_are_cut_there() -> None:
    said = spoken("how are you I am fine thanks")
    spoke = Diarization([Turn(0, 1.25, "speaker_7"), Turn(1.15, 3, "speaker_3")])
    lines, turns = attributed(lines_of(said), spoke)
    whole = transcript_of(lines, said, timed=True)
    told = [(segment.speaker, segment.text) for segment in whole.segments]
    assert told == [("speaker_0", " how are you"), ("speaker_1", " I am fine thanks")]
    assert [segment.tokens for segment in whole.segments] == [None, None]
    assert {word.speaker for word in whole.words or ()} == {"speaker_0", "speaker_1"}
    assert [(turn.speaker, turn.end) for turn in turns] == [("speaker_0", 1.25), ("speaker_1", 3)]


def test_a_word_or_two_inside_a_sentence_are_its_speakers() -> None:
    said = spoken("we have been there and then we left.\nOh did you?")
    spoke = Diarization([Turn(0, 1.2, "a"), Turn(1.2, 1.6, "b"), Turn(1.6, 3.2, "a"), Turn(3.2, 9, "b")])
    lines, _ = attributed(lines_of(said), spoke)
    assert [line.segment.speaker for line in lines] == ["speaker_0", "speaker_1"]


def test_exclusive_turns_decide_where_people_talk_at_once() -> None:
    said = spoken("one two three four five six")
    both = [Turn(0, 2.4, "a"), Turn(0, 2.4, "b")]
    lines, turns = attributed(lines_of(said), Diarization(both, [Turn(0, 1.2, "b"), Turn(1.2, 2.4, "a")]))
    assert [line.segment.text for line in lines] == [" one two three", " four five six"]
    assert len(turns) == 2


def test_a_word_beside_a_turn_is_its_speakers_and_one_far_off_is_nobodys() -> None:
    said = spoken("one\ntwo", step=5)
    lines, _ = attributed(lines_of(said), Diarization([Turn(6, 7, "a")]))
    assert [line.segment.speaker for line in lines] == ["speaker_0", "speaker_0"]
    lines, _ = attributed(lines_of(said), Diarization([Turn(16, 17, "a")]))
    assert [line.segment.speaker for line in lines] == [None, None]


def channel(path: Path, loud: list[tuple[float, float, int]]) -> Audio:
    """Sound of an amplitude between times."""
    samples = array("h", [0] * SAMPLE_RATE * 10)
    for start, end, level in loud:
        first, last = int(start * SAMPLE_RATE), int(end * SAMPLE_RATE)
        samples[first:last] = array("h", [level, -level] * ((last - first) // 2))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return Audio(path)


def test_what_leaks_into_another_channel_is_not_doubled(tmp_path: Path) -> None:
    left = channel(tmp_path / "left.wav", [(0, 2, 8000), (4, 6, 400)])
    right = channel(tmp_path / "right.wav", [(0, 2, 300), (4, 6, 7000)])
    mine, yours = spoken("good morning to you all"), spoken("and to you too dear", 4)
    leak, garbled = spoken("good morning to you all", 0.05), spoken("hand too", 4.1)
    first = Transcript(mine.segments + garbled.segments, words=(mine.words or []) + (garbled.words or []))
    second = Transcript(leak.segments + yours.segments, words=(leak.words or []) + (yours.words or []))
    whole = joined([first, second], [left, right])
    assert text_of(whole) == "good morning to you all and to you too dear"
    assert [segment.channel for segment in whole.segments] == [0, 1]


def test_a_channel_is_opened_once_however_many_words_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = [channel(tmp_path / f"{n}.wav", [(0, 10, level)]) for n, level in enumerate((8000, 6000))]
    opened, really = list[str](), wave.open

    def counted(path: str, mode: str) -> wave.Wave_read:
        opened.append(path)
        return really(path, "rb")

    monkeypatch.setattr(wave, "open", counted)
    joined([spoken("one two three four"), spoken("five six seven eight")], audio)
    assert sorted(opened) == [str(one.path) for one in audio]


def test_people_who_say_the_same_at_once_have_both_said_it(tmp_path: Path) -> None:
    audio = [channel(tmp_path / f"{n}.wav", [(0, 2, level)]) for n, level in enumerate((8000, 6000))]
    whole = joined([spoken("yes of course"), spoken("yes of course")], audio)
    assert len(whole.words or ()) == 6


def test_a_leak_under_a_long_word_is_found(tmp_path: Path) -> None:
    left = channel(tmp_path / "left.wav", [(0, 10, 8000)])
    right = channel(tmp_path / "right.wav", [(0, 10, 300)])
    mine, leak = spoken("hum\n" + "one two " * 12, step=0.4), spoken("two " * 24, step=0.4)
    assert mine.words
    mine.words[0].end = 9.9
    whole = joined([mine, leak], [left, right])
    assert len([word for word in whole.words or () if word.channel]) <= 12


def test_a_segment_without_words_stays(tmp_path: Path) -> None:
    said = spoken("good morning")
    said.segments.append(Segment(2.0, 3.0, " the code is hidden"))
    spoke = Diarization([Turn(0, 1, "a"), Turn(2, 3, "b")])
    lines, _ = attributed(lines_of(said), spoke)
    assert [line.segment.speaker for line in lines] == ["speaker_0", "speaker_1"]
    whole = transcript_of(lines, said, timed=True)
    assert [word.text for word in whole.words or ()] == [" good", " morning"]
    audio = [channel(tmp_path / f"{n}.wav", []) for n in range(2)]
    assert len(joined([said, spoken("yes")], audio).segments) == 3


def test_short_answers_are_not_the_others_where_nobody_writes_full_stops() -> None:
    said = [spoken("where were you that evening", n * 6.0) for n in range(8)]
    said += [spoken("home", n * 6.0 + 3.5) for n in range(8)]
    words = sorted((word for one in said for word in one.words or ()), key=lambda word: word.start)
    whole = Transcript([Segment(0, 50, "".join(word.text for word in words))], words=words)
    turns = [Turn(n * 6.0, n * 6.0 + 2, "host") for n in range(8)] + [
        Turn(n * 6.0 + 3.4, n * 6.0 + 4, "guest") for n in range(8)
    ]
    lines, _ = attributed(lines_of(whole), Diarization(sorted(turns, key=lambda turn: turn.start)))
    assert [line.segment.text for line in lines if line.segment.speaker == "speaker_1"] == [" home"] * 8
