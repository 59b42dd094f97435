"""The engines that give words their times: on recordings whose words' times are known, and on computed tones.

For wav2vec 2.0 no checkpoint is at hand, so a small one is trained here to hear tones as letters; what it
takes from the true ones is their form, and that its labels come in single frames.
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from dalston.local import environments
from tests.engines import alone, tones

pytestmark = pytest.mark.timeout(300)
Spoken = tuple[str, float, float]
"""A word and when it begins and ends, in seconds."""


def known_words(name: str) -> list[Spoken]:
    """The words of a recording with their true times, by their start."""
    words = json.loads((alone.DATA / name).read_bytes())
    said = [(w["word"], w["start"], w["end"]) for w in words if not w.get("punc") and w["end"] > w["start"]]
    return sorted(said, key=lambda word: word[1:])


def transcript(path: Path, segments: list[dict[str, Any]], **fields: Any) -> Path:
    path.write_text(json.dumps({"segments": segments, "language": "en"} | fields))
    return path


def sensible(aligned: Any, seconds: float) -> None:
    """Each word lies in order inside its segment, and joined they are its text."""
    words = iter(aligned["words"])
    for segment in aligned["segments"]:
        own = list[Any]()
        while sum(len(word["text"]) for word in own) < len(segment["text"]):
            own.append(next(words))
        assert "".join(word["text"] for word in own) == segment["text"]
        assert all(segment["start"] <= word["start"] <= word["end"] <= segment["end"] for word in own)
        assert all(a["start"] <= b["start"] and a["end"] <= b["end"] for a, b in pairwise(own))
        assert 0 <= segment["start"] <= segment["end"] <= seconds + alone.BLUR_S
    assert next(words, None) is None


def mean_error(words: list[Any], truth: list[Spoken]) -> float:
    """Seconds by which starts and ends are off on average; both are the same words."""
    pairs = list(zip(words, truth, strict=True))
    return fmean(abs(w["start"] - start) + abs(w["end"] - end) for w, (_, start, end) in pairs) / 2


@pytest.mark.parametrize("name", ["mary", "bobby"])
def test_words_of_one_speaker_are_exact(name: str, tmp_path: Path) -> None:
    audio, entry = alone.recording(f"words/{name}.wav", tmp_path)
    truth = known_words(entry["words"])
    text = "".join(f" {word}" for word, _, _ in truth)
    whole = {"start": 0.0, "end": entry["duration_s"], "text": text}
    aligned = alone.run("phone-align", audio, transcript(tmp_path / "in.json", [whole]))
    sensible(aligned, entry["duration_s"])
    assert mean_error(aligned["words"], truth) < 0.04
    assert "warnings" not in aligned


def test_times_of_a_meeting_become_better(tmp_path: Path) -> None:
    audio, entry = alone.recording("ami/trn03.flac", tmp_path)
    mine = [word for word in known_words(entry["words"]) if word[1] >= 1.2]  # before that two people talk
    blurred, chance = list[dict[str, Any]](), random.Random(2)
    for word, start, end in mine:
        begin = max(start + chance.uniform(-0.3, 0.3), 0.0)
        blurred.append({"text": f" {word}", "start": begin, "end": begin + end - start, "probability": 0.5})
    segment = {"start": mine[0][1], "end": mine[-1][2], "text": "".join(word["text"] for word in blurred)}
    given = transcript(tmp_path / "in.json", [segment], words=blurred)
    aligned = alone.run("phone-align", audio, given)
    sensible(aligned, 30.0)
    assert {word["probability"] for word in aligned["words"]} == {0.5}
    assert mean_error(blurred, mine) > 0.14
    assert mean_error(aligned["words"], mine) < 0.08


def test_numbers_signs_and_foreign_words_get_times(tmp_path: Path) -> None:
    audio, entry = alone.recording("words/mary.wav", tmp_path)
    text = " Mary — 12% of €3.50, N.A.S.A. 日本 ♪ 1984 rolled"
    aligned = alone.run("phone-align", audio, transcript(tmp_path / "in.json", [
        {"start": 0.1, "end": 1.8, "text": text}
    ]))  # fmt: skip
    sensible(aligned, entry["duration_s"])
    assert len(aligned["words"]) == len(text.split())


def test_what_is_not_said_keeps_its_times(tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(16_000 * 2 * 4))
    words = [{"text": " Hello", "start": 1.0, "end": 1.5}, {"text": " world.", "start": 1.5, "end": 2.0}]
    whole = {"start": 1.0, "end": 2.0, "text": " Hello world."}
    aligned = alone.run("phone-align", audio, transcript(tmp_path / "in.json", [whole], words=words))
    assert (aligned["words"], aligned["segments"]) == (words, [whole])
    assert "1 of 1 segments" in aligned["warnings"][0]


@pytest.mark.parametrize("language", ["fr", None])
def test_other_languages_stay_as_they_are(language: str | None, tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(16_000 * 2))
    whole = {"start": 0.1, "end": 0.9, "text": " Bonjour."}
    aligned = alone.run("phone-align", audio, transcript(tmp_path / "in.json", [whole], language=language))
    assert aligned["segments"] == [whole]
    assert "words" not in aligned
    assert "not aligned" in aligned["warnings"][0]


def test_nothing_said_is_nothing_to_align(tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(16_000 * 2))
    aligned = alone.run("phone-align", audio, transcript(tmp_path / "in.json", [], words=[]))
    assert aligned == {"segments": [], "words": [], "language": "en"}


def test_korean_is_found(tmp_path: Path) -> None:
    audio, entry = alone.recording("clips/leopard_test_ko.flac", tmp_path)
    whole = {"start": 0.0, "end": entry["duration_s"], "text": f" {entry['text']}"}
    given = transcript(tmp_path / "in.json", [whole], language="ko")
    aligned = alone.run("phone-align", audio, given)
    sensible(aligned, entry["duration_s"])
    assert "warnings" not in aligned
    assert aligned["words"][0]["start"] > 0.4  # what comes before is silent


def test_words_are_spelled_as_they_are_said() -> None:
    engine = environments.find("phone-align", "")
    if not engine.installed:
        pytest.skip("the environment of phone-align is not built")
    said = {
        "12%,": "twelve percent", "$3.50": "three point five dollars", "1984": "nineteen eighty four",
        "3rd": "third", "1,000": "one thousand", "007": "zero zero seven", "I'm": "i'm", "I": "eye",
        "BBC": "bee bee see", "N_E_Z_": "en ee zee", "—": "", "well-known": "well known",
        "don\u2019t": "don't",
    }  # fmt: skip
    code = (
        "import json, sys; from spelling import said; "
        "print(json.dumps([' '.join(said(word, 'en')) for word in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [engine.command[0], "-c", code],
        cwd=engine.folder, input=json.dumps(list(said)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert dict(zip(said, json.loads(done.stdout), strict=True)) == said


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of models in which `tones` is one; the older library makes what both can read."""
    makers = [environments.find(name, "") for name in ("whisperx-align", "wav2vec-align")]
    python = next((maker.command[0] for maker in makers if maker.installed), None)
    if python is None:
        pytest.skip("no environment with wav2vec 2.0 is built")
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([python, tones.__file__, str(folder / "tones")], check=True, capture_output=True)
    return folder


