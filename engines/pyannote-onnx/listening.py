"""The pass over the recording: who of up to three local speakers speaks in each window, in what voice.

Windows of 10 s lie 2 s apart. Every fifth one is listened to with CAM++: the frames in which one local
speaker speaks alone, put together, so that a voice's context is that voice only. A local speaker of any
window then is the pooled frames of its own time. So each second is heard once by the embedding network
and five times by the segmentation network.
"""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from checkpoint import read
from features import LENGTH, RATE, SHIFT, filter_bank
from networks import embedding, norm, segmentation
from turns import FIRST, FRAME

WINDOW, STEP, GROUP = 160_000, 118 * FRAME, 5
"""Samples of a window and between two; how many there are to each that CAM++ hears."""
LOCAL = 3
POWERSET = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], bool)
"""Who speaks in each class of the segmentation network."""
FRAMES = 1 + (WINDOW - LENGTH) // SHIFT
"""Feature frames of a window."""
NEAREST = np.clip(np.rint((SHIFT * np.arange(FRAMES) + LENGTH / 2 - FIRST) / FRAME).astype(int), 0, 588)
"""For each feature frame the nearest of the segmentation's 589."""
PART = 100
"""Frames of 20 ms that share a context in CAM++."""
AUDIBLE = 10
"""Feature frames that are enough to hear a voice."""

Progress = Callable[[float], None]


@dataclass
class Window:
    """What was found in one window."""

    first: int
    """Its first frame, of `FRAME` samples, counted from the start of the recording."""
    probabilities: np.ndarray
    """(frame, local speaker): how likely each speaks."""
    activity: np.ndarray
    """(frame, local speaker): who speaks."""
    voices: np.ndarray
    """(local speaker, 192), not normalised; NaN where nobody is heard."""

    @property
    def alone(self) -> np.ndarray:
        """Seconds that each local speaker speaks alone."""
        single = self.activity & (self.activity.sum(axis=1, keepdims=True) == 1)
        return single.sum(axis=0) * FRAME / RATE


