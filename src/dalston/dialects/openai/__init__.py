"""OpenAI's audio API: transcriptions and translations."""

from __future__ import annotations

from dalston.dialects.base import Dialect, Stream
from dalston.dialects.openai.answer import answer
from dalston.dialects.openai.errors import error
from dalston.dialects.openai.examples import EXAMPLES
from dalston.dialects.openai.form import MODELS, Form, Translation
from dalston.dialects.openai.inline import inline
from dalston.dialects.openai.models import models
from dalston.dialects.openai.request import patience, submission, translation
from dalston.dialects.openai.stream import broken, delta, last

OPENAI = Dialect(
    "openai",
    Form,
    submission,
    answer,
    error,
    models,
    envelope="error",
    names=MODELS,
    examples=EXAMPLES,
    stream=Stream(delta, last, broken),
    inline=inline,
    patience=patience,
)
TRANSLATIONS = OPENAI._replace(form=Translation, submission=translation)
