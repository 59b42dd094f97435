"""The engine parakeet, on a tiny checkpoint of the form that its real ones have.

The networks are set up by hand, so what they say can be told in advance: wherever a sound sets in,
the next token of the vocabulary comes, and it keeps the decoder busy for four steps of 80 ms. A file
of ONNX is written here byte by byte, since the project has no other use for a library that does.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.engines import alone

pytestmark = pytest.mark.timeout(120)
RATE = 16_000
TOKENS = ["▁Al", "pha", "▁be", "ta.", "▁Gam", "ma", "▁del", "ta", "<blk>"]
BLANK = len(TOKENS) - 1
DURATIONS = 5
FLOAT, INT32, INT64 = 1, 6, 7
Shape = list[int | str]


def number(field: int, value: int) -> bytes:
    """A whole number of protobuf."""
    encoded, value = bytearray(_varint(field << 3)), value & (2**64 - 1)
    return bytes(encoded + _varint(value))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def message(field: int, *content: bytes | str) -> bytes:
    """A message or a text of protobuf."""
    whole = b"".join(part.encode() if isinstance(part, str) else part for part in content)
    return _varint(field << 3 | 2) + _varint(len(whole)) + whole


def constant(name: str, kind: int, dims: list[int], values: Iterable[float]) -> bytes:
    packed = b"".join(struct.pack("<f" if kind == FLOAT else "<q", value) for value in values)
    return message(
        5, *[number(1, dim) for dim in dims], number(2, kind), message(8, name), message(9, packed)
    )


def node(operation: str, inputs: str, outputs: str, **attributes: int | list[int]) -> bytes:
    given = [message(1, name) for name in inputs.split()] + [message(2, name) for name in outputs.split()]
    for name, value in attributes.items():
        whole = number(3, value) if isinstance(value, int) else b"".join(number(8, one) for one in value)
        given.append(message(5, message(1, name), whole, number(20, 2 if isinstance(value, int) else 7)))
    return message(1, *given, message(4, operation))


def value(field: int, name: str, kind: int, shape: Shape) -> bytes:
    dims = [message(1, message(2, dim) if isinstance(dim, str) else number(1, dim)) for dim in shape]
    return message(field, message(1, name), message(2, message(1, number(1, kind), message(2, *dims))))


def model(*graph: bytes) -> bytes:
    return number(1, 8) + message(7, message(2, "tiny"), *graph) + message(8, number(2, 17))


def encoder() -> bytes:
    """How much louder each step is than the one before; as always, 8 frames are a step."""
    return model(
        value(11, "audio_signal", FLOAT, ["batch", 128, "frames"]),
        value(11, "length", INT64, ["batch"]),
        constant("difference", FLOAT, [1, 1, 2], [-1.0, 1.0]),
        constant("one", INT64, [], [1]),
        constant("eight", INT64, [], [8]),
        node("ReduceMean", "audio_signal", "loudness", axes=[1], keepdims=1),
        node("AveragePool", "loudness", "steps", kernel_shape=[8], strides=[8], ceil_mode=1),
        node("Conv", "steps difference", "outputs", pads=[1, 0]),
        node("Sub", "length one", "before"),
        node("Div", "before eight", "whole"),
        node("Add", "whole one", "encoded_lengths"),
        value(12, "outputs", FLOAT, ["batch", 1, "steps"]),
        value(12, "encoded_lengths", INT64, ["batch"]),
    )


def decoder_joint() -> bytes:
    """The token after the last one where it gets louder, and the blank elsewhere."""
    states: list[Shape] = [[2, 1, 4]] * 2
    return model(
        value(11, "encoder_outputs", FLOAT, [1, 1, 1]),
        value(11, "targets", INT32, [1, 1]),
        value(11, "target_length", INT32, [1]),
        *[value(11, f"input_states_{n}", FLOAT, shape) for n, shape in enumerate(states, 1)],
        constant("enough", FLOAT, [], [1.0]),
        constant("one", INT64, [], [1]),
        constant("blank", INT64, [], [BLANK]),
        constant("tokens", INT64, [], [BLANK + 1]),
        constant("durations", INT64, [], [DURATIONS]),
        constant("long", INT64, [], [4]),
        constant("sure", FLOAT, [2], [0.0, 10.0]),
        constant("shape", INT64, [4], [1, 1, 1, -1]),
        constant("flat", INT64, [2], [1, 1]),
        node("Reshape", "encoder_outputs flat", "louder"),
        node("Greater", "louder enough", "begins"),
        node("Cast", "targets", "last", to=INT64),
        node("Add", "last one", "following"),
        node("Mod", "following tokens", "next"),
        node("Where", "begins next blank", "token"),
        node("Where", "begins long one", "duration"),
        node("OneHot", "token tokens sure", "token_logits"),
        node("OneHot", "duration durations sure", "duration_logits"),
        node("Concat", "token_logits duration_logits", "both", axis=-1),
        node("Reshape", "both shape", "outputs"),
        *[node("Identity", f"input_states_{n}", f"output_states_{n}") for n in (1, 2)],
        value(12, "outputs", FLOAT, [1, 1, 1, len(TOKENS) + DURATIONS]),
        *[value(12, f"output_states_{n}", FLOAT, shape) for n, shape in enumerate(states, 1)],
    )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "encoder-model.onnx").write_bytes(encoder())
    (folder / "decoder_joint-model.onnx").write_bytes(decoder_joint())
    (folder / "vocab.txt").write_text("".join(f"{token} {n}\n" for n, token in enumerate(TOKENS)))
    kind = {"model_type": "nemo-conformer-tdt", "features_size": 128, "subsampling_factor": 8}
    (folder / "config.json").write_text(json.dumps(kind))
    return folder.parent


def bursts(path: Path, starts: list[float], seconds: float) -> Path:
    """A recording that is silent but for half a second of noise at each of these times."""
    chance, samples = random.Random(1), [0] * int(seconds * RATE)
    for start in starts:
        for n in range(int(start * RATE), int((start + 0.5) * RATE)):
            samples[n] = chance.randint(-8000, 8000)
    return alone.wav(path, struct.pack(f"<{len(samples)}h", *samples))


def test_words_come_when_they_were_heard(models: Path, tmp_path: Path) -> None:
    audio = bursts(tmp_path / "short.wav", [0.8, 1.6, 2.4, 4.0, 5.6], 8.0)
    heard: Any = alone.run("parakeet", audio, model="tiny", models=models, language="en")
    alone.plausible(heard, 8.0)
    times = [(word["text"], round(word["start"], 2), round(word["end"], 2)) for word in heard["words"]]
    assert times == [(" Alpha", 0.8, 1.68), (" beta.", 2.4, 4.08), (" Gam", 5.6, 5.68)]
    assert [segment["text"] for segment in heard["segments"]] == [" Alpha beta.", " Gam"]
    assert (heard["language"], heard["model"]) == ("en", "tiny")
    assert all(word["probability"] > 0.99 for word in heard["words"])


def test_a_long_recording_is_cut_where_it_is_silent(models: Path, tmp_path: Path) -> None:
    starts = [1.0, 3.0, 11.8, 13.1, 22.0, 30.0, 47.0, 60.0]
    audio = bursts(tmp_path / "long.wav", starts, 61.0)
    heard: Any = alone.run("parakeet", audio, model="tiny", models=models)
    alone.plausible(heard, 61.0)
    found = [word["start"] for word in heard["words"]]
    assert all(min(abs(time - start) for start in starts) < 0.09 for time in found)
    pieces = "|".join(re.escape(token.strip("▁")) for token in TOKENS[:BLANK])
    assert len(re.findall(pieces, alone.said(heard))) == len(starts)
    assert "language" not in heard


def test_says_nothing_of_silence(models: Path, tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(40 * 2 * RATE))
    heard: Any = alone.run("parakeet", audio, model="tiny", models=models)
    assert (heard["segments"], heard["words"]) == ([], [])


@pytest.mark.parametrize("samples", [0, 1, 100, 1279, 1280])
def test_says_nothing_of_what_is_too_short_for_a_word(models: Path, tmp_path: Path, samples: int) -> None:
    audio = alone.wav(tmp_path / "click.wav", b"\x00\x40" * samples)
    heard: Any = alone.run("parakeet", audio, model="tiny", models=models)
    assert (heard["segments"], heard["words"]) == ([], [])


def test_refuses_what_it_does_not_have(models: Path, tmp_path: Path) -> None:
    audio = alone.wav(tmp_path / "silence.wav", bytes(2 * RATE))
    with pytest.raises(RuntimeError, match="DALSTON_OFFLINE"):
        alone.run("parakeet", audio)
    (models / "tiny" / "config.json").write_text('{"model_type": "nemo-conformer-aed"}')
    with pytest.raises(RuntimeError, match="no transducer"):
        alone.run("parakeet", audio, model="tiny", models=models)