class Networks:
    """Both networks in memory."""

    def __init__(self, segmenter: Path, embedder: Path, threads: int) -> None:
        weights = read(embedder)
        self.segmenter = session(segmentation(read(segmenter)).SerializeToString(), threads)
        self.embedder = session(embedding(weights).SerializeToString(), threads)
        scale, shift = norm(weights, "xvector.dense.nonlinear.batchnorm")
        self.dense, self.shift = weights["xvector.dense.linear.weight"][:, :, 0] * scale[:, None], shift

    def segments(self, sound: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each window's probabilities and activity; `sound` is (window, sample) in 16-bit scale."""
        (scores,) = self.segmenter.run(None, {"sound": sound[:, None].astype(np.float32) / 32768})
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True)).transpose(1, 0, 2)
        likely = scores @ POWERSET.astype(np.float32) / scores.sum(axis=-1, keepdims=True)
        return list(zip(likely.astype(np.float16), POWERSET[scores.argmax(axis=-1)], strict=True))

    def frames(self, features: np.ndarray) -> np.ndarray:
        """(frame of 20 ms, 512) of (frame of 10 ms, band)."""
        half = (len(features) + 1) // 2
        spreading = np.zeros((-(-half // PART), half), np.float32)
        spreading[np.arange(half) // PART, np.arange(half)] = 1
        pooling = (spreading / spreading.sum(axis=1, keepdims=True)).T + np.float32(1 / half)
        inputs = {"features": features.T[None], "pooling": pooling, "spreading": spreading}
        return self.embedder.run(None, inputs)[0][0].T

    def voice(self, frames: np.ndarray) -> np.ndarray:
        """The voice of a speaker's frames: their mean and deviation through CAM++'s last layer."""
        deviation = frames.std(axis=0, ddof=1)
        return self.dense @ np.concatenate([frames.mean(axis=0), deviation]) + self.shift


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Heard:
    """CAM++'s frames of the last 30 s, each at its time."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.begin, self.covered = 0, 0
        """The feature frames, from the start of the recording, of the first row and after the last heard."""
        self.frames = np.zeros((3 * FRAMES, 512), np.float32)
        self.known = np.zeros(3 * FRAMES, bool)

    def forget(self, before: int) -> None:
        """Make room by leaving out what lies before a feature frame."""
        gone = before - self.begin
        self.frames[: -gone or None] = self.frames[gone:].copy()
        self.known[: -gone or None] = self.known[gone:].copy()
        if gone:
            self.known[-gone:] = False
        self.begin = before

    def listen(self, sound: np.ndarray, start: int, activity: np.ndarray) -> None:
        """Hear each local speaker of a window from where the last one ended; `start` in feature frames."""
        near = activity[NEAREST]
        fresh = (np.arange(FRAMES) + start >= self.covered) & (near.sum(axis=1) == 1)
        self.covered = start + FRAMES
        if not fresh.any():
            return
        features = filter_bank(sound)
        features -= features.mean(axis=0)
        for local in range(LOCAL):
            at = np.flatnonzero(fresh & near[:, local])
            if len(at) < AUDIBLE:
                continue
            rows = start - self.begin + at[::2]
            self.frames[rows] = self.networks.frames(features[at])
            self.known[rows] = True

    def voices(self, start: int, activity: np.ndarray) -> np.ndarray:
        """Each local speaker of a window, from the frames alone if they are enough."""
        near = activity[NEAREST]
        rows = slice(start - self.begin, start - self.begin + FRAMES)
        frames, known = self.frames[rows], self.known[rows]
        found = np.full((LOCAL, len(self.networks.dense)), np.nan, np.float32)
        for local in range(LOCAL):
            mine = known & near[:, local]
            if mine.sum() >= AUDIBLE // 2:
                found[local] = self.networks.voice(frames[mine])
        return found


def starts(samples: int) -> list[int]:
    """Where windows begin, in samples; the last one ends with the recording, to a frame."""
    begins = list(range(0, max(samples - WINDOW, 0) + 1, STEP))
    rest = samples - WINDOW - begins[-1]
    if rest > 0:
        if rest < STEP / 2 and len(begins) % GROUP != 1:  # the last one moves, unless CAM++ needs it there
            begins.pop()
        begins.append(-(-(samples - WINDOW) // FRAME) * FRAME)
    return begins


def windows(path: Path, networks: Networks, progress: Progress) -> Iterator[Window]:
    """All windows of a recording in order; reports how much of it was heard."""
    with wave.open(str(path), "rb") as wav:
        begins = starts(wav.getnframes())
        heard = Heard(networks)
        waiting: list[tuple[int, np.ndarray, np.ndarray]] = []
        for number in range(0, len(begins), GROUP):
            group = begins[number : number + GROUP]
            sound = np.stack([samples(wav, begin) for begin in group])
            found = [(begin, *each) for begin, each in zip(group, networks.segments(sound), strict=True)]
            progress((number + len(group) / 2) / len(begins))
            heard.forget(before=feature_frame((waiting or found)[0][0]))
            heard.listen(sound[0], feature_frame(group[0]), found[0][2])
            ready = 1
            if number + GROUP >= len(begins):
                heard.listen(sound[-1], feature_frame(group[-1]), found[-1][2])
                ready = len(group)
            for begin, likely, activity in waiting + found[:ready]:
                voices = heard.voices(feature_frame(begin), activity)
                yield Window(begin // FRAME, likely, activity, voices)
            waiting = found[ready:]
            progress((number + len(group)) / len(begins))


def feature_frame(sample: int) -> int:
    return round(sample / SHIFT)


def samples(wav: wave.Wave_read, begin: int) -> np.ndarray:
    """A window's samples in 16-bit scale, with silence where the recording has ended."""
    wav.setpos(begin)
    read = np.frombuffer(wav.readframes(WINDOW), "<i2")
    return np.pad(read, (0, WINDOW - len(read)))
