"""Utterances of live sessions to words: several at a time, each encoded no longer than it is.

There is little time, so an utterance is decoded without timestamps, and greedily when it is soon replaced.
What was said before it is not told to the model: that made no text better, and passes slower. A final pass
that repeats itself is done once more with the states of silence up to 30 s behind it, which cures most; the
encoder's work is not done again.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
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
from windows import FRAME, RATE, TOKENS_MORE, TOKENS_PER_SECOND, loop

LONGEST, SHORTEST = FULL * FRAME - MARGIN * FRAME, RATE // 10
"""What a pass can hear with its margin, and what holds no word."""
BEAM = 5
"""Of a final pass."""
QUICK_PER_SECOND, QUICK_MORE = 6, 12
"""Most tokens of a pass that is soon replaced: it need not be right when somebody speaks faster."""


@dataclass
class Heard:
    """An utterance on its way to its words."""

    speech: Speech
    samples: np.ndarray
    states: np.ndarray
    language: str
    probability: float | None = None
    prompt: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    @property
    def room(self) -> int:
        """How many tokens it may have."""
        if self.speech.final:
            return int(self.seconds * TOKENS_PER_SECOND) + TOKENS_MORE
        return int(self.seconds * QUICK_PER_SECOND) + QUICK_MORE


@dataclass
class Pass:
    """What a pass gave, with the model's measures of it."""

    tokens: list[int]
    text: str
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    endless: bool
    """Whether it used all its room, or packs well: it repeats itself."""

    @property
    def silent(self) -> bool:
        return self.no_speech_prob > NO_SPEECH and self.avg_logprob < LOG_PROBABILITY