def played(path: Path, words: str) -> tuple[Path, list[Spoken], float]:
    """A recording of the words as tones, when each was played, and how long all of it is."""
    samples, chance, truth = [0.0] * 8000, random.Random(5), list[Spoken]()
    for word in words.split():
        start = len(samples) / tones.RATE
        for letter in filter(str.isalnum, word.upper()):
            samples += tones.tone(letter if letter in tones.LETTERS else "A", 0.12)
        truth.append((word, start, len(samples) / tones.RATE))
        samples += [0.0] * chance.choice([1600, 3200, 4800])
    samples += [0.0] * 4800
    loud = [int(32767 * (sample + chance.gauss(0, 0.002))) for sample in samples]
    return alone.wav(path, struct.pack(f"<{len(loud)}h", *loud)), truth, len(samples) / tones.RATE


@pytest.mark.parametrize("engine", ["wav2vec-align", "whisperx-align"])
def test_tones_are_found_where_they_were_played(engine: str, models: Path, tmp_path: Path) -> None:
    audio, truth, seconds = played(tmp_path / "tones.wav", "Cab, fade! H bed 9 dab 'Fed' — gEh. bad cafe beg")
    text = "".join(f" {word}" for word, _, _ in truth)
    whole = {"start": 0.1, "end": seconds, "text": text}
    given = transcript(tmp_path / "in.json", [whole])
    aligned = alone.run(engine, audio, given, model="tones", models=models)
    sensible(aligned, seconds)
    assert "warnings" not in aligned
    heard = [
        pair for pair in zip(aligned["words"], truth, strict=True) if pair[1][0] not in {"9", "—", "beg"}
    ]
    assert mean_error([word for word, _ in heard], [word for _, word in heard]) < 0.04


@pytest.mark.parametrize("engine", ["wav2vec-align", "whisperx-align"])
def test_a_model_must_be_at_hand(engine: str, tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(16_000 * 2))
    whole = {"start": 0.1, "end": 0.9, "text": " hello"}
    with pytest.raises(RuntimeError, match="facebook/wav2vec2-base-960h is not on this machine"):
        alone.run(engine, audio, transcript(tmp_path / "in.json", [whole]))
    klingon = transcript(tmp_path / "other.json", [whole], language="tlh")
    assert "not aligned" in alone.run(engine, audio, klingon)["warnings"][0]
