"""Gives words their exact times: CTC forced alignment with the phone model and the G2P of the package hama.

What the model hears is looked for in runs of words (`alignment`), each word as its phones
(`pronunciation`), on the most probable way through the model's frames (`ctc`).
"""

from __future__ import annotations

import numpy as np
from dalston_engine import Audio, Engine, Transcript, serve
from dalston_engine.alignment import Found, Words, unaligned
from dalston_engine.ctc import STAR, Clock, align
from hama import ASRModel
from numpy.typing import NDArray
from pronunciation import Pronunciation

LANGUAGES = ["en", "ko"]
RATE, FRAME = 16_000, 320
"""Samples a second, and those of one frame: 20 ms."""
CHUNK, CONTEXT = 500, 50
"""Frames worked out at a time, and those heard on either side of them: the model takes 1500 at most."""
CLOCK = Clock(FRAME / RATE, lag=0.08, join=0.3, tail=0.15)
"""Measured with words of known times."""
LEAST = -5.0
"""The mean log probability of its phones under which a segment was not found; any other text has about -6."""


class PhoneAlign(Engine):
    """Words of English and Korean transcripts, found by their phones."""

    def load(self) -> None:
        self.model = ASRModel()
        self.pronunciation = Pronunciation()

    def align(self, audio: Audio, transcript: Transcript) -> Transcript:
        if not transcript.segments:
            return transcript
        if transcript.language not in LANGUAGES:
            return unaligned(transcript, LANGUAGES)
        samples, words = np.frombuffer(audio.pcm(), np.int16), Words(transcript)
        times: list[Found | None] = [None] * len(words.words)
        for run in words.runs(audio.duration):
            spoken = {i: self.phones(words.words[i].text, transcript.language) for i in run.words}
            sought = [index for index, phones in spoken.items() if phones]
            first, end = (int((edge + CLOCK.lag) / CLOCK.frame) for edge in (run.start, run.end))
            frames = align(self.heard(samples, first, end), [spoken[i] for i in sought], self.model.blank_id)
            for index, found in zip(sought, CLOCK.words(frames, first, run.end)):  # noqa: B905 - all or none
                times[index] = found
        return words.aligned(times, LEAST)

    def phones(self, text: str, language: str) -> list[int]:
        """What is looked for as that word: anything, when nobody knows how its letters are said."""
        return self.pronunciation.phones(text, language) or [STAR] * any(map(str.isalnum, text))

    def heard(self, samples: NDArray[np.int16], first: int, end: int) -> NDArray[np.float32]:
        """The log probabilities of all phones in the frames from `first` to `end`."""
        parts = []
        for begin in range(first, min(end, len(samples) // FRAME), CHUNK):
            self.progress(begin * FRAME / len(samples))
            before = min(begin, CONTEXT)
            part = samples[(begin - before) * FRAME : (min(begin + CHUNK, end) + CONTEXT) * FRAME]
            given = {"waveform": part.astype(np.float32) / 32768, "waveform_lengths": np.array([len(part)])}
            (log_probs,) = self.model.session.run(["log_probs"], given)
            parts.append(log_probs[0][before : before + min(CHUNK, end - begin)])
        return np.concatenate(parts) if parts else np.empty((0, len(self.model.decoder_tokens)), np.float32)


if __name__ == "__main__":
    serve(PhoneAlign)
