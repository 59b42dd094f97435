"""The engine whisperx-full: real Whisper and VAD weights, and tiny models for letters and voices.

Those two cannot be had without the hub, so the test makes checkpoints of the form that the real ones have,
with random weights: words get times in order and everybody gets a name, but neither means anything. The
part that finds out when somebody speaks is the real one that WhisperX brings along.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dalston.local import environments
from tests.engines import alone

pytestmark = pytest.mark.timeout(300)
SECONDS = 11.0
CHECKPOINTS = """
import json, sys
from pathlib import Path
import libraries
libraries.prepare()
import numpy as np, torch, transformers, whisperx
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34

torch.manual_seed(1)
letters = Path(sys.argv[1]) / "facebook" / "wav2vec2-base-960h"
letters.mkdir(parents=True)
vocabulary = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
(letters / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(vocabulary)}))
tokenizer = transformers.Wav2Vec2CTCTokenizer(letters / "vocab.json")
transformers.Wav2Vec2Processor(transformers.Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(letters)
size = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
network = transformers.Wav2Vec2Config(vocab_size=len(vocabulary), conv_dim=(16,) * 7, **size,
                                      num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)
transformers.Wav2Vec2ForCTC(network).save_pretrained(letters)

voices = Path(sys.argv[1]) / "pyannote" / "speaker-diarization-community-1"
for part in ("segmentation", "embedding", "plda"):
    (voices / part).mkdir(parents=True)
speech = Path(whisperx.__file__).parent / "assets" / "pytorch_model.bin"
(voices / "segmentation" / "pytorch_model.bin").symlink_to(speech)
voice = WeSpeakerResNet34()
form = {"module": type(voice).__module__, "class": type(voice).__name__}
about = Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0)
torch.save({
    "pyannote.audio": {"versions": {"torch": "2.8.0", "pyannote.audio": "4.0.0"}, "architecture": form,
                       "specifications": about},
    "pytorch-lightning_version": "2.6.0",
    "state_dict": voice.state_dict(),
    "hyper_parameters": dict(voice.hparams),
}, voices / "embedding" / "pytorch_model.bin")
np.savez(voices / "plda" / "xvec_transform.npz", mean1=np.zeros(256), mean2=np.zeros(128),
         lda=np.eye(256, 128))
np.savez(voices / "plda" / "plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=np.linspace(2, 1, 128))
(voices / "config.yaml").write_text(json.dumps({
    "pipeline": {"name": "pyannote.audio.pipelines.SpeakerDiarization", "params": {
        "segmentation": "$model/segmentation", "embedding": "$model/embedding", "plda": "$model/plda",
        "clustering": "AgglomerativeClustering", "embedding_exclude_overlap": True}},
    "params": {"segmentation": {"min_duration_off": 0.0, "threshold": 0.5},
               "clustering": {"method": "centroid", "min_cluster_size": 2, "threshold": 0.7}},
}))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model cache with both tiny checkpoints."""
    engine, cache = environments.find("whisperx-full", ""), tmp_path_factory.mktemp("models")
    if not engine.installed:
        pytest.skip("the environment of whisperx-full is not built")
    python = engine.environment / "bin" / "python"
    made = subprocess.run(
        [str(python), "-c", CHECKPOINTS, str(cache)],
        cwd=engine.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not made.returncode, made.stderr
    return cache


def test_gives_times_and_speakers_to_what_was_said(models: Path, tmp_path: Path) -> None:
    audio, known = alone.recording("clips/jfk.flac", tmp_path)
    heard: Any = alone.run("whisperx-full", audio, models=models, diarize=True, num_speakers=2)
    truth, found = Counter(alone.bare(known["text"])), Counter(alone.bare(alone.said(heard)))
    assert (truth & found).total() / truth.total() >= 0.8
    assert (heard["language"], heard["model"]) == ("en", "base")
    alone.plausible(heard, SECONDS)
    names = [segment["speaker"] for segment in heard["segments"]]
    assert names[0] == "speaker_0"
    assert set(names) <= {"speaker_0", "speaker_1"}
    assert {word.get("speaker") for word in heard["words"]} <= {"speaker_0", "speaker_1", None}


def test_needs_neither_for_segments_alone(tmp_path: Path) -> None:
    audio, _ = alone.recording("clips/jfk.flac", tmp_path)
    heard: Any = alone.run("whisperx-full", audio, model="tiny.en", word_timestamps=False)
    assert alone.said(heard)
    assert "words" not in heard
    assert "speaker" not in heard["segments"][0]


def test_says_nothing_of_silence(tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(5 * 32_000))
    heard: Any = alone.run("whisperx-full", audio)
    assert (heard["segments"], heard["words"]) == ([], [])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "Times of words need the model facebook/wav2vec2-base-960h"),
        ({"diarize": True, "word_timestamps": False}, "Times of words need the model"),
        ({"num_speakers": 2}, "with diarize=true alone"),
        ({"language": "tlh"}, "does not know the language"),
    ],
)
def test_refuses_what_cannot_be_had(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    audio, _ = alone.recording("clips/jfk.flac", tmp_path)
    with pytest.raises(RuntimeError, match=reason):
        alone.run("whisperx-full", audio, model="tiny.en", **options)


def test_refuses_to_tell_speakers_apart_without_the_pipeline(models: Path, tmp_path: Path) -> None:
    audio, _ = alone.recording("clips/jfk.flac", tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "facebook").symlink_to(models / "facebook")
    with pytest.raises(RuntimeError, match="needs the pipeline pyannote/speaker-diarization-community-1"):
        alone.run("whisperx-full", audio, model="tiny.en", models=tmp_path / "models", diarize=True)
