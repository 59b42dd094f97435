"""Error rates, worked out by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dalston_engine.errors import DalstonError
from dalston_engine.types import Turn, Word

from dalston.evaluation.processes import Processes
from dalston.evaluation.recordings import Recording, chosen, joined, read, spoken_of, turns_of, words_of
from dalston.evaluation.report import report, speaker_rows, time_rows, word_rows
from dalston.evaluation.scores import Heard, Result, result, scores, summaries
from dalston.evaluation.speakers import Diarized, by_turns, count, diarization, turns_by_words
from dalston.evaluation.words import Rate, error_rate, offsets, permuted_error_rate

TEXT = "the cat sat on the mat"


def test_words_that_differ_are_counted() -> None:
    assert error_rate(TEXT, "the cat sit on mat", "en") == Rate(2, 6)
    assert error_rate(TEXT, "", "en") == Rate(6, 6)
    assert error_rate(TEXT, f"{TEXT} and and", "en").value == pytest.approx(2 / 6)


def test_spelling_is_no_error_where_the_normaliser_knows_it() -> None:
    assert error_rate("We're twenty-one, Mr. Quilter!", "we are 21 mister quilter", "en").errors == 0
    assert error_rate("¡Él está aquí!", "él está aquí", "es") == Rate(0, 3)
    assert error_rate("él", "el", "es") == Rate(1, 1)


def test_languages_without_spaces_are_counted_by_characters() -> None:
    assert error_rate("客観的実在。", "客観的 実材", "ja") == Rate(1, 5)


def test_speakers_are_matched_whatever_their_names() -> None:
    truth = {"A": "hello there", "B": "good morning all"}
    assert permuted_error_rate(truth, {"x": "good morning", "y": "hello there"}, "en") == Rate(1, 5)


def test_a_speaker_too_few_or_too_many_costs_all_their_words() -> None:
    truth = {"A": "hello there", "B": "good morning all"}
    assert permuted_error_rate(truth, {"x": "hello there"}, "en") == Rate(3, 5)
    assert permuted_error_rate(truth, {}, "en") == Rate(5, 5)
    more = {"x": "hello there", "y": "good morning all", "z": "well then"}
    assert permuted_error_rate(truth, more, "en") == Rate(2, 5)


def test_times_are_compared_of_words_that_are_the_same() -> None:
    truth = [Word("One", 0, 1), Word("two", 1, 2), Word("three", 2, 3)]
    heard = [Word(" one,", 0.1, 0.9), Word(" too", 0.9, 2), Word(" three.", 2.3, 3), Word(" four", 3, 4)]
    found = offsets(truth, heard)
    assert found.starts == pytest.approx([0.1, 0.3])
    assert found.ends == pytest.approx([0.1, 0.0])
    assert found.words == 3


def test_times_are_of_words_that_both_got_right_and_the_mean_is_of_both_ends() -> None:
    truth = [Word("one", 0, 1), Word("two", 1, 2), Word("three", 2, 3)]
    talk = Recording(Path("x"), "a/1", "en", "one two three", words=truth)
    ours = Heard("", [Word("one", 0.1, 1), Word("two", 1.3, 2.2), Word("tree", 2, 3)])
    bare = Heard("", [Word("won", 5, 6), Word("two", 1.5, 2.1), Word("three", 2, 3)])
    (told, *_) = summaries([both(talk, ours, bare)])
    assert told.bare is not None
    assert (told.ours.matched, told.bare.matched) == (1, 1)
    assert told.ours.boundary_offset_mean == pytest.approx(0.25)
    assert told.bare.boundary_offset_mean == pytest.approx(0.3)
    assert time_rows([told]) == [
        ["a", "en", "1", "300 (500)", "300 (500)", "200 (100)", "200 (100)", "250 (300)"]
    ]
    (alone, *_) = summaries([both(talk, ours, None)])
    assert alone.ours.matched == 2
    assert alone.ours.boundary_offset_mean == pytest.approx(0.15)
    assert alone.ours.start_offset_mean == pytest.approx(0.2)


def close(found: Diarized, total: float, missed: float, false_alarm: float, confusion: float) -> bool:
    told = (found.total, found.missed, found.false_alarm, found.confusion)
    return told == pytest.approx((total, missed, false_alarm, confusion))


def test_diarization_errors_are_seconds() -> None:
    truth = [Turn(0, 10, "A"), Turn(10, 20, "B")]
    heard = [Turn(0, 12, "x"), Turn(12, 21, "y")]
    assert close(diarization(truth, heard, 25), 20, 0, 1, 2)
    assert diarization(truth, heard, 25).value == pytest.approx(0.15)
    assert close(diarization(truth, heard, 20.5), 20, 0, 0.5, 2)  # nothing is judged after the end
    assert close(diarization(truth, [], 25), 20, 20, 0, 0)


def test_the_collar_is_on_each_side_of_the_truth() -> None:
    truth = [Turn(0, 10, "A"), Turn(10, 20, "B")]
    heard = [Turn(0, 12, "x"), Turn(12, 21, "y")]
    assert close(diarization(truth, heard, 25, 0.25), 19, 0, 0.75, 1.75)


def test_where_two_speak_at_once_each_counts() -> None:
    assert close(diarization([Turn(0, 10, "A"), Turn(5, 10, "B")], [Turn(0, 10, "x")], 10), 15, 5, 0, 0)
    assert close(diarization([Turn(0, 6, "A"), Turn(4, 10, "A")], [Turn(0, 10, "x")], 10), 10, 0, 0, 0)


def test_turns_come_of_words_and_words_go_to_turns() -> None:
    words = [Word("a", 0, 1), Word("b", 1.2, 2), Word("c", 2.1, 3), Word("d", 9, 9.5)]
    turns = [Turn(0, 2, "A"), Turn(1.9, 4, "B")]
    given = by_turns(words, turns)
    assert [word.speaker for word in given] == ["A", "A", "B", "B"]  # the last one only is nearer to B
    assert turns_by_words(given) == [Turn(0, 2, "A"), Turn(2.1, 3, "B"), Turn(9, 9.5, "B")]
    assert turns_by_words(words) == []
    assert by_turns(words, [])[0].speaker is None
    assert count(turns) == 2


def test_files_of_the_field_are_read() -> None:
    rttm = "SPEAKER talk 1 1.500 2.000 <NA> <NA> ann <NA> <NA>\nSPKR-INFO talk 1 <NA> <NA> <NA> x ann <NA>\n"
    assert turns_of(rttm) == [Turn(1.5, 3.5, "ann")]
    stm = (
        ";; a comment\ntalk 1 bob 3 4 <o,f0,male> and you\ntalk 1 ann 1 2 hello  there\ntalk 1 bob 0 1 fine\n"
    )
    assert spoken_of(stm) == {"bob": "fine and you", "ann": "hello  there"}
    words = b'[{"word":",","start":1,"end":1,"punc":true},{"word":"so","start":1,"end":2,"speaker":"ann"}]'
    assert words_of(words) == [Word("so", 1.0, 2.0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a manifest of six recordings, whose audio is not looked at."""
    (tmp_path / "a").mkdir()
    (tmp_path / "talk.rttm").write_text("SPEAKER talk 1 0 2 <NA> <NA> ann <NA> <NA>\n")
    (tmp_path / "a" / "talk.stm").write_text("talk 1 ann 0 2 hello there\n")
    rows: list[dict[str, Any]] = [
        {"audio": "a/talk.flac", "text": "hello there", "language": "en", "speakers": "talk.rttm"},
        {"audio": "a/two.wav", "labels": {"channel_text": ["left", "right"]}, "language": "en"},
        {"audio": "rain.ogg", "text": None, "labels": {"event": "rain"}},
        {"audio": "noisy_1.wav", "text": "one", "language": "en"},
        {"audio": "noisy_2.wav", "text": "two", "language": "en"},
        {"audio": "7.wav", "text": "seven", "language": "en", "constructed": True, "duration_s": 3},
    ]
    for row in rows:
        (tmp_path / row["audio"]).touch()
    (tmp_path / "MANIFEST.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_manifest_says_what_is_known(folder: Path) -> None:
    talk, two, rain, *_ = found = read(folder)
    assert [one.set for one in found] == ["a", "a", "rain", "noisy", "noisy", "7"]
    assert [one.detection for one in (talk, two, rain)] == ["diarize", "per_channel", "none"]
    assert talk.spoken == {"ann": "hello there"}
    assert two.spoken == {"channel_0": "left", "channel_1": "right"}
    assert rain.text == ""
    assert two.text is None


def test_sets_are_chosen(folder: Path) -> None:
    found = read(folder)
    assert [one.name for one in chosen(found, ["noisy", "a"], 1)] == ["a/talk.flac", "noisy_1.wav"]
    assert chosen(found, [], None) == found
    assert [one.name for one in chosen(found, [], None, ["a", "noisy"])] == ["rain.ogg", "7.wav"]
    with pytest.raises(DalstonError, match="There are: 7, a, noisy, rain"):
        chosen(found, ["none"], None)


def test_a_manifest_that_is_wrong_is_told_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(DalstonError, match=r"no MANIFEST\.jsonl"):
        read(tmp_path)
    (tmp_path / "MANIFEST.jsonl").write_text('\n{"audio": "secret name.wav"}\n')
    with pytest.raises(DalstonError, match="line 2") as told:
        read(tmp_path)
    assert "secret" not in told.value.message


def test_short_recordings_make_the_same_long_one_every_time(folder: Path) -> None:
    one, again = (joined(read(folder), 0.1, folder, lambda _: bytes(32_000)) for _ in range(2))
    assert one == again
    said = (one.text or "").replace("hello there", "hello").split()
    assert sorted(said[:3]) == ["hello", "one", "two"]  # of meetings too, but nothing constructed
    assert said == (said[:3] * len(said))[: len(said)]  # each once before one comes again
    assert 6 * 32_000 < one.path.stat().st_size < 9 * 32_000


def heard(text: str, cpu: float, turns: list[Turn] | None = None, failure: str | None = None) -> Heard:
    return Heard(text, None, turns, "en", 10.0, None, {"engine": cpu}, 1.0, failure)


def both(recording: Recording, ours: Heard, bare: Heard | None) -> Result:
    return result(recording, recording.detection, ours, bare)


def test_a_set_is_one_large_recording() -> None:
    name = Path("x")
    results = [
        both(Recording(name, "a/1", "en", "red green blue black"), heard("red green blue", 1), heard("", 2)),
        both(Recording(name, "a/2", "en", TEXT), heard(TEXT, 2), heard(TEXT, 2)),
        both(Recording(name, "a/3", "en", ""), heard("thank you", 1), heard("", 2)),
        both(Recording(name, "b/1", "ja", "客観"), heard("客", 1, failure="broken"), heard("客観", 2)),
    ]
    results.append(both(Recording(name, "joined.wav", "en", TEXT), heard("", 9), heard("", 9)))
    found = {(one.set, one.language, one.unit): one for one in summaries(results)}
    assert list(found) == [
        ("a", "en", "words"), ("b", "ja", "characters"), ("joined", "en", "words"), ("all", "en", "words"),
        ("all", "ja", "characters"), ("all", "all", "words"), ("all", "all", "characters"),
    ]  # fmt: skip
    a = found["a", "en", "words"]
    assert a.bare is not None
    assert (a.recordings, a.seconds, a.failed) == (3, 30.0, 0)
    assert (a.ours.error_rate, a.bare.error_rate) == (0.1, 0.4)
    assert (a.ours.made_up, a.bare.made_up) == (2, 0)
    assert a.cpu_ratio == pytest.approx(4 / 6)
    assert found["all", "en", "words"].ours.error_rate == 0.1  # what was joined is in no sum
    b = found["b", "ja", "characters"]
    assert (b.ours.error_rate, b.failed, b.cpu_ratio) == (0.5, 1, None)


def test_bare_figures_are_left_out_that_are_not_of_the_same_recordings() -> None:
    turns = [Turn(0, 10, "A")]
    talk = Recording(Path("x"), "a/1", "en", "one", turns)
    told = summaries([
        both(talk, heard("one", 1, turns), heard("one", 1)),
        both(talk, heard("one", 1, turns), heard("one", 1, [Turn(0, 5, "x")])),
    ])[0]  # fmt: skip
    assert told.bare is not None
    assert (told.ours.der, told.bare.der, told.bare.error_rate) == (0.0, None, 0.0)
    assert (told.ours.cpu, told.bare.cpu) == (1.0, 1.0)  # only the second did the same work
    assert speaker_rows([told]) == [["a", "en", "0.0", "0.0", "0.0", ""]]


def test_a_failure_counts_as_having_heard_nothing() -> None:
    talk = Recording(
        Path("x"), "a/1", "en", "red fox", [Turn(0, 4, "A")], [Word("red", 0, 1)], {"A": "red fox"}
    )
    found = scores(talk, Heard("", [], [], failure="bad_input"), 0.0)
    assert found.word_errors == Rate(2, 2)
    assert found.permuted == Rate(2, 2)
    assert found.diarization is not None
    assert found.diarization.value == 1
    assert found.offsets is not None
    assert found.offsets.starts == []


def test_what_was_said_is_in_the_report_on_request_alone() -> None:
    words = [Word("hush", 0, 1, speaker="ann")]
    ours = Heard("hush", words, [Turn(0, 1, "ann")], duration=1.0)
    one = both(Recording(Path("x"), "a/1", "en", "hush"), ours, ours)
    assert "hush" not in str(report([one], {}, texts=False))
    assert str(report([one], {}, texts=True)).count("hush") == 5
    (row, *_) = word_rows(summaries([one]))
    assert row == ["a", "en", "1", "", "1", "0.00 (0.00)", "", "", ""]


def test_cpu_seconds_are_told_by_engine(tmp_path: Path) -> None:
    script = tmp_path / "busy" / "engine.py"
    script.parent.mkdir()
    script.write_text(
        "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()\n"
        "while time.process_time() < 0.5: pass\nprint(flush=True)\ninput()\n"
    )
    pipe = subprocess.PIPE
    mine = Processes(os.getpid())
    with subprocess.Popen([sys.executable, str(script)], stdin=pipe, stdout=pipe, text=True) as busy:
        assert busy.stdin is not None
        assert busy.stdout is not None
        busy.stdout.readline()
        assert mine.lap()["busy"] >= 0.29
        busy.stdin.write("\n")
        busy.stdin.flush()
        busy.stdout.readline()
        assert 0.15 <= mine.lap()["busy"] < 0.3
        busy.stdin.close()
        busy.wait()
    assert mine.lap() == {}
