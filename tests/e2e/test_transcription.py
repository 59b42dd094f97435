"""Real recordings through the whole server with a real model."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Server

PUNCTUATION = re.compile(r"[^\w' ]+")


def spoken(text: str) -> list[str]:
    """Words in lower case without punctuation."""
    return PUNCTUATION.sub(" ", text).lower().split()


def recall(truth: str, heard: str) -> float:
    """The share of the true words that were heard."""
    pool, true = spoken(heard), spoken(truth)
    hits = 0
    for word in true:
        if word in pool:
            pool.remove(word)
            hits += 1
    return hits / len(true)


def assert_well_formed(job: Any) -> None:
    """What holds for every transcript."""
    duration = job["duration"]
    assert job["text"] == "".join(s["text"] for s in job["segments"]).strip()
    for items in (job["segments"], job.get("words", [])):
        starts = [item["start"] for item in items]
        assert starts == sorted(starts)
        assert all(0 <= item["start"] <= item["end"] <= duration + 1 for item in items)
    if "words" in job:
        assert "".join(w["text"] for w in job["words"]).strip() == job["text"]


def test_the_shipped_recording_is_understood(server: Server, meeting: Path) -> None:
    truth = json.loads(meeting.with_suffix(".json").read_text())
    job = server.transcribed(meeting, word_timestamps="true")
    assert_well_formed(job)
    assert recall(truth["text"], job["text"]) > 0.9
    assert (job["language"], job["model"]) == ("en", "base")
    assert job["duration"] == pytest.approx(truth["duration"], abs=0.1)
    assert 0 < job["language_probability"] <= 1


def test_stages_tell_who_did_what_and_how_long_it_took(server: Server, meeting: Path) -> None:
    job = server.transcribed(meeting, model="tiny.en")
    assert [s["stage"] for s in job["stages"]] == ["prepare", "transcribe", "merge"]
    assert {s["state"] for s in job["stages"]} == {"completed"}
    assert all(s["seconds"] > 0 and s["attempt"] == 1 for s in job["stages"])
    assert job["progress"] == 1


@pytest.mark.parametrize(("clip", "language"), [("leopard_test_de", "de"), ("leopard_test_fr", "fr")])
def test_the_language_is_detected(server: Server, recordings: Path, clip: str, language: str) -> None:
    job = server.transcribed(recordings / "clips" / f"{clip}.flac")
    assert job["language"] == language
    assert_well_formed(job)


def test_a_given_language_has_no_invented_probability(server: Server, meeting: Path) -> None:
    job = server.transcribed(meeting, language="en", model="tiny.en")
    assert job["language"] == "en"
    assert "language_probability" not in job


def test_silence_has_no_words(server: Server, recordings: Path) -> None:
    for model in ("base", "tiny.en"):
        job = server.transcribed(recordings / "formats" / "edge_silence_10s.flac", model=model)
        assert job["text"] == ""


def formats() -> list[str]:
    from tests.e2e.conftest import DATA

    return sorted(path.name for path in (DATA / "formats").glob("*.*"))


@pytest.mark.parametrize("name", formats())
def test_every_common_format_is_decoded(server: Server, recordings: Path, name: str) -> None:
    job = server.transcribed(recordings / "formats" / name, model="fake", text="one two")
    assert job["duration"] > 0
    assert job["text"] == "one two"


BARE = """
import json, sys
from faster_whisper import WhisperModel
from faster_whisper.audio import decode_audio
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8")
for path in sys.argv[2:]:
    segments, _ = model.transcribe(decode_audio(path), beam_size=5, temperature=0)
    print(json.dumps("".join(s.text for s in segments).strip()), flush=True)
"""


@pytest.mark.timeout(600)
def test_no_fewer_words_are_right_than_with_the_bare_library(
    server: Server, recordings: Path, tmp_path: Path
) -> None:
    """And decoded as the library does it (`vad=false`), the text is the library's."""
    # At temperature 0: above it Whisper draws at random, and the bare library differs from itself.
    manifest = [json.loads(line) for line in (recordings / "MANIFEST.jsonl").read_text().splitlines()]
    clips = [m for m in manifest if m["language"] == "en" and m["text"] and m["duration_s"] < 40]
    clips = clips if os.environ.get("DALSTON_ALL_CLIPS") else clips[::4]
    names, truth = [clip["audio"] for clip in clips], " ".join(clip["text"] for clip in clips)
    prepare, whisper = ROOT / "engines" / "prepare", ROOT / "engines" / "faster-whisper"
    wavs = []
    for n, name in enumerate(names):
        folder = tmp_path / str(n)
        folder.mkdir()
        command = [prepare / ".venv/bin/python", prepare / "engine.py", recordings / name]
        subprocess.run([*command, "--folder", folder], check=True, capture_output=True)
        wavs.append(folder / "audio.wav")
    weights = whisper / ".venv/weights/tiny.en"
    bare = subprocess.run(
        [whisper / ".venv/bin/python", "-c", BARE, weights, *wavs],
        check=True, capture_output=True, text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    plain: dict[str, str] = {"model": "tiny.en", "word_timestamps": "false", "temperature": "0"}
    theirs, ours = [json.loads(line) for line in bare.stdout.splitlines()], []
    for name, wav, text in zip(names, wavs, theirs, strict=True):
        assert server.transcribed(wav, **plain, vad="false")["text"] == text, name
        ours.append(server.transcribed(wav, **plain)["text"])
    assert recall(truth, " ".join(ours)) >= recall(truth, " ".join(theirs)) - 0.01
    assert recall(" ".join(ours), truth) >= recall(" ".join(theirs), truth) - 0.01
