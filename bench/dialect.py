"""What a vendor's dialect adds to a waited native call: the same recording, words with times, in turns.

Both calls are answered by the real model with the same options, each minus its own transcription
(the vendor's answer does not say how long that took, so it is read from its job afterwards).
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from bench import recordings
from bench.figure import Figure
from bench.server import MODEL, PATH, body, seconds_of, serving, temporary

VENDOR = "/v1/speech-to-text"
ROUNDS, QUICK_ROUNDS = 45, 8
WARM_UPS = 3


def run(quick: bool) -> Iterator[Figure]:
    """The synchronous ElevenLabs call beside the native one, each without its transcription."""
    native: list[float] = []
    vendor: list[float] = []
    with temporary() as folder, serving() as server, server.connect() as connection:
        clip = recordings.clip(folder)
        asked = body(clip, model=MODEL, wait="true", word_timestamps="true")
        foreign = body(clip, model_id=MODEL)
        for number in range(WARM_UPS + (QUICK_ROUNDS if quick else ROUNDS)):
            turns = ((native, PATH, asked), (vendor, VENDOR, foreign))
            for times, path, form in turns if number % 2 else reversed(turns):
                answer, wall = connection.post(form, path)
                own = times is native
                job: Any = answer if own else connection.get(f"{PATH}/{answer['transcription_id']}")
                if number >= WARM_UPS:
                    times.append(wall - seconds_of(job, "transcribe"))
    yield Figure("dialect: native waited call - its transcription", median(native) * 1000, "ms")
    yield Figure("dialect: ElevenLabs call - its transcription", median(vendor) * 1000, "ms")
    yield Figure("dialect: ElevenLabs over native", (median(vendor) - median(native)) * 1000, "ms", 10)
