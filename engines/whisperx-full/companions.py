"""The two models beside Whisper: one that knows letters, for times, and one that knows voices."""

from __future__ import annotations

from typing import Any

from dalston_engine import ModelUnavailable
from dalston_engine.models import Models

LETTERS = {
    "en": "facebook/wav2vec2-base-960h",
    "fr": "jonatasgrosman/wav2vec2-large-xlsr-53-french",
    "de": "jonatasgrosman/wav2vec2-large-xlsr-53-german",
    "es": "jonatasgrosman/wav2vec2-large-xlsr-53-spanish",
    "it": "jonatasgrosman/wav2vec2-large-xlsr-53-italian",
}
"""Where WhisperX takes a model from elsewhere: one of the hub, as it does for all other languages."""


def letters_of(language: str) -> str | None:
    """The model that knows a language's letters, if there is one."""
    from whisperx.alignment import DEFAULT_ALIGN_MODELS_HF

    return (DEFAULT_ALIGN_MODELS_HF | LETTERS).get(language)


def open_letters(models: Models, name: str, language: str, device: str) -> tuple[Any, dict[str, Any]]:
    """The network and what `whisperx.align` wants to know about it."""
    import whisperx
    from nltk.tokenize.punkt import PunktSentenceTokenizer
    from whisperx import alignment

    # WhisperX would fetch a trained one for each language; only where segments end depends on it.
    alignment.nltk_load = lambda _: PunktSentenceTokenizer()
    need = f"Times of words need the model {name}, which knows the letters of {language!r}."
    remedy = "Ask with word_timestamps=false and without diarize, or name another one as align_model."
    try:
        found = models.find(name)
        cache = str(models.cache)
        return whisperx.load_align_model(language, device, found, cache, model_cache_only=models.offline)
    except (ModelUnavailable, OSError, ValueError) as error:
        raise ModelUnavailable(f"{need} {_why(error)} {remedy}") from None


def open_voices(models: Models, name: str, device: str) -> Any:
    """The pipeline that tells speakers apart."""
    from whisperx.diarize import DiarizationPipeline

    need = f"Telling speakers apart needs the pipeline {name}."
    remedy = (
        "Accept its conditions at the model hub and start the server with HF_TOKEN set to a token of that "
        "account, or leave out diarize=true and let an engine of the stage diarize do it."
    )
    try:
        return DiarizationPipeline(models.find(name), device=device, cache_dir=str(models.cache))
    except Exception as error:  # the library says in many ways that it may not fetch something
        raise ModelUnavailable(f"{need} {_why(error)} {remedy}") from None


def _why(error: Exception) -> str:
    if isinstance(error, ModelUnavailable):
        return error.message
    return f"It could not be loaded ({type(error).__name__})."
