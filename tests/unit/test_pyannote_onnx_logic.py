"""The diarizer beside its networks: checkpoints, features, speakers out of voices, turns out of votes."""

from __future__ import annotations

import io
import pickle
import runpy
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[2] / "engines" / "pyannote-onnx"
CHECKPOINT, FEATURES, CLUSTERING, TURNS = (
    runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("checkpoint", "features", "clustering", "turns")
)
FRAME_S = TURNS["FRAME"] / TURNS["RATE"]


class Named:
    """Pickled as a call of something by its name."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def checkpoint(path: Path, content: Any, **data: bytes) -> Path:
    """A file as PyTorch leaves it, with this object and these storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        for key, values in data.items():
            archive.writestr(f"archive/data/{key}", values)
    return path


def tensor_pickle(shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The pickle of `{"weight": a tensor}` over the first storage, written without PyTorch."""
    program = io.BytesIO()
    program.write(b"\x80\x02}X\x06\x00\x00\x00weightctorch._utils\n_rebuild_tensor_v2\n((")
    program.write(
        b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
    )
    for part in (0, shape, strides):
        program.write(pickle.dumps(part, protocol=2)[2:-1])
    program.write(b"\x89NtRs.")
    return program.getvalue()


def numbers(path: Path, shape: tuple[int, ...], strides: tuple[int, ...]) -> Path:
    """A checkpoint of one tensor of the numbers 0 to 5."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(shape, strides))
        archive.writestr("archive/data/0", np.arange(6, dtype="<f4").tobytes())
    return path


def test_a_checkpoint_gives_its_tensors(tmp_path: Path) -> None:
    weights = CHECKPOINT["read"](numbers(tmp_path / "a", (2, 3), (3, 1)))
    assert weights["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(("shape", "strides"), [((2, 3), (1, 2)), ((6,), (2,)), ((2, 3), (0, 1))])
def test_a_tensor_that_is_not_a_plain_block_is_refused(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with pytest.raises(pickle.UnpicklingError, match="order"):
        CHECKPOINT["read"](numbers(tmp_path / "a", shape, strides))


@pytest.mark.parametrize("call", [print, eval, getattr, Path, zipfile.ZipFile])
def test_a_checkpoint_that_calls_something_is_refused(
    tmp_path: Path, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no need of"):
        CHECKPOINT["read"](checkpoint(tmp_path / "a", {"weight": Named(call, "1")}))
    assert capsys.readouterr().out == ""


def test_a_tone_is_loudest_in_its_own_band() -> None:
    time = np.arange(16_000) / 16_000
    energies = [
        FEATURES["filter_bank"](8000 * np.sin(2 * np.pi * hertz * time)).mean(axis=0) for hertz in (300, 3000)
    ]
    assert energies[0].shape == (80,)
    centres = np.linspace(FEATURES["mel"](20.0), FEATURES["mel"](8000.0), 82)[1:-1]
    for hertz, bands in zip((300, 3000), energies, strict=True):
        assert abs(int(bands.argmax()) - int(np.abs(centres - FEATURES["mel"](hertz)).argmin())) <= 1


def test_constant_pressure_is_silence() -> None:
    offset, silence = (FEATURES["filter_bank"](np.full(1600, level)) for level in (8, 0))
    assert offset.shape == (8, 80)
    assert np.abs(offset - silence).max() < 1e-3


def voices(people: int, each: int, spread: float, seed: int = 3) -> tuple[NDArray[Any], NDArray[Any]]:
    """Unit vectors around one of each person, in turn, and whose they are."""
    chance = np.random.default_rng(seed)
    own = CLUSTERING["unit"](chance.normal(size=(people, 64)))
    whose = np.tile(np.arange(people), each)
    return CLUSTERING["unit"](own[whose] + spread * chance.normal(size=(len(whose), 64))), whose


def agree(points: NDArray[Any], whose: NDArray[Any], found: NDArray[Any]) -> bool:
    """Each person has one voice of their own among those found."""
    nearest = (points @ found.T).argmax(axis=1)
    return len(set(zip(nearest.tolist(), whose.tolist(), strict=True))) == len(set(whose.tolist()))


@pytest.mark.parametrize("people", [1, 2, 5])
def test_people_are_found_without_being_counted(people: int) -> None:
    points, whose = voices(people, 30, 0.05)
    found = CLUSTERING["speakers"](points)
    assert found.shape == (people, 64)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert agree(points, whose, found)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_as_many_speakers_as_asked_for(number: int, stretches: int, seed: int) -> None:
    points, _ = voices(1, stretches, 0.1, seed)
    assert len(CLUSTERING["speakers"](points, number, number)) == min(number, stretches)


def test_bounds_hold_only_where_they_bind() -> None:
    points, _ = voices(3, 30, 0.05)
    assert [
        len(CLUSTERING["speakers"](points, low, high)) for low, high in ((1, 2), (2, 4), (4, 9), (1, 32))
    ] == [2, 3, 4, 3]


def test_a_long_recording_is_clustered_in_blocks() -> None:
    points, whose = voices(4, 500, 0.05)
    assert len(points) > CLUSTERING["LIMIT"]
    calls: list[None] = []
    found = CLUSTERING["speakers"](points, progress=lambda: calls.append(None))
    assert len(found) == 4
    assert agree(points, whose, found)
    assert len(calls) > len(points) / 2


def test_local_speakers_of_a_window_are_different_people() -> None:
    likeness = np.array([[0.9, 0.8, 0.1], [0.8, 0.2, 0.1], [np.nan] * 3])
    assert CLUSTERING["owners"](likeness) == [1, 0, None]
    assert CLUSTERING["owners"](likeness[:, :1]) == [0, None, None]
    assert CLUSTERING["owners"](np.full((3, 2), np.nan)) == [None, None, None]
    assert CLUSTERING["owners"](np.zeros((3, 0))) == [None, None, None]


def ranked(*speakers: NDArray[Any], at_once: int = 2) -> NDArray[Any]:
    """The ranks of one window in which these speak with these probabilities."""
    votes = TURNS["Votes"](len(speakers[0]), len(speakers))
    votes.add(0, np.stack(speakers, axis=1), list(range(len(speakers))))
    ranks: NDArray[Any] = votes.ranked(at_once)
    return ranks


def speech(*spans: tuple[int, int], frames: int = 400, level: float = 1.0) -> NDArray[Any]:
    """The probability of someone who speaks in these frames."""
    values = np.zeros(frames)
    for begin, end in spans:
        values[begin:end] = level
    return values


def test_people_at_once_overlap_and_the_surest_is_alone() -> None:
    ranks = ranked(speech((50, 200)), speech((150, 300), level=0.8))
    first, second = TURNS["overlapping"](ranks, 7.0)
    assert (first[2], second[2]) == (0, 1)
    assert first[1] - second[0] == pytest.approx(50 * FRAME_S)
    alone = TURNS["exclusive"](ranks, 7.0)
    assert [span[2] for span in alone] == [0, 1]
    assert alone[0][1] == alone[1][0] == pytest.approx(TURNS["seconds"](200))


def test_short_silences_and_blips_make_no_turns() -> None:
    ranks = ranked(speech((40, 100), (115, 150), (250, 252)))
    margin = TURNS["MARGIN"]
    assert TURNS["overlapping"](ranks, 7.0) == [
        (TURNS["seconds"](40 - margin), TURNS["seconds"](150 + margin), 0)
    ]


def test_a_pause_in_which_somebody_else_speaks_is_one() -> None:
    ranks = ranked(speech((40, 100), (115, 150)), speech((102, 112)))
    turns = TURNS["overlapping"](ranks, 7.0)
    assert [turn[2] for turn in turns] == [0, 1, 0]
    alone = TURNS["exclusive"](ranks, 7.0)
    assert [turn[2] for turn in alone] == [0, 1, 0]
    assert alone[0][1] == alone[1][0] == pytest.approx(TURNS["seconds"](101))


def test_speech_to_the_ends_of_the_recording_fills_it() -> None:
    assert TURNS["overlapping"](ranked(speech((0, 400))), 6.789) == [(0.0, 6.789, 0)]


def test_nobody_speaks_in_silence() -> None:
    empty = TURNS["Votes"](400, 0).ranked(2)
    for ranks in (ranked(speech()), ranked(speech((0, 400), level=0.4)), empty):
        assert TURNS["overlapping"](ranks, 7.0) == TURNS["exclusive"](ranks, 7.0) == []


@given(st.lists(st.tuples(st.integers(0, 380), st.integers(1, 90), st.integers(0, 2)), max_size=12))
def test_turns_are_in_order_inside_the_recording_and_exclusive_ones_apart(
    spoken: list[tuple[int, int, int]],
) -> None:
    people = [speech(*((a, a + n) for a, n, who in spoken if who == me)) for me in range(3)]
    ranks = ranked(*people, at_once=3)
    turns, alone = TURNS["overlapping"](ranks, 6.7), TURNS["exclusive"](ranks, 6.7)
    assert turns == sorted(turns)
    assert all(0 <= start < end <= 6.7 for start, end, _ in [*turns, *alone])
    assert all(before[1] <= after[0] + 1e-9 for before, after in pairwise(alone))
    for me in range(3):
        mine = [turn for turn in turns if turn[2] == me]
        assert all(before[1] < after[0] for before, after in pairwise(mine))
