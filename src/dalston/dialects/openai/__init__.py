"""OpenAI's audio API: transcriptions and translations."""

from __future__ import annotations

from dalston.dialects.base import Dialect
from dalston.dialects.openai.answer import answer
from dalston.dialects.openai.errors import error
from dalston.dialects.openai.form import MODELS, Form, Translation
from dalston.dialects.openai.models import models
from dalston.dialects.openai.request import submission, translation

OPENAI = Dialect("openai", Form, submission, answer, error, models, "error", MODELS)
TRANSLATIONS = OPENAI._replace(form=Translation, submission=translation)
