"""What the answers look like, for the OpenAPI document."""

from __future__ import annotations

from dalston.dialects.base import Examples

ID = "01a2118053a5d124195fe77357cb9825"
EXAMPLES = Examples(
    done={
        "language_code": "eng",
        "language_probability": 0.98,
        "text": "Good morning.",
        "words": [
            {"text": "Good", "type": "word", "start": 0.0, "end": 0.34, "logprob": -0.02},
            {"text": " ", "type": "spacing", "start": 0.34, "end": 0.34, "logprob": 0.0},
            {"text": "morning.", "type": "word", "start": 0.34, "end": 0.9, "logprob": -0.01},
        ],
        "transcription_id": ID,
        "audio_duration_secs": 1.2,
    },
    models=[{"model_id": "base", "name": "base", "description": "Speech to text by faster-whisper."}],
    error={
        "detail": {
            "type": "validation_error",
            "code": "invalid_parameters",
            "status": "invalid_parameters",
            "message": "The field `num_speakers` needs `diarize=true`.",
            "request_id": "852440872df8a964a16c94d9",
            "param": "num_speakers",
        }
    },
)
