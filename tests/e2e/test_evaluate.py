"""`dalston eval` over a small folder, with a server that says what it is told."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import pytest

from tests import tones
from tests.e2e.conftest import Server
from tests.e2e.test_cli import dalston

SECONDS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three seconds of silence, and what the scripted engine says of anything as the truth."""
    with wave.open(str(tmp_path / "talk.wav"), "wb") as wav:
        wav.setparams((1, 2, 16_000, 0, "NONE", ""))
        wav.writeframes(bytes(SECONDS * 32_000))
    (tmp_path / "talk.rttm").write_text(f"SPEAKER talk 1 0 {SECONDS} <NA> <NA> ann <NA> <NA>\n")
    (tmp_path / "talk.stm").write_text(f"talk 1 ann 0 {SECONDS} A scripted answer.\n")
    words = [{"word": word, "start": n, "end": n + 1} for n, word in enumerate(["A", "scripted", "answer"])]
    (tmp_path / "talk.json").write_text(json.dumps(words))
    return tmp_path


def manifest(folder: Path, **row: Any) -> None:
    (folder / "MANIFEST.jsonl").write_text(json.dumps({"audio": "talk.wav", "language": "en"} | row))


def test_a_folder_is_evaluated_and_nothing_stays(server: Server, folder: Path) -> None:
    manifest(folder, text="A scripted question", speakers="talk.rttm", words="talk.json")
    before, report = server.folders(), folder / "report.json"
    done = dalston("eval", folder, "--data", server.data, "--model", "fake", "--json", report)
    assert done.returncode == 0, done.stderr
    shown = [line.split() for line in done.stdout.splitlines()]
    assert shown[1][:5] == ["talk", "en", "1", "3", "33.33"]
    assert ["talk", "en", "3", "0", "0", "0", "0", "0"] in shown  # its words' times
    found = json.loads(report.read_bytes())
    (talk,) = found["recordings"]
    assert talk["detection"] == "diarize"
    assert talk["scores"]["word_errors"] == {"errors": 1, "length": 3}
    assert talk["scores"]["permuted"] == {"errors": 0, "length": 3}
    assert talk["scores"]["diarization"]["total"] == SECONDS
    assert talk["scores"]["speakers"] == 1
    assert talk["ours"]["cpu"]["gateway"] > 0
    assert "answer" not in report.read_text()
    assert found["summaries"][0]["ours"]["der"] == 0
    assert server.folders() == before


def test_the_bare_library_hears_the_same(server: Server, folder: Path) -> None:
    manifest(folder, text="")
    report = folder / "report.json"
    done = dalston(
        "eval", folder, "--data", server.data, "--model", "fake", "--bare", "--texts", "--json", report
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_bytes())
    (talk,) = found["recordings"]
    assert talk["ours"]["text"] == "a scripted answer"
    assert talk["scores"]["made_up"] == 3
    assert talk["bare"]["duration"] == SECONDS
    assert talk["bare"]["cpu"]["faster-whisper"] > 0
    assert "failure" not in talk["bare"]
    assert found["settings"]["bare_libraries"]["vad_filter"] is False


def test_a_server_that_tells_no_speakers_is_asked_for_the_words(folder: Path) -> None:
    manifest(folder, text="A scripted answer", speakers="talk.rttm")
    own = ["--engines", "prepare,faster-whisper,final-merger", "--model", "tiny.en", "-o", "beam_size=1"]
    done = dalston("eval", folder, "--data", folder / "data", *own)
    assert done.returncode == 0, done.stderr
    assert "No running engine tells speakers apart" in done.stderr
    assert done.stdout.splitlines()[1].split()[:5] == ["talk", "en", "1", "3", "100.00"]


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    done = dalston("eval", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "has no MANIFEST.jsonl" in done.stderr


def test_sessions_are_held_beside_files(server: Server, tmp_path: Path) -> None:
    said = tones.said([12, 34], [56])
    with wave.open(str(tmp_path / "talk.wav"), "wb") as wav:
        wav.setparams((1, 2, tones.RATE, 0, "NONE", ""))
        wav.writeframes(said)
    manifest(tmp_path, text="12 34 56")
    run: list[str | Path] = ["eval", tmp_path, "--live", "--model", "fake", "--data", server.data, "--texts"]
    report = tmp_path / "report.json"
    done = dalston(*run, "-o", "text=12 34", "--json", report)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_bytes())
    (talk,) = found["recordings"]
    assert talk["live"]["text"] == "12 34 56"
    assert talk["live"]["duration"] == pytest.approx(len(said) / 32_000, abs=0.001)
    assert (talk["live_last"], talk["batch_last"]) == (True, False)
    assert found["summaries"][-1]["live_error_rate"] == 0
    assert "talk" in done.stdout
    refused = dalston(*run, "--bare")
    assert refused.returncode == 2
