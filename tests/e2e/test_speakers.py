"""Who said what: by channel and by voice, on real recordings with truth, and when a diarizer fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from dalston_engine.types import Turn

from tests.e2e.conftest import SCRIPTED, Server, serving
from tests.e2e.test_transcription import assert_well_formed, recall, spoken

STEP_S = 0.05
BROKEN = {
    "pyproject.toml": """
[project]
name = "engine-hoarse"
version = "1"
dependencies = ["dalston-engine"]

[tool.dalston]
id = "hoarse"
stage = "diarize"
""",
    "engine.py": """
from dalston_engine import Audio, BadInput, Diarization, Engine, serve

class Hoarse(Engine):
    '''Knows no voice.'''

    def diarize(self, audio: Audio) -> Diarization:
        raise BadInput("These voices cannot be told apart.")

serve(Hoarse)
""",
}


def truth(path: Path) -> list[Turn]:
    """The turns of a file in the Rich Transcription Time Marked format."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return [Turn(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]


def error_rate(true: list[Turn], found: list[Turn], seconds: float) -> float:
    """Diarization error rate in steps of 50 ms, under the best of all ways to match speakers."""
    times = [(n + 0.5) * STEP_S for n in range(int(seconds / STEP_S))]
    heard = [
        [{t.speaker for t in turns if t.start <= time < t.end} for time in times] for turns in (true, found)
    ]
    names = [sorted({turn.speaker for turn in turns}) for turns in (true, found)]
    total, wrong = sum(map(len, heard[0])), len(times) * 10
    for order in itertools.permutations(
        [*names[0], *(f"none {n}" for n in range(len(names[1])))], len(names[1])
    ):
        match = dict(zip(names[1], order, strict=True))
        errors = sum(
            max(len(a), len(b)) - len(a & {match[who] for who in b}) for a, b in zip(*heard, strict=True)
        )
        wrong = min(wrong, errors)
    return wrong / total


@pytest.mark.timeout(180)
def test_every_word_is_on_the_channel_of_its_speaker(server: Server, recordings: Path) -> None:
    call = recordings / "dev_stereo_call.flac"
    job = server.transcribed(call, speaker_detection="per_channel", model="base", language="en")
    rows = [line.split(None, 5) for line in call.with_suffix(".stm").read_text().splitlines()]
    for channel in (0, 1):
        said = " ".join(row[5] for row in rows if row[1] == str(channel + 1))
        heard = "".join(word["text"] for word in job["words"] if word["channel"] == channel)
        assert recall(said, heard) > 0.9
        assert recall(heard, said) > 0.85, "words of the other channel are here"
    assert {word["speaker"] for word in job["words"]} == {"channel_0", "channel_1"}


@pytest.mark.timeout(300)
def test_voices_are_told_apart(server: Server, recordings: Path) -> None:
    talk = recordings / "dev_conv3_libri.flac"
    job = server.transcribed(talk, speaker_detection="diarize", model="base", language="en")
    stages = [stage["stage"] for stage in job["stages"]]
    assert stages == ["prepare", "transcribe", "align", "diarize", "merge"]
    assert_well_formed(job)
    turns = [Turn(**turn) for turn in job["turns"]]
    assert {turn.speaker for turn in turns} == {"speaker_0", "speaker_1", "speaker_2"}
    assert error_rate(truth(talk.with_suffix(".rttm")), turns, job["duration"]) < 0.15
    assert {word["speaker"] for word in job["words"]} == {"speaker_0", "speaker_1", "speaker_2"}
    assert job["words"][0]["speaker"] == "speaker_0"
    words = iter(job["words"])
    for segment in job["segments"]:
        text = ""
        while text.strip() != segment["text"].strip():
            word = next(words)
            text += word["text"]
            assert word["speaker"] == segment["speaker"]


@pytest.mark.timeout(180)
def test_how_many_speak_can_be_told(server: Server, recordings: Path) -> None:
    talk = recordings / "dev_conv3_libri.flac"
    for hint in ("num_speakers", "max_speakers"):
        options = {hint: "2", "speaker_detection": "diarize", "model": "tiny.en"}
        job = server.transcribed(talk, align="false", **options)
        assert len({turn["speaker"] for turn in job["turns"]}) == 2
        assert "align" not in [stage["stage"] for stage in job["stages"]]


@pytest.fixture(scope="module")
def hoarse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose diarizer fails."""
    folder = tmp_path_factory.mktemp("engines") / "hoarse"
    folder.mkdir()
    for name, text in BROKEN.items():
        (folder / name).write_text(text)
    data = tmp_path_factory.mktemp("hoarse")
    with serving(
        data, f"{SCRIPTED},faster-whisper,hoarse", DALSTON_ENGINES_PATH=str(folder.parent)
    ) as running:
        yield running


def test_words_stay_when_a_diarizer_fails(hoarse: Server, meeting: Path) -> None:
    answer = hoarse.submit(meeting, speaker_detection="diarize", model="tiny.en", wait="true")
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert "cannot be told apart" in error["message"]
    assert "stage=transcribe" in error["message"]
    job = answer.headers["location"]
    (stage,) = hoarse.client.get(job, params={"stage": "transcribe"}).json()["tasks"]
    assert len(spoken("".join(one["text"] for one in stage["result"]["segments"]))) > 20
    states = {one["stage"]: one["state"] for one in hoarse.client.get(job).json()["stages"]}
    assert states == {
        "prepare": "completed",
        "transcribe": "completed",
        "diarize": "failed",
        "merge": "skipped",
    }


def test_without_a_diarizer_speakers_are_refused_at_once(tmp_path: Path, meeting: Path) -> None:
    with serving(tmp_path / "data", f"{SCRIPTED},faster-whisper") as alone:
        answer = alone.submit(meeting, speaker_detection="diarize", model="tiny.en")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unsupported_option")
        assert "can diarize" in answer.json()["error"]["message"]
        assert "dalston up --engines" in answer.json()["error"]["message"]
        assert not alone.folders()
