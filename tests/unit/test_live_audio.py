"""What sessions send becomes samples, however it is cut; what is not needed is dropped."""

from __future__ import annotations

import random

import numpy as np
import pytest
from dalston_engine.live.audio import RATE, Input, Tape

KNOWN = {
    "mulaw": {0x00: -32_124, 0x7F: 0, 0x80: 32_124, 0xFF: 0, 0xFE: 8, 0xE7: 260},
    "alaw": {0x55: -8, 0xD5: 8, 0x2A: -32_256, 0xAA: 32_256, 0xC5: 264, 0xD4: 24},
}
"""Some values of G.711."""


def test_odd_pieces_of_samples_make_the_same_sound() -> None:
    content = np.random.default_rng(1).integers(-32_768, 32_767, 5_000).astype("<i2").tobytes()
    whole = Input("pcm_s16le", RATE).samples(content)
    pieces, at, one, cut = [], 0, Input("pcm_s16le", RATE), random.Random(1)
    while at < len(content):
        step = cut.randint(1, 99)
        pieces.append(one.samples(content[at : at + step]))
        at += step
    assert np.array_equal(np.concatenate(pieces), whole)
    assert whole.dtype == np.float32
    assert np.abs(whole).max() <= 1
    assert one.seconds == 5_000 / RATE


def test_half_a_sample_waits_for_its_rest() -> None:
    one = Input("pcm_f32le", RATE)
    assert len(one.samples(np.float32(0.5).tobytes()[:3])) == 0
    assert one.samples(np.float32(0.5).tobytes()[3:]).tolist() == [0.5]


def test_what_is_no_number_is_silence_and_what_is_too_loud_is_clipped() -> None:
    given = np.array([np.nan, np.inf, -np.inf, 7, -7, 0.25], "<f4").tobytes()
    assert Input("pcm_f32le", RATE).samples(given).tolist() == [0, 0, 0, 1, -1, 0.25]


@pytest.mark.parametrize("encoding", KNOWN)
def test_companded_samples_have_the_values_of_the_standard(encoding: str) -> None:
    codes = bytes(KNOWN[encoding])
    values = Input(encoding, RATE).samples(codes) * 32_768
    assert values.tolist() == list(KNOWN[encoding].values())


def test_the_tape_gives_what_it_was_given_and_forgets_the_rest() -> None:
    tape, sound = Tape(1_000), np.arange(2_000_000, dtype=np.float32)
    draw, at = random.Random(2), 0
    while at < len(sound):
        step = draw.randint(1, 9_000)
        tape.add(sound[at : at + step])
        at = min(at + step, len(sound))
        assert tape.end == 1_000 + at
        first = max(at - 16_000, 0)
        assert np.array_equal(tape.cut(1_000 + first, 1_000 + at), sound[first:at])
        tape.drop(1_000 + at - 20_000)
    assert tape.end - tape.start == 20_000
    assert len(tape._store) <= 8 * RATE


def test_the_tape_gets_small_again() -> None:
    tape = Tape(0)
    tape.add(np.zeros(100 * RATE, np.float32))
    for _ in range(200):
        tape.drop(tape.end - RATE)
        tape.add(np.zeros(RATE, np.float32))
    assert len(tape._store) <= 24 * RATE


def test_the_tape_knows_nothing_beyond_its_ends() -> None:
    tape = Tape(100)
    tape.add(np.ones(50, np.float32))
    assert len(tape.cut(0, 120)) == 20
    assert len(tape.cut(140, 500)) == 10
    assert len(tape.cut(0, 50)) == len(tape.cut(500, 600)) == 0
