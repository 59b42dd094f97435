"""Log mel filter bank energies as Kaldi computes them, in numpy: what CAM++ listens to."""

from __future__ import annotations

import numpy as np

RATE = 16_000
LENGTH, SHIFT = 400, 160
"""Samples of a frame (25 ms) and from one frame to the next (10 ms)."""
FFT = 512
BINS = 80
LOW, HIGH = 20.0, 8000.0
"""Hz between which the bands lie."""
PREEMPHASIS = 0.97
FLOOR = np.float32(np.finfo(np.float32).eps)


def mel(hertz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def bands() -> np.ndarray:
    """How much each frequency (row) counts in each band (column): triangles, evenly spaced in mel."""
    edges = np.linspace(mel(LOW), mel(HIGH), BINS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    at = mel(np.arange(FFT // 2 + 1) * RATE / FFT)[:, None]
    rising, falling = (at - left) / (centre - left), (right - at) / (right - centre)
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


def transform() -> np.ndarray:
    """One matrix for all that is linear: without mean, pre-emphasis, Hamming window, Fourier transform.

    Columns are the real parts of all frequencies, then the imaginary ones.
    """
    centred = np.eye(LENGTH) - 1 / LENGTH
    emphasis = np.eye(LENGTH) - PREEMPHASIS * np.eye(LENGTH, k=1)
    emphasis[0, 0] -= PREEMPHASIS  # the sample before the first is taken to be the same
    angle = 2 * np.pi / FFT * np.outer(np.arange(LENGTH), np.arange(FFT // 2 + 1))
    fourier = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    return (centred @ emphasis @ (np.hamming(LENGTH)[:, None] * fourier)).astype(np.float32)


BANDS, TRANSFORM = bands(), transform()


def filter_bank(samples: np.ndarray) -> np.ndarray:
    """(frame, band) of samples in 16-bit scale; as many whole frames as there are."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), LENGTH)[::SHIFT]
    squares = np.square(frames @ TRANSFORM)
    power = squares[:, : FFT // 2 + 1] + squares[:, FFT // 2 + 1 :]
    return np.log(np.maximum(power @ BANDS, FLOOR))
