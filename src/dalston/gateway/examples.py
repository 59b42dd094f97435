"""An example of every answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

ID = "01a2118053a5d124195fe77357cb9825"

STAGES = [
    {"stage": "prepare", "engine": "prepare", "state": "completed", "attempt": 1, "progress": 1.0,
     "queued_seconds": 0.002, "seconds": 0.014},
    {"stage": "transcribe", "engine": "faster-whisper", "state": "completed", "attempt": 1, "progress": 1.0,
     "queued_seconds": 0.001, "seconds": 0.81},
    {"stage": "merge", "engine": "final-merger", "state": "completed", "attempt": 1, "progress": 1.0,
     "queued_seconds": 0.001, "seconds": 0.0002},
]  # fmt: skip
SEGMENT = {"start": 0.0, "end": 2.4, "text": " Good morning, everyone."}
TRANSCRIPT = {
    "text": "Good morning, everyone.",
    "segments": [SEGMENT],
    "words": [
        {"text": " Good", "start": 0.0, "end": 0.34, "probability": 0.98},
        {"text": " morning,", "start": 0.34, "end": 0.9, "probability": 0.99},
        {"text": " everyone.", "start": 1.0, "end": 2.4, "probability": 0.97},
    ],
    "language": "en",
    "duration": 2.6,
    "model": "base",
}
JOB = {
    "id": ID,
    "state": "completed",
    "created_at": "2026-11-25T06:12:32.422Z",
    "finished_at": "2026-11-25T06:12:33.279Z",
    "progress": 1.0,
    "source": {"bytes": 83_244, "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
               "filename": "meeting.flac"},
    "stages": STAGES,
} | TRANSCRIPT  # fmt: skip
INSTANCE = {"id": "host-4711-91f3", "state": "idle", "seen_seconds_ago": 1.2,
            "totals": {"completed": 12, "seconds": 9.7, "audio": 131.2}}  # fmt: skip
ENGINE = {
    "id": "faster-whisper",
    "stage": "transcribe",
    "version": "0.1.0",
    "default_model": "base",
    "hub": True,
    "words": True,
    "models": {"base": {"languages": ["*"], "local": True}},
    "params": {"type": "object", "properties": {"beam_size": {"type": "integer", "default": 5}}},
    "instances": [INSTANCE],
}
KEY = {
    "id": "5e0f6ad1b2c3",
    "name": "transcripts of the shop",
    "owner": "5e0f6ad1b2c3",
    "scopes": ["transcribe"],
    "created_at": "2026-11-25T06:12:32.422Z",
}
WEBHOOK = {"id": "5e0f6ad1b2c35e0f6ad1", "owner": "local", "name": "the shop", "url": "https://shop.example/said",
           "created_at": "2026-11-25T06:12:32.422Z", "retry": True}  # fmt: skip
DELIVERY = {"id": f"{ID}:direct", "job": ID, "webhook": "direct", "state": "delivered", "attempts": 1, 
            "status": 200, "at": "2026-11-25T06:12:33.279Z"}  # fmt: skip
NOT_RUNNING = {"code": "not_found", "message": f"There is no job {ID}."}
FAILED = {
    "code": "engine_error",
    "message": "faster-whisper failed on this recording: RuntimeError.",
    "status": 500,
}

WORKER = {"id": "host-4711-91f3", "engine": "faster-whisper", "state": "ready",
          "models": {"tiny.en": ["en"], "base": ["*"]}, "capacity": 12, "sessions": 3, "free": 9,
          "seen_seconds_ago": 0.2, "load": {"busy": 0.21}}  # fmt: skip

ALL: dict[str, Any] = {
    "LiveStatus": {"workers": [WORKER], "capacity": 12, "sessions": 3, "free": 9,
                   "totals": {"sessions": 40, "finals": 812, "moves": 1, "refused": 0, "ended": 36,
                              "failed": 0, "vanished": 1}},
    "LiveTranscript": {"id": ID, "state": "ended", "created_at": "2026-11-25T06:12:32.422Z",
                       "model": "tiny.en", "text": "Good morning, everyone.",
                       "segments": [{"start": 0.3, "end": 2.4, "text": "Good morning, everyone."}],
                       "language": "en", "duration": 3.1, "cause": "ended",
                       "finished_at": "2026-11-25T06:12:36.001Z"},
    "Job": JOB,
    "Jobs": {"jobs": [{name: JOB[name] for name in JOB if name not in TRANSCRIPT}],
             "next": f"1795587152422-{ID}"},
    "Stage": {"id": ID, "tasks": [STAGES[1] | {"result": {"segments": [SEGMENT], "language": "en"}}]},
    "Engines": {"engines": [ENGINE]},
    "Load": {"engine": "faster-whisper", "waiting": 3, "running": 1, "capacity": 1,
             "audio_seconds_ahead": 512.4},
    "DeadLetters": {"dead_letters": [{"job": ID, "task": f"{ID}.transcribe", "engine": "faster-whisper",
                                      "at": "2026-11-25T06:12:33.279Z", "error": FAILED}]},
    "Webhook": WEBHOOK,
    "Webhooks": {"webhooks": [WEBHOOK]},
    "NewWebhook": WEBHOOK | {"secret": "wsec_…"},
    "Secret": {"secret": "wsec_…"},
    "Delivery": DELIVERY,
    "Deliveries": {"deliveries": [DELIVERY]},
    "Keys": {"keys": [KEY]},
    "NewKey": KEY | {"secret": "dk_…"},
    "Status": {"status": "ok"},
    "Error": {"error": NOT_RUNNING},
}  # fmt: skip
EVENT = (
    "id: 1795587152422-0\nevent: change\n"
    f'data: {{"id":"1795587152422-0","job":"{ID}","state":"running","task":"transcribe"}}\n\n'
)
METRIC = (
    "# HELP dalston_queue_waiting Tasks that wait for an engine\n# TYPE dalston_queue_waiting gauge\n"
    'dalston_queue_waiting{engine="faster-whisper"} 3.0\n'
)
