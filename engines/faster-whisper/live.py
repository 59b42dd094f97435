"""Utterances of live sessions to words: those of several sessions in one pass, and each only once.

An utterance has little time. It is encoded no longer than it is and decoded without timestamps; one that is
soon replaced greedily. A final pass that looks bad is done again in halves, and that is all.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from dalston_engine import Segment, Transcript, Word
from dalston_engine.live.speech import Speech
from decoding import (
    COMPRESSION,
    FULL,
    LOG_PROBABILITY,
    MARGIN,
    NO_SPEECH,
    PUNCTUATION,
    QUIET,
    Encoder,
    fitted,
)
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens
from speech import SILENCE
from windows import FRAME, RATE, TOKENS_MORE, TOKENS_PER_SECOND, loops

LONGEST = 28 * RATE
"""What a pass can hear."""
SHORTEST = RATE // 10
BEAM = 5
"""Of a final pass; others are greedy."""
BEFORE = 60
"""Tokens of earlier utterances told to a pass."""


@dataclass
class Heard:
    """An utterance on its way to its words."""

    speech: Speech
    samples: np.ndarray
    states: np.ndarray
    language: str = "en"
    probability: float | None = None
    prompt: tuple[int, ...] = ()

    @property
    def beam(self) -> int:
        return BEAM if self.speech.final else 1

    @property
    def room(self) -> int:
        """More tokens nobody speaks in the time."""
        return int(len(self.samples) / RATE * TOKENS_PER_SECOND) + TOKENS_MORE


class Ear:
    """Hears utterances with a loaded model, in a thread of its own."""

    def __init__(self, model: WhisperModel, whisper: Any, name: str) -> None:
        self.model, self.whisper, self.name = copy(model), whisper, name
        self.model.__dict__.pop("encode", None)
        self.model.model = whisper
        self.encoder = Encoder(self.model)
        self.tokenizers = dict[str, Tokenizer]()

    def hear(self, batch: list[Speech]) -> list[Transcript]:
        """What was said in each utterance."""
        answers = [Transcript([], [] if one.words else None, language=one.language, model=self.name)
                   for one in batch]  # fmt: skip
        heard = {n: one for n, speech in enumerate(batch) if (one := self.encoded(speech))}
        self.detect([one for one in heard.values() if not one.speech.language])
        for one in heard.values():
            one.prompt = self.prompt(one, previous=True)
        order = sorted(heard, key=lambda n: (heard[n].beam, len(heard[n].prompt)))
        for _, group in groupby(order, key=lambda n: (heard[n].beam, len(heard[n].prompt))):
            numbers = list(group)
            for n, found in zip(numbers, self.passes([heard[n] for n in numbers]), strict=True):
                answers[n] = self.answer(heard[n], found)
        return answers

    def encoded(self, speech: Speech) -> Heard | None:
        """An utterance with its states; None: nobody speaks."""
        samples = np.asarray(speech.samples, np.float32)[:LONGEST]
        if len(samples) < SHORTEST or np.abs(samples).max() < SILENCE:
            return None
        language = speech.language or "en"
        return Heard(speech, samples, self.encoder.states(samples), language)

    def detect(self, unknown: list[Heard]) -> None:
        """Find out the languages spoken."""
        if unknown and self.whisper.is_multilingual:
            told = self.whisper.detect_language(self.encoder.filled([one.states for one in unknown], FULL))
            for one, ((token, probability), *_) in zip(unknown, told, strict=True):
                one.language, one.probability = token[2:-2], probability

    def prompt(self, one: Heard, *, previous: bool) -> tuple[int, ...]:
        """The tokens before the text."""
        tokenizer = self.tokenizer(one.language)
        terms = ", ".join(one.speech.keyterms) or None
        given, terms = fitted(self.model, one.speech.prompt, terms)
        before = tokenizer.encode(" " + given.strip()) if given else []
        if previous and one.speech.final and one.speech.previous:
            before = [*before, *tokenizer.encode(" " + one.speech.previous.strip())[-BEFORE:]]
        prompt = self.model.get_prompt(tokenizer, before, without_timestamps=True, hotwords=terms)
        return tuple(prompt)

    def tokenizer(self, language: str) -> Tokenizer:
        if language not in self.tokenizers:
            self.tokenizers[language] = Tokenizer(
                self.model.hf_tokenizer, self.whisper.is_multilingual, "transcribe", language
            )
        return self.tokenizers[language]

    def passes(self, group: list[Heard]) -> list[Any]:
        """One pass over utterances whose prompts are equally long."""
        frames = max(2 * one.states.shape[1] for one in group) + QUIET
        states = self.encoder.filled([one.states for one in group], frames)
        prompts, room = [list(one.prompt) for one in group], max(one.room for one in group)
        room = min(room, self.model.max_length // 2, self.model.max_length - len(prompts[0]) - 1)
        return self.whisper.generate(
            states, prompts, beam_size=group[0].beam, max_length=max(2 * room, room + len(prompts[0])),
            suppress_tokens=get_suppressed_tokens(self.tokenizer(group[0].language), [-1]),
            return_scores=True, return_no_speech_prob=True,
        )  # fmt: skip

    def answer(self, one: Heard, found: Any) -> Transcript:
        """A pass as a transcript, done again where it looks bad."""
        tokens = found.sequences_ids[0]
        probability = found.scores[0] * len(tokens) / (len(tokens) + 1)
        tokenizer, seconds = self.tokenizer(one.language), len(one.samples) / RATE
        text = tokenizer.decode(tokens)
        answer = Transcript([], [] if one.speech.words else None, language=one.language,
                            language_probability=one.probability, model=self.name)  # fmt: skip
        if found.no_speech_prob > NO_SPEECH and probability < LOG_PROBABILITY:
            return answer
        ratio = get_compression_ratio(text.strip())
        bad = loops(tokens) or len(tokens) >= one.room or ratio > COMPRESSION
        if (bad or probability < LOG_PROBABILITY) and one.speech.final and one.speech.previous:
            again = replace(one, speech=copy(one.speech))
            again.speech.previous, again.prompt = None, self.prompt(one, previous=False)
            return self.answer(again, self.passes([again])[0])
        if text.strip():
            answer.segments.append(
                Segment(0.0, seconds, text, None, probability, ratio, found.no_speech_prob, 0.0)
            )
            if one.speech.words:
                answer.words = self.aligned(one, tokens)
        return answer

    def aligned(self, one: Heard, tokens: list[int]) -> list[Word]:
        """The words with their times."""
        frames = len(one.samples) // FRAME
        found = [{"seek": 0, "start": 0.0, "end": len(one.samples) / RATE, "tokens": tokens, "words": []}]
        filled = self.encoder.filled([one.states], frames + MARGIN)
        self.model.add_word_timestamps(
            [found], self.tokenizer(one.language), filled, frames, *PUNCTUATION, 0.0
        )
        return [
            Word(w["word"], float(w["start"]), float(w["end"]), float(w["probability"]))
            for w in found[0]["words"]
        ]