class Ear:
    """Hears with a loaded model, in one thread; others may use the model meanwhile."""

    def __init__(self, model: WhisperModel, whisper: Any, name: str) -> None:
        """`whisper`: the model of CTranslate2 itself."""
        self.model, self.whisper, self.name = copy(model), whisper, name
        self.model.__dict__.pop(
            "encode", None
        )  # of all threads: passes are short, and many sessions share them
        self.model.model = whisper
        self.encoder = Encoder(self.model)
        self.tokenizers = dict[str, Tokenizer]()
        self.suppressed = get_suppressed_tokens(self.tokenizer("en"), [-1])

    def hear(self, batch: list[Speech]) -> list[Transcript]:
        """What was said in each utterance."""
        answers = [Transcript([], [] if one.words else None, language=one.language, model=self.name)
                   for one in batch]  # fmt: skip
        heard = {n: one for n, speech in enumerate(batch) if (one := self.encoded(speech))}
        self.detect([one for one in heard.values() if not one.speech.language])
        for one in heard.values():
            one.prompt = self.prompt(one)

        def kind(n: int) -> tuple[bool, int]:
            return heard[n].speech.final, len(heard[n].prompt)

        for _, group in groupby(sorted(heard, key=kind), key=kind):
            numbers = list(group)
            for n, done in zip(numbers, self.decoded([heard[n] for n in numbers]), strict=True):
                answers[n] = self.transcript(heard[n], done)
        return answers

    def encoded(self, speech: Speech) -> Heard | None:
        """An utterance with its states, encoded alone: several at once take longer; None: nobody speaks."""
        samples = np.asarray(speech.samples, np.float32)[:LONGEST]
        if len(samples) < SHORTEST or np.abs(samples).max() < SILENCE:
            return None
        return Heard(speech, samples, self.encoder.states(samples), speech.language or "en")

    def detect(self, unknown: list[Heard]) -> None:
        """Find out which languages are spoken, if the model knows several."""
        if unknown and self.whisper.is_multilingual:
            told = self.whisper.detect_language(self.encoder.filled([one.states for one in unknown], FULL))
            for one, ((token, probability), *_) in zip(unknown, told, strict=True):
                one.language, one.probability = token[2:-2], probability

    def prompt(self, one: Heard, *, bare: bool = False) -> tuple[int, ...]:
        """The tokens before the text; `bare`: without what the session says about it."""
        tokenizer, before, terms = self.tokenizer(one.language), list[int](), None
        if not bare:
            text, terms = fitted(self.model, one.speech.prompt, ", ".join(one.speech.keyterms) or None)
            before = tokenizer.encode(" " + text.strip()) if text else []
        return (*self.model.get_prompt(tokenizer, before, without_timestamps=True, hotwords=terms),)

    def tokenizer(self, language: str) -> Tokenizer:
        if language not in self.tokenizers:
            self.tokenizers[language] = Tokenizer(
                self.model.hf_tokenizer, self.whisper.is_multilingual, "transcribe", language
            )
        return self.tokenizers[language]

    def decoded(self, group: list[Heard]) -> list[Pass]:
        """A pass over utterances whose prompts are equally long; once more over those where it went wrong."""
        done = self.passes(group, max(2 * one.states.shape[1] for one in group) + QUIET)
        again = [n for n, (one, it) in enumerate(zip(group, done, strict=True)) if self.bad(one, it)]
        if again:
            for n in again:
                group[n].prompt = self.prompt(group[n], bare=True)
            for n, it in zip(again, self.passes([group[n] for n in again], FULL), strict=True):
                done[n] = it
        for it in done:
            if it.endless and (cut := loop(it.tokens)):
                it.tokens = it.tokens[:cut]
                it.text = self.tokenizer("en").decode(it.tokens)
        return done

    def bad(self, one: Heard, it: Pass) -> bool:
        """Whether a final pass is worth another."""
        prompted = it.avg_logprob < LOG_PROBABILITY and bool(one.speech.prompt or one.speech.keyterms)
        return one.speech.final and not it.silent and (it.endless or prompted or loop(it.tokens) is not None)

    def passes(self, group: list[Heard], frames: int) -> list[Pass]:
        """Utterances decoded with silence behind, up to so many frames."""
        prompts, room = [list(one.prompt) for one in group], max(one.room for one in group)
        room = min(room, self.model.max_length // 2, self.model.max_length - len(prompts[0]) - 1)
        found = self.whisper.generate(
            self.encoder.filled([one.states for one in group], frames), prompts,
            beam_size=BEAM if group[0].speech.final else 1, suppress_tokens=self.suppressed,
            max_length=max(2 * room, room + len(prompts[0])),  # halved inside
            return_scores=True, return_no_speech_prob=True,
        )  # fmt: skip
        return [self.measured(one, result, room) for one, result in zip(group, found, strict=True)]

    def measured(self, one: Heard, result: Any, room: int) -> Pass:
        tokens = result.sequences_ids[0]
        text, probability = self.tokenizer("en").decode(tokens), result.scores[0]
        ratio = get_compression_ratio(text.strip())
        endless = len(tokens) >= min(one.room, room) or ratio > COMPRESSION
        sure = probability * len(tokens) / (len(tokens) + 1)
        return Pass(tokens, text, sure, result.no_speech_prob, ratio, endless)

    def transcript(self, one: Heard, done: Pass) -> Transcript:
        """What was said in an utterance."""
        said = Transcript([], [] if one.speech.words else None, language=one.language,
                          language_probability=one.probability, model=self.name)  # fmt: skip
        if done.silent or not done.text.strip():
            return said
        start, end = 0.0, round(one.seconds, 2)
        if one.speech.words:
            said.words = self.aligned(one, done)
            start, end = said.words[0].start, said.words[-1].end
        said.segments.append(Segment(start, end, done.text, None, done.avg_logprob, done.compression_ratio,
                                     done.no_speech_prob, 0.0))  # fmt: skip
        return said

    def aligned(self, one: Heard, done: Pass) -> list[Word]:
        """The words with their times, in order and none past the end."""
        frames, reached = len(one.samples) // FRAME, 0.0
        found = {"seek": 0, "start": 0.0, "end": one.seconds, "tokens": done.tokens, "words": []}
        filled = self.encoder.filled([one.states], frames + MARGIN)
        self.model.add_word_timestamps(
            [[found]], self.tokenizer(one.language), filled, frames, *PUNCTUATION, 0.0
        )
        words = []
        for word in found["words"]:
            start, end = (min(float(word[side]), one.seconds) for side in ("start", "end"))
            start = max(start, reached)
            reached = max(start, end)
            words.append(Word(word["word"], round(start, 2), round(reached, 2), float(word["probability"])))
        return words
