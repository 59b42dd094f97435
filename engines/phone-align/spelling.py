"""Written words as they are said: numbers and symbols in full, letters by their names."""

from __future__ import annotations

import re
import unicodedata

from num2words import num2words

TOKEN = re.compile(r"(\d[\d,]*(?:\.\d+)?)(st|nd|rd|th)?(?![^\W\d_])|(\d+)|([^\W\d_]+(?:'[^\W\d_]+)*)|(\S)")
MONEY = re.compile(r"([$€£₩])\s?(\d[\d,]*(?:\.\d+)?)")
YEAR = re.compile(r"1[1-9]\d\d|20\d\d")
INITIALS = re.compile(r"[B-DF-HJ-NP-TV-Z]{2,5}")
"""Capitals without a vowel, which nobody can say as a word."""
SYMBOLS = {
    "en": {"%": "percent", "&": "and", "+": "plus", "=": "equals", "@": "at", "#": "number", "°": "degrees",
           "$": "dollars", "€": "euros", "£": "pounds", "₩": "won"},
    "ko": {"%": "퍼센트", "&": "앤드", "+": "더하기", "=": "는", "@": "골뱅이", "#": "샵", "°": "도",
           "$": "달러", "€": "유로", "£": "파운드", "₩": "원"},
}  # fmt: skip
LETTERS = dict(zip(
    "abcdefghijklmnopqrstuvwxyz",
    ("ay", "bee", "see", "dee", "ee", "eff", "gee", "aitch", "eye", "jay", "kay", "el", "em", "en", "oh",
     "pee", "cue", "are", "ess", "tee", "you", "vee", "double you", "ex", "why", "zee"),
    strict=True,
))  # fmt: skip
LONGEST = 6
"""Digits up to which a number is read as one; longer ones, and those that begin with 0, digit by digit."""


def said(text: str, language: str) -> list[str]:
    """The words that a reader of `text` says, in small letters and without punctuation."""
    text = MONEY.sub(r"\2 \1", unicodedata.normalize("NFKC", text).replace("\u2019", "'"))
    words: list[str] = []
    for number, ordinal, digits, word, symbol in TOKEN.findall(text):
        if number or digits:
            words += _number((number or digits).replace(",", ""), bool(ordinal), language)
        elif word:
            words += _word(word)
        else:
            words += SYMBOLS[language].get(symbol, "").split()
    return words


def _number(digits: str, ordinal: bool, language: str) -> list[str]:
    whole, _, part = digits.partition(".")
    if len(whole) > LONGEST or (not part and whole[0] == "0" and whole != "0"):
        return [word for digit in digits.replace(".", "") for word in _number(digit, False, language)]
    english = language == "en" and not part  # of which alone the library knows the rest
    how = "ordinal" if ordinal and english else "year" if english and YEAR.fullmatch(digits) else "cardinal"
    value = float(digits) if "." in digits else int(digits)
    return re.findall(r"[^\W\d_]+", num2words(value, lang=language, to=how))


def _word(word: str) -> list[str]:
    if (len(word) == 1 and word not in {"a", "A"}) or INITIALS.fullmatch(word):
        return [name for letter in word.lower() for name in LETTERS.get(letter, letter).split()]
    return [word.lower()]
