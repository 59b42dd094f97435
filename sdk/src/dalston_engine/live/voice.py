"""The probability of speech in each frame of a session, by the Silero detector."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dalston_engine.errors import ModelUnavailable
from dalston_engine.live.audio import Samples
from dalston_engine.live.endpoints import FRAME

CONTEXT = 64
"""Samples before each frame that the detector sees too."""
QUIET = 0.001
"""Frames that never exceed -60 dBFS have no speech, and need no detector."""
SETTLED = 10
"""Quiet frames after which the detector knows of the silence."""
WAKING = 3
"""Frames of silence that it hears first where some were kept from it: without, it may miss speech."""
WEIGHTS = ("faster_whisper/assets/silero_vad_v6.onnx", "silero_vad/data/silero_vad.onnx")


class Detector:
    """The detector, shared by all sessions of a process."""

    def __init__(self) -> None:
        import onnxruntime

        site = Path(sysconfig.get_path("purelib"))
        found = next((site / path for path in WEIGHTS if (site / path).exists()), None)
        if found is None:
            raise ModelUnavailable("No weights of the voice detector are in this engine's environment.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._run = onnxruntime.InferenceSession(found, options, providers=["CPUExecutionProvider"])
        self._many = "h" in {one.name for one in self._run.get_inputs()}

    def fresh(self) -> tuple[Any, ...]:
        """What a session begins with."""
        zeros = np.zeros((1, 1, 128), np.float32)
        return (zeros, zeros) if self._many else (np.zeros((2, 1, 128), np.float32),)

    def probabilities(self, frames: Samples, state: tuple[Any, ...]) -> tuple[Samples, tuple[Any, ...]]:
        """That of each frame with its context, and what the session goes on with."""
        if self._many:
            told, *after = self._run.run(None, {"input": frames, "h": state[0], "c": state[1]})
            return told.reshape(-1), tuple(after)
        found, rate = [], np.array(16_000, np.int64)
        for n in range(len(frames)):
            one, after = self._run.run(None, {"input": frames[n : n + 1], "state": state[0], "sr": rate})
            found.append(one.item())
            state = (after,)
        return np.array(found, np.float32), state


@cache
def detector() -> Detector:
    """The process's; raises ModelUnavailable."""
    return Detector()


class Voice:
    """The detector as one session needs it."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self._state = detector, detector.fresh()
        self._context = np.zeros(CONTEXT, np.float32)
        self._quiet, self._asleep = SETTLED, True

    def probabilities(self, samples: Samples) -> tuple[Samples, Samples]:
        """Of whole frames: the probability of speech, and the loudness."""
        count = len(samples) // FRAME
        quiet = max(samples.max(), -samples.min()) < QUIET
        if quiet and self._quiet >= SETTLED:
            self._context, self._asleep = samples[-CONTEXT:].copy(), True
            return np.zeros(count), np.zeros(count)
        self._quiet = self._quiet + count if quiet else 0
        before = WAKING if self._asleep else 0
        if self._asleep:
            self._state, self._asleep = self._detector.fresh(), False
        frames = np.zeros((before + count, CONTEXT + FRAME), np.float32)
        frames[before:, CONTEXT:] = samples.reshape(count, FRAME)
        frames[before, :CONTEXT] = self._context
        frames[before + 1 :, :CONTEXT] = frames[before:-1, -CONTEXT:]
        self._context = frames[-1, -CONTEXT:].copy()
        told, self._state = self._detector.probabilities(frames, self._state)
        return told[before:], np.sqrt((frames[before:, CONTEXT:] ** 2).mean(axis=1))
