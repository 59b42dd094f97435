"""Words to the phones of the acoustic model, with the neural G2P of the package hama."""

from __future__ import annotations

from functools import cached_property

from hama import G2PModel, Vocabulary
from spelling import said

SUFFIXES = {"s": "z", "m": "m", "re": "ɹ", "ve": "v", "ll": "l", "d": "d"}
"""What follows an apostrophe in English, said as one phone; the G2P makes a syllable of it."""


class Indexed(Vocabulary):
    """The vocabulary with its indices made once: the package makes them for every letter (25 ms a word)."""

    encoder_token_to_id = cached_property(lambda self: {token: i for i, token in enumerate(self.encoder)})
    decoder_token_to_id = cached_property(lambda self: {token: i for i, token in enumerate(self.decoder)})


class Pronunciation:
    """Gives words their phones, each distinct one worked out once."""

    def __init__(self) -> None:
        self.g2p = G2PModel()
        self.vocabulary = Indexed(self.g2p.vocab.encoder, self.g2p.vocab.decoder)
        self.g2p.vocab = self.g2p.tokenizer.vocab = self.vocabulary
        self.known: dict[str, list[int]] = {}

    def phones(self, text: str, language: str) -> list[int]:
        """The phones of a written word as indices of the vocabulary; empty when nothing of it is said."""
        return [phone for word in said(text, language) for phone in self._of(word)]

    def _of(self, word: str) -> list[int]:
        if word not in self.known:
            stem, _, suffix = word.partition("'")
            ending = SUFFIXES.get(suffix)
            plain = stem if ending else stem + suffix
            phones = [alignment.phoneme for alignment in self.g2p.predict(plain).alignments]
            phones += [ending] if ending else []
            indices = self.vocabulary.decoder_token_to_id
            self.known[word] = [indices[phone] for phone in phones if phone.strip()]
        return self.known[word]
