"""What the server adds to a recording of ten minutes, as a share of its transcription."""

from __future__ import annotations

from collections.abc import Iterator

from bench import recordings
from bench.figure import Figure
from bench.server import seconds_of, serving, temporary, waited

RUNS, QUICK_RUNS = 2, 1


def run(quick: bool) -> Iterator[Figure]:
    """(Wall time - transcription) ÷ transcription of waited calls, after a warm-up; the worst counts."""
    with temporary() as folder, serving() as server, server.connect() as connection:
        connection.post(waited(recordings.clip(folder)))
        body = waited(recordings.long(folder))
        if not quick:
            connection.post(body)
        shares = []
        for _ in range(QUICK_RUNS if quick else RUNS):
            job, wall = connection.post(body)
            own = seconds_of(job, "transcribe")
            shares.append((wall - own) / own * 100)
        yield Figure("long: 10 min, added to its transcription", max(shares), "%", 1)
        yield Figure("long: added", (wall - own) * 1000, "ms")
        yield Figure("long: of which decoding (prepare)", seconds_of(job, "prepare") * 1000, "ms")
        yield Figure("long: its transcription", own, "s")
