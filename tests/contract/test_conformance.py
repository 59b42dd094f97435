"""The project's engines, and new ones, pass the checks for engines; those that break a rule do not."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path
from typing import Any

import pytest

from dalston.conformance.suite import conforms
from dalston.local import environments, new
from dalston.local.environments import EngineFolder

ROOT = Path(__file__).parents[2]
CHECKS = [
    "manifest", "environment", "alone", "live", "card", "recording", "segments", "channels", "silence",
    "no sample", "damage", "options", "free text", "life", "SIGTERM", "cancel", "kill -9", "log", "traces",
]  # fmt: skip
MANIFEST = """
[project]
name = "engine-broken"
version = "1"
dependencies = ["dalston-engine"]

[tool.dalston]
id = "broken"
stage = "transcribe"
"""
CARELESS = """
import logging, tempfile
from pathlib import Path
from dalston_engine import Audio, Engine, Segment, Transcript, serve

class Careless(Engine):
    '''Divides by nothing, swallows what progress raises, writes down what it hears, leaves files.'''

    def transcribe(self, audio: Audio, prompt: str = "") -> Transcript:
        loudest = 1 / max(audio.pcm() or b"\\0")
        try:
            self.progress(0.5)
        except Exception:
            pass
        logging.getLogger("dalston.engine").info("heard: one two three four; %s", prompt)
        Path(tempfile.mkstemp()[1]).write_text("left")
        return Transcript(segments=[Segment(0.0, audio.duration, " one two three four")])

serve(Careless)
"""
DYING = """
import os, signal, sys, time
from dalston_engine import Audio, Engine, Segment, Transcript, serve

class Dying(Engine):
    '''Cannot bear silence, nor to be asked to stop, nor to let other threads run.'''

    def transcribe(self, audio: Audio) -> Transcript:
        if not any(audio.pcm()):
            os._exit(3)
        if len(sys.argv) > 1:
            sys.setswitchinterval(60)
            end = time.monotonic() + 5.5
            while time.monotonic() < end:
                pass
        signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
        return Transcript(segments=[Segment(3.0, 2.0, " late")])

serve(Dying)
"""
WRONG = """
from dalston_engine import Audio, Engine, serve

class Wrong(Engine):
    '''Returns what is no transcript.'''

    def transcribe(self, audio: Audio, table: dict[str, int] = {}) -> str:
        return "text"

serve(Wrong)
"""


def checked(engine: EngineFolder, recording: Path | None = None, **params: Any) -> dict[str, str]:
    """Each check's name, and what was said of it with its mark."""
    said: list[str] = []
    fine = conforms(engine, params, said.append, said.append, recording)
    assert fine is not any(line.startswith("✗") for line in said)
    lines = [line for line in said if line[0] in "✓✗"]
    return {line[2:].split(":", 1)[0]: line for line in lines}


def failures(lines: dict[str, str]) -> dict[str, str]:
    """Those that failed."""
    return {name: line for name, line in lines.items() if line.startswith("✗")}


