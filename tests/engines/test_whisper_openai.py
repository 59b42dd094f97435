"""The engine whisper-openai: real speech, silence, and what it refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.engines import alone

pytestmark = pytest.mark.timeout(300)
SECONDS = 11.0


@pytest.mark.parametrize("model", ["base", "tiny.en"])
def test_hears_what_was_said(model: str, tmp_path: Path) -> None:
    audio, known = alone.recording("clips/jfk.flac", tmp_path)
    heard = alone.run("whisper-openai", audio, model=model)
    alone.plausible(heard, SECONDS)
    assert all("probability" in word for word in heard["words"])
    truth, found = Counter(alone.bare(known["text"])), Counter(alone.bare(alone.said(heard)))
    assert (truth & found).total() / truth.total() >= 0.8
    assert (heard["model"], heard["language"]) == (model, "en")
    assert heard.get("language_probability", 1) > 0.9
    assert {"avg_logprob", "compression_ratio", "no_speech_prob", "temperature", "tokens", "seek"} <= set(
        heard["segments"][0]
    )


def test_leaves_out_word_times_on_request(tmp_path: Path) -> None:
    audio, _ = alone.recording("clips/jfk.flac", tmp_path)
    heard = alone.run("whisper-openai", audio, word_timestamps=False, language="en", beam_size=2)
    assert "words" not in heard
    assert alone.said(heard)
    assert "language_probability" not in heard


def test_says_nothing_of_silence(tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(5 * 32_000))
    heard = alone.run("whisper-openai", audio)
    assert (heard["segments"], heard["words"]) == ([], [])


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("base", {"language": "tlh"}),
        ("tiny.en", {"language": "de"}),
        ("tiny.en", {"task": "translate"}),
        ("small", {}),
    ],
)
def test_refuses(model: str, options: dict[str, Any], tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(32_000))
    with pytest.raises(RuntimeError, match=r"does not know|knows English alone|DALSTON_OFFLINE"):
        alone.run("whisper-openai", audio, model=model, **options)
