"""Live utterances to English words with Moonshine tiny on onnxruntime: no word times, and no PyTorch."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from dalston_engine import Engine, Segment, Transcript, serve
from dalston_engine.live.speech import Speech

RATE = 16_000
SHORTEST = RATE // 4
"""Less than that holds no word, and the encoder cannot take much less."""
LONGEST = 30 * RATE
SILENCE = 0.001
STATE = 384
"""Samples to one state of the encoder; the decoder wants its mask by samples."""
BEGIN, END = 1, 2
TOKENS_PER_SECOND, TOKENS_MORE = 7, 8
"""Nobody speaks in more tokens than that: it is a loop."""
COMPRESSION, LOG_PROBABILITY = 2.4, -1.0
"""A text that packs better repeats itself; one less probable was read into noise."""
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class Moonshine(Engine):
    """Hears several utterances in one pass, each token of all of them at once."""

    def load(self, model: str, threads: int = 1) -> None:
        self.name, folder = model, Path(self.weights(model))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(folder / f"{part}.ort", options, ["CPUExecutionProvider"])
            for part in ("encoder", "decoder")
        )
        self.pieces = read_pieces((folder / "tokenizer.bin").read_bytes())
        self.past = [one.name for one in self.decoder.get_inputs() if one.name.startswith("past_key_values")]

    def listen(self, batch: list[Speech]) -> list[Transcript]:
        """What was said in each utterance."""
        answers = [Transcript([], language="en", model=self.name) for _ in batch]
        heard = {
            n: np.asarray(one.samples, np.float32)[:LONGEST] for n, one in enumerate(batch) if sounds(one)
        }
        for (n, samples), (tokens, sure) in zip(heard.items(), self.decoded([*heard.values()]), strict=True):
            text = self.text(tokens)
            if sure > LOG_PROBABILITY and any(map(str.isalnum, text)) and not repeats(text):
                end = round(len(samples) / RATE, 2)
                answers[n].segments.append(Segment(0.0, end, f" {text}", avg_logprob=sure))
        return answers

    def decoded(self, utterances: list[np.ndarray]) -> list[tuple[list[int], float]]:
        """The most probable tokens of each, and the mean logarithm of their probabilities."""
        count, rooms = len(utterances), [*map(room, utterances)]
        found, chances = [list[int]() for _ in rooms], [list[float]() for _ in rooms]
        given = self.encoded(utterances) if utterances else {}
        given |= {name: np.zeros((count, 8, 0, 36), np.float32) for name in self.past}
        tokens, running = np.full((count, 1), BEGIN), set(range(count))
        for step in range(max(rooms, default=0)):
            given |= {"input_ids": tokens, "use_cache_branch": np.array([step > 0])}
            logits, *present = self.decoder.run(None, given)
            for name, value in zip(self.past, present, strict=True):
                if step == 0 or ".decoder." in name:  # what it has from the encoder never changes
                    given[name] = value
            last = logits[:, -1]
            tokens = last.argmax(axis=1)[:, None]
            best = -np.log(np.exp(last - last.max(axis=1, keepdims=True)).sum(axis=1))
            for n in sorted(running):
                chances[n].append(float(best[n]))
                if tokens[n, 0] != END:
                    found[n].append(int(tokens[n, 0]))
                if tokens[n, 0] == END or len(found[n]) == rooms[n]:
                    running.remove(n)
            if not running:
                break
        return [(one, float(np.mean(chance))) for one, chance in zip(found, chances, strict=True)]

    def encoded(self, utterances: list[np.ndarray]) -> dict[str, Any]:
        """The encoder's states, each utterance's encoded alone, and which of them belong to it."""
        every = [
            self.encoder.run(
                None, {"input_values": one[None], "attention_mask": np.ones((1, len(one)), int)}
            )[0]
            for one in utterances
        ]
        longest = max(one.shape[1] for one in every)
        states = np.zeros((len(every), longest, every[0].shape[2]), np.float32)
        mask = np.zeros((len(every), longest * STATE), int)
        for n, one in enumerate(every):
            states[n, : one.shape[1]], mask[n, : one.shape[1] * STATE] = one[0], 1
        return {"encoder_hidden_states": states, "encoder_attention_mask": mask}

    def text(self, tokens: list[int]) -> str:
        joined = b"".join(self.pieces[token] for token in tokens)
        return joined.decode(errors="ignore").replace(SPACE, " ").strip()


def read_pieces(content: bytes) -> list[bytes]:
    """The pieces of text that tokens stand for: each one's length, in 7 bits or 14, and its bytes."""
    pieces, at = [], 0
    while at < len(content):
        length, at = content[at], at + 1
        if length >= 128:
            length, at = length - 128 + 128 * content[at], at + 1
        pieces.append(content[at : at + length])
        at += length
    return pieces


def sounds(one: Speech) -> bool:
    return len(one.samples) >= SHORTEST and bool(np.abs(one.samples).max() >= SILENCE)


def room(samples: np.ndarray) -> int:
    return len(samples) * TOKENS_PER_SECOND // RATE + TOKENS_MORE


def repeats(text: str) -> bool:
    plain = text.encode()
    return len(plain) / len(zlib.compress(plain)) > COMPRESSION


if __name__ == "__main__":
    serve(Moonshine)
