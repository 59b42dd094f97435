"""What travels between engines survives the journey."""

from __future__ import annotations

import wave
from pathlib import Path

import msgspec
import pytest
from dalston_engine import types
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.values import values

STRUCTS = [
    kind
    for kind in vars(types).values()
    if isinstance(kind, type)
    and issubclass(kind, msgspec.Struct)
    and kind.__module__ == types.__name__
    and kind is not types.Parts  # put together where it is used
]


@pytest.mark.parametrize("struct", STRUCTS)
@given(data=st.data())
def test_a_struct_comes_back_as_it_was(struct: type[msgspec.Struct], data: st.DataObject) -> None:
    sent = data.draw(values(struct))
    assert msgspec.json.decode(msgspec.json.encode(sent), type=struct) == sent


@pytest.mark.parametrize("struct", STRUCTS)
def test_a_field_of_a_later_version_is_ignored(struct: type[msgspec.Struct]) -> None:
    sent = _smallest(struct)
    document = {**msgspec.to_builtins(sent), "of_a_later_version": 1}
    assert msgspec.convert(document, struct) == sent


def _smallest(struct: type[msgspec.Struct]) -> msgspec.Struct:
    required = {f.name: f.type for f in msgspec.structs.fields(struct) if f.required}
    return struct(**{name: _least(kind) for name, kind in required.items()})


def _least(kind: type) -> object:
    return _smallest(kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else kind()


def _wav(path: Path, rate: int, channels: int, samples: bytes) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples)
    return path


def test_prepared_audio_gives_its_duration_and_samples(tmp_path: Path) -> None:
    samples = bytes(range(256)) * 250
    audio = types.Audio(_wav(tmp_path / "audio.wav", types.SAMPLE_RATE, 1, samples))
    assert audio.duration == 2.0
    assert audio.pcm() == samples


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2)])
def test_other_audio_is_refused(tmp_path: Path, rate: int, channels: int) -> None:
    with pytest.raises(ValueError, match="16 kHz mono"):
        types.Audio(_wav(tmp_path / "audio.wav", rate, channels, bytes(64)))