def broken(folder: Path, code: str) -> EngineFolder:
    (folder / "pyproject.toml").write_text(MANIFEST)
    (folder / "engine.py").write_text(code)
    return EngineFolder(folder)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first seconds of the shipped recording, prepared."""
    folder, found = tmp_path_factory.mktemp("speech"), environments.find("prepare", "")
    found.install(print)
    command = [*found.command, "--folder", str(folder), str(ROOT / "samples" / "meeting.flac")]
    subprocess.run(command, check=True, capture_output=True)
    with wave.open(str(folder / "audio.wav")) as whole, wave.open(str(folder / "short.wav"), "wb") as short:
        short.setparams(whole.getparams())
        short.writeframes(whole.readframes(6 * 16_000))
    return folder / "short.wav"


ENGINES: dict[str, dict[str, Any]] = {
    "prepare": {}, "final-merger": {}, "fake": {"seconds": 0.1}, "phone-align": {}}  # fmt: skip
WITH_SPEECH = {"faster-whisper": {"model": "tiny.en"}, "pyannote-onnx": {}}
LARGE = {"moonshine": {}, "pyannote-3.1": {"model": "offline"}, "whisper-openai": {"model": "tiny.en"}}
"""Optional engines with weights in packages."""
WITHOUT_WEIGHTS = {"parakeet", "pyannote-4.0", "wav2vec-align", "whisperx-align", "whisperx-full"}
"""Optional engines whose weights are fetched: `tests/engines` tests them, with checkpoints made there."""


def test_no_engine_of_the_project_is_left_out() -> None:
    known = {*ENGINES, *WITH_SPEECH, *LARGE, *WITHOUT_WEIGHTS}
    assert {engine.manifest.id for engine in environments.everywhere("")} == known
    optional = {one.manifest.id for one in environments.everywhere("") if one.manifest.optional}
    assert optional == {*LARGE, *WITHOUT_WEIGHTS}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("id", "params"), ENGINES.items())
def test_the_engines_of_the_project_conform(id: str, params: dict[str, Any]) -> None:
    engine = environments.find(id, "")
    lines = checked(engine, **params)
    assert list(lines) == checks_of(engine.manifest.stage, engine.manifest.listens)
    assert not failures(lines)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("id", "params"), WITH_SPEECH.items())
def test_an_engine_with_a_real_model_conforms(id: str, params: dict[str, Any], speech: Path) -> None:
    lines = checked(environments.find(id, ""), speech, **params)
    assert not failures(lines)
    assert "went back to its queue" in lines["cancel"]
    assert not {"words: 0", "turns: 0"} & set(lines["recording"].split(", "))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("id", "params"), LARGE.items())
def test_a_large_engine_conforms_where_it_is_installed(id: str, params: dict[str, Any], speech: Path) -> None:
    engine = environments.find(id, "")
    if not engine.installed:
        pytest.skip(f"{id} is not installed; `make engines` does it")
    assert not failures(checked(engine, speech, **params))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("stage", new.stages())
def test_a_new_engine_conforms_as_it_stands(tmp_path: Path, stage: str) -> None:
    new.make("my-own", stage, tmp_path / "my-own")
    lines = checked(environments.at(str(tmp_path / "my-own"), ""))
    assert list(lines) == checks_of(stage, stage == "listen")
    assert not failures(lines)


def checks_of(stage: str, listens: bool) -> list[str]:
    """Those that an engine of a stage is given."""
    others = {"segments": "transcribe", "channels": "prepare"}
    live = {"manifest", "environment", "alone", "live", "card", "SIGTERM", "log", "traces"}
    found = [name for name in CHECKS if others.get(name, stage) == stage and (listens or name != "live")]
    return [name for name in found if stage != "listen" or name in live]


@pytest.mark.timeout(180)
def test_a_careless_engine_is_told_all_that_is_wrong(tmp_path: Path) -> None:
    found = failures(checked(broken(tmp_path, CARELESS)))
    assert found.keys() == {"silence", "no sample", "cancel", "log", "traces"}
    assert "ZeroDivisionError. It would be tried again: raise BadInput" in found["silence"]
    assert "let `Interrupted` through" in found["cancel"]
    assert "temporary files" in found["traces"]


@pytest.mark.timeout(180)
def test_an_engine_that_dies_and_pauses_does_not_conform(tmp_path: Path) -> None:
    found = failures(checked(broken(tmp_path, DYING)))
    assert found.keys() == {"alone", "recording"}
    assert "its other threads could not run for" in found["alone"]
    code = DYING.replace("if len(sys.argv) > 1", "if False")
    found = failures(checked(broken(tmp_path, code)))
    assert "from 3.00 to 2.00 s" in found["recording"]
    found = failures(checked(broken(tmp_path, code.replace("3.0, 2.0", "0.0, 2.0"))))
    assert "the process ended with 3" in found["silence"]


@pytest.mark.timeout(120)
def test_an_engine_that_ends_badly_when_asked_to_stop_does_not_conform(tmp_path: Path) -> None:
    code = DYING.replace("if len(sys.argv) > 1", "if False").replace("os._exit(3)", "pass")
    found = failures(checked(broken(tmp_path, code.replace("3.0, 2.0", "0.0, audio.duration"))))
    assert found.keys() == {"SIGTERM"}
    assert "ended with 9" in found["SIGTERM"]


@pytest.mark.timeout(120)
def test_what_is_no_transcript_and_no_option_is_found(tmp_path: Path) -> None:
    found = failures(checked(broken(tmp_path, WRONG)))
    assert "returned no Transcript" in found["alone"]
    code = WRONG.replace("import Audio,", "import Audio, Transcript,")
    found = failures(checked(broken(tmp_path, code.replace('"text"', "Transcript(segments=[])"))))
    assert "cannot check the type of: table" in found["card"]
