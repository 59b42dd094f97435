"""ElevenLabs' speech-to-text API."""

from __future__ import annotations

from dalston.dialects.base import Dialect
from dalston.dialects.elevenlabs.answer import answer
from dalston.dialects.elevenlabs.errors import error
from dalston.dialects.elevenlabs.examples import EXAMPLES
from dalston.dialects.elevenlabs.form import MODELS, Form
from dalston.dialects.elevenlabs.models import models
from dalston.dialects.elevenlabs.request import submission
from dalston.dialects.elevenlabs.webhooks import accepted, notice

ELEVENLABS = Dialect(
    "elevenlabs",
    Form,
    submission,
    answer,
    error,
    models,
    envelope="detail",
    names=MODELS,
    examples=EXAMPLES,
    accepted=accepted,
    notice=notice,
)
