"""Windows of speech to words: encoded no longer than they are, decoded several at a time.

Whisper was trained on windows of 30 s, and decodes only those well: given fewer states of the encoder
it often misses the end. But encoding costs more than in proportion to the length. So a window is
encoded with a margin of silence, and what is missing to 30 s is put behind it from the states of
silence, encoded once. A pass that looks bad is done again on the window encoded at its full length, with
the library's rising temperatures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from itertools import islice
from typing import Any

import numpy as np
from ctranslate2 import DataType, Device, StorageView
from dalston_engine import Segment, Word
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens
from windows import FRAME, RATE, Window, loop, pieces

FULL = 3000
"""Frames that Whisper was trained on: 30 s."""
MARGIN = 200
"""Frames of silence encoded after the speech."""
QUIET = 800
"""Frames of silence put behind one utterance: it needs no more to be told from what follows."""
FLOOR = 2.0
"""How far silence lies below the loudest sound of a window, in the units of the model's input."""
STEP = 320
"""Samples between two timestamps of the model (20 ms)."""
SKIPPED = 1.0
"""Seconds of speech in no segment from which on a pass has left something out."""
LONG, SPARSE = 4.0, 1.2
"""Nobody speaks so many seconds with so few tokens a second."""
MISSED = 2.0
"""And from which on what is left out is decoded by itself: times may be wrong by as much as less."""
LITTLE = 5.0
"""Seconds of speech that the detector may have heard where there is none."""
PROMPT = 223
"""Tokens that may come before the text; key terms take half of them at most."""
COMPRESSION, LOG_PROBABILITY, NO_SPEECH = 2.4, -1.0, 0.6
"""Whisper's own bounds: of repetition, of doubt, and of silence."""
DOUBT = 0.5
"""A language less probable is looked for again as the library does it, in a window encoded in full."""
PUNCTUATION = [signature(WhisperModel.transcribe).parameters[side + "_punctuations"].default
               for side in ("prepend", "append")]  # fmt: skip
"""What belongs to the word after it, and to the word before."""

Said = Iterator[tuple[Segment, list[Word]]]
"""Segments as they come, each with its words if they were asked for."""


def told(s: Any) -> tuple[Segment, list[Word]]:
    """The library's segment as ours."""
    words = [Word(w.word, w.start, w.end, w.probability) for w in s.words or ()]
    return Segment(s.start, s.end, s.text, None, s.avg_logprob, s.compression_ratio,
                   s.no_speech_prob, s.temperature, s.tokens, s.seek), words  # fmt: skip


class Ticking:
    """The model of CTranslate2; `tick` is called before each pass, so that a cancel waits for one."""

    def __init__(self, model: Any, tick: Callable[[], None]) -> None:
        self.model, self.tick = model, tick

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, *given: Any, **options: Any) -> Any:
        self.tick()
        return self.model.generate(*given, **options)


