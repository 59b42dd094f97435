"""Languages as the vendors spell them: ISO 639-1 inside, 639-3 and English names outside."""

from __future__ import annotations

from dalston.errors import BadField

UNKNOWN = "und"
"""ISO 639-3 for a language that could not be determined."""
_SPOKEN = {
    "el": "greek",
    "ht": "haitian creole",
    "nn": "nynorsk",
    "pa": "punjabi",
    "ps": "pashto",
    "yue": "cantonese",
}
"""Where Whisper's name of a language, which is OpenAI's, is not the standard's."""


def short(field: str, code: str) -> str:
    """ISO 639-1 of a 639-1 or 639-3 code, 639-3 where there is no shorter one; raises BadField."""
    from iso639 import Lang
    from iso639.exceptions import InvalidLanguageValue

    try:
        known = Lang(code.strip().lower())
    except InvalidLanguageValue:
        raise BadField(
            field, f"The field `{field}` takes ISO 639-1 or 639-3 codes such as en or eng."
        ) from None
    return str(known.pt1 or known.pt3)


def long(code: str | None) -> str:
    """ISO 639-3 of a language as an engine names it."""
    from iso639 import Lang, is_language

    return str(Lang(code).pt3) if code and is_language(code) else UNKNOWN


def spoken(code: str) -> str:
    """A language's English name in lower case, as Whisper calls it."""
    from iso639 import Lang, is_language

    if code in _SPOKEN or not is_language(code):
        return _SPOKEN.get(code, code)
    return str(Lang(code).name).split(" (")[0].lower()