def fitted(model: WhisperModel, prompt: str | None, terms: str | None) -> tuple[str | None, str | None]:
    """A prompt's end and the first of the key terms, so that both together leave room for the text."""
    if not (prompt and terms):
        return prompt, terms
    write = model.hf_tokenizer
    first = write.encode(" " + terms, add_special_tokens=False).ids[: PROMPT // 2]
    last = write.encode(" " + prompt, add_special_tokens=False).ids[len(first) - PROMPT :]
    return write.decode(last), write.decode(first)


class Encoder:
    """Turns sound into the encoder's states."""

    def __init__(self, model: WhisperModel) -> None:
        self.model = model
        self.silence: np.ndarray | None = None

    def states(self, samples: np.ndarray) -> np.ndarray:
        """The states of `samples` and of a margin of silence."""
        heard = self.model.feature_extractor(samples)[:, :-1][:, :FULL]
        length = min(FULL, heard.shape[1] + MARGIN)
        features = np.full((heard.shape[0], length + length % 2), heard.max() - FLOOR, np.float32)
        features[:, : heard.shape[1]] = heard
        return self.encode(features)

    def filled(self, states: list[np.ndarray], frames: int) -> StorageView:
        """Several windows' states with those of silence behind, up to so many frames each."""
        if self.silence is None:
            self.silence = self.encode(np.full((self.model.model.n_mels, FULL), -1.0, np.float32))
        size = min(frames, FULL) // 2
        rows = [
            np.concatenate([one[:, :size], self.silence[:, one.shape[1] : size]], axis=1) for one in states
        ]
        return StorageView.from_array(np.concatenate(rows))

    def encode(self, features: np.ndarray) -> np.ndarray:
        view = self.model.encode(features).to_device(Device.cpu)
        return np.array(view.to(DataType.float32) if view.dtype == DataType.bfloat16 else view)


@dataclass
class Wish:
    """What a request asks of the decoder, by the library's names."""

    language: str | None
    task: str
    beam_size: int
    temperature: tuple[float, ...]
    initial_prompt: str | None
    hotwords: str | None
    word_timestamps: bool


@dataclass
class Pass:
    """What one pass over a window gave, with the model's own measures of it."""

    tokens: list[int]
    pieces: list[tuple[int | None, int | None, list[int]]]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    cut_off: bool
    """Whether there was no room for more tokens."""

    def silent(self, window: Window) -> bool:
        """Whether the model hears nobody, and the voice detector hardly anybody."""
        unsure = self.no_speech_prob > NO_SPEECH and self.avg_logprob < LOG_PROBABILITY
        return unsure and window.speech(window.start, window.end) < LITTLE * RATE

    def bad(self, window: Window, first_timestamp: int) -> bool:
        """Whether it should be done again."""
        text = [token for token in self.tokens if token < first_timestamp]
        return not self.silent(window) and (
            self.cut_off
            or len(self.tokens) >= window.most_tokens
            or self.compression_ratio > COMPRESSION
            or self.avg_logprob < LOG_PROBABILITY
            or loop(text) is not None
            or self.skips(window)
        )

    def skips(self, window: Window) -> bool:
        """Whether speech before, between, after or in the pieces was passed over."""
        for start, end, tokens in self.pieces:
            spoken = window.speech(
                window.start + (start or 0) * STEP, window.end if end is None else window.start + end * STEP
            )
            if spoken > LONG * RATE and len(tokens) * RATE < SPARSE * spoken:
                return True
        ends = [0, *(end for _, end, _ in self.pieces)]
        starts = [*(start for start, _, _ in self.pieces), (window.end - window.start) // STEP]
        return any(
            window.speech(window.start + end * STEP, window.start + start * STEP) > SKIPPED * RATE
            for end, start in zip(ends, starts, strict=True)
            if end is not None and start is not None
        )


class Decoder:
    """Decodes the windows of one recording."""

    def __init__(self, encoder: Encoder, samples: np.ndarray, wish: Wish, tick: Callable[[], None]) -> None:
        self.encoder, self.model = encoder, encoder.model
        self.samples, self.wish, self.tick = samples, wish, tick
        self.kept: dict[Window, np.ndarray] = {}
        self.last_word_end, self.reached = 0.0, 0.0

    def detect_language(self, first: list[Window]) -> tuple[str, float]:
        """The language most probably spoken in the first windows, and its probability."""
        heard = np.concatenate([self.samples[w.start : w.end] for w in first])
        states = self.encoder.states(heard)
        if len(first) == 1:
            self.kept[first[0]] = states
        token, probability = self.model.model.detect_language(self.encoder.filled([states], FULL))[0][0]
        return (token[2:-2], probability) if probability >= DOUBT else self.model.detect_language(heard)[:2]

    def speak(self, language: str) -> None:
        """Set the language decoded to."""
        model, wish = self.model, self.wish
        self.wish.language = language
        self.tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, wish.task, language)
        before = self.tokenizer.encode(" " + wish.initial_prompt.strip()) if wish.initial_prompt else []
        self.prompt = model.get_prompt(self.tokenizer, before, hotwords=wish.hotwords)
        self.untimed = [*self.prompt, self.tokenizer.no_timestamps]
        self.suppressed = get_suppressed_tokens(self.tokenizer, [-1])

    def decode_all(self, windows: Iterator[Window], batch: int) -> Said:
        """The segments of all windows, the first of them decoded alone: its words come at once."""
        size = 1
        while some := list(islice(windows, size)):
            yield from self.decode(some)
            size = batch

    def decode(self, batch: list[Window]) -> Said:
        """The segments of some windows, with their words if asked for."""
        states = []
        for window in batch:
            self.tick()
            kept = self.kept.pop(window, None)
            states.append(self.encoder.states(self.heard(window)) if kept is None else kept)
        self.tick()
        short = all(window.short for window in batch)
        frames = max(2 * one.shape[1] for one in states) + QUIET if short else FULL
        filled, most = self.encoder.filled(states, frames), max(window.most_tokens for window in batch)
        prompt = self.untimed if short else self.prompt
        room = min(most, self.model.max_length // 2, self.model.max_length - len(prompt) - 1)
        for window, one, result in zip(batch, states, self.generate(prompt, filled, room), strict=True):
            done = self.measured(window, result, room)
            if not done.bad(window, self.tokenizer.timestamp_begin):
                yield from self.segments(window, one, done)
            elif halves := window.halves():
                for half in halves:
                    yield from self.decode([half])
            else:
                yield from self.again(window)

    def heard(self, window: Window) -> np.ndarray:
        return self.samples[window.start : window.end]

    def generate(self, prompt: list[int], states: StorageView, room: int) -> list[Any]:
        """A pass over each window at the first temperature, of at most `room` tokens."""
        temperature = self.wish.temperature[0]
        how: dict[str, Any] = {"beam_size": self.wish.beam_size}
        if temperature > 0:
            how = {"beam_size": 1, "num_hypotheses": 5, "sampling_topk": 0}
            how["sampling_temperature"] = temperature
        return self.model.model.generate(
            states, [prompt] * states.shape[0], **how, suppress_tokens=self.suppressed,
            max_length=max(2 * room, room + len(prompt)),  # halved inside
            return_scores=True, return_no_speech_prob=True,
        )  # fmt: skip

    def measured(self, window: Window, result: Any, room: int) -> Pass:
        """A pass without what it heard behind the end of its window, where there is only fill."""
        tokens, last = result.sequences_ids[0], (window.end - window.start) // STEP
        cut_off = len(tokens) >= room
        probability = result.scores[0] * len(tokens) / (len(tokens) + 1)
        found = [
            piece
            for piece in pieces(tokens, self.tokenizer.timestamp_begin)
            if piece[0] is None or piece[0] < last
        ]
        tokens = [token for piece in found for token in piece[2]]
        ratio = get_compression_ratio(self.tokenizer.decode(tokens).strip())
        return Pass(tokens, found, probability, result.no_speech_prob, ratio, cut_off)

    def again(self, window: Window) -> Said:
        """A window as the library decodes it, with the temperature raised until it looks good.

        The library, too, may pass over sentences: these are decoded by themselves.
        """
        at = window.start
        stream, _ = self.model.transcribe(
            self.heard(window), **vars(self.wish), condition_on_previous_text=False
        )
        for segment, words in map(told, stream):
            self.tick()
            offset, end = window.start / RATE, window.end / RATE
            yield from self.missed(window, at, int((segment.start + offset) * RATE))
            for it in (segment, *words):
                it.start, it.end = self.onward(min(it.start + offset, end), min(it.end + offset, end))
            segment.seek += window.start // FRAME
            at = max(at, int(segment.end * RATE))
            yield segment, words
        yield from self.missed(window, at, window.end)

    def missed(self, window: Window, first: int, last: int) -> Said:
        """What was said in a part of a window that no segment covers, if that is much."""
        rest = window.between(first, last)
        whole = first == window.start and last == window.end
        if rest and not whole and rest.speech(first, last) > MISSED * RATE:
            yield from self.decode([rest])

    def segments(self, window: Window, states: np.ndarray, done: Pass) -> Said:
        """What was said in a window."""
        if done.silent(window):
            return
        seek, found = window.start // FRAME, list[dict[str, Any]]()
        for start, end, tokens in done.pieces:
            begin = window.speech_start if start is None else min(window.start + start * STEP, window.end)
            stop = window.speech_end if end is None else min(window.start + end * STEP, window.end)
            found.append({"seek": seek, "start": begin / RATE, "end": max(begin, stop) / RATE,
                          "tokens": tokens, "words": []})  # fmt: skip
        if not found:
            return
        if self.wish.word_timestamps:
            frames = (window.end - window.start) // FRAME
            filled = self.encoder.filled([states], frames + MARGIN)
            self.last_word_end = self.model.add_word_timestamps(
                [found], self.tokenizer, filled, frames, *PUNCTUATION, self.last_word_end
            )
        measures = (
            None,
            done.avg_logprob,
            done.compression_ratio,
            done.no_speech_prob,
            self.wish.temperature[0],
        )
        for piece in found:
            text = self.tokenizer.decode(piece["tokens"])
            if text.strip():
                at = self.onward(piece["start"], piece["end"])
                yield Segment(*at, text, *measures, piece["tokens"], seek), [*map(self.word, piece["words"])]

    def word(self, w: dict[str, Any]) -> Word:
        return Word(w["word"], *self.onward(w["start"], w["end"]), w["probability"])

    def onward(self, start: float, end: float) -> tuple[float, float]:
        """Start and end of a segment or a word, not before what came earlier."""
        self.reached = max(round(start, 2), self.reached)
        return self.reached, max(self.reached, round(end, 2))
