"""What an evaluation found, as JSON and as rows of tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

import dalston
from dalston.evaluation.scores import Heard, Measures, Result, Summary, summaries

WORDS = ("set", "language", "recordings", "failed", "audio s", "word errors %", "made up words",
         "CPU s", "CPU ratio")  # fmt: skip
TIMES = ("set", "language", "words", "starts off ms", "mean", "ends off ms", "mean", "boundaries off ms")
SPEAKERS = ("set", "language", "DER %", "DER % (collar)", "speakers off", "cpWER %")


class Report(Struct):
    """A whole evaluation."""

    at: datetime
    version: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    """What was asked for, and what the bare libraries are."""
    summaries: list[Summary]
    recordings: list[Result]


def report(results: Sequence[Result], settings: dict[str, Any], texts: bool) -> Report:
    """All that was found; what was said is left out unless `texts`."""
    machine = {"cores": os.cpu_count(), "system": platform.system(), "architecture": platform.machine()}
    return Report(
        at=datetime.now(UTC).replace(microsecond=0),
        version=dalston.__version__,
        machine=machine,
        settings=settings,
        summaries=summaries(results),
        recordings=list(results) if texts else [_silent(result) for result in results],
    )


def _silent(result: Result) -> Result:
    def without(heard: Heard) -> Heard:
        return msgspec.structs.replace(heard, text=None, words=None)

    bare = None if result.bare is None else without(result.bare)
    return msgspec.structs.replace(result, text=None, ours=without(result.ours), bare=bare)


def word_rows(found: Sequence[Summary]) -> list[list[str]]:
    """The table of words; figures of the bare libraries are in brackets."""
    rows = []
    for one in found:
        errors = _both(one, "error_rate", 100, 2)
        rows.append([
            one.set,
            one.language or "",
            str(one.recordings),
            str(one.failed or ""),
            f"{one.seconds:.0f}",
            f"{errors} of characters" if errors and one.unit == "characters" else errors,
            _both(one, "made_up", 1, 0),
            _both(one, "cpu", 1, 1),
            "" if one.cpu_ratio is None else f"{one.cpu_ratio:.2f}",
        ])  # fmt: skip
    return rows


def time_rows(found: Sequence[Summary]) -> list[list[str]]:
    """The table of words' times; sets in which no word's times are known are left out."""
    offsets = ("start_offset", "start_offset_mean", "end_offset", "end_offset_mean", "boundary_offset_mean")
    return [
        [one.set, one.language or "", str(one.ours.matched), *(_both(one, name, 1000, 0) for name in offsets)]
        for one in found
        if one.ours.matched
    ]


def speaker_rows(found: Sequence[Summary]) -> list[list[str]]:
    """The table of speakers; sets whose speakers are not known are left out."""
    return [
        [
            one.set,
            one.language or "",
            _both(one, "der", 100, 1),
            _both(one, "der_collar", 100, 1),
            _both(one, "speaker_error", 1, 1),
            _both(one, "cpwer", 100, 1),
        ]
        for one in found
        if one.ours.der is not None or one.ours.cpwer is not None
    ]


def _both(summary: Summary, name: str, factor: float, digits: int) -> str:
    ours, bare = _figure(summary.ours, name, factor, digits), _figure(summary.bare, name, factor, digits)
    return f"{ours} ({bare})" if bare else ours


def _figure(measures: Measures | None, name: str, factor: float, digits: int) -> str:
    value = getattr(measures, name, None)
    return "" if value is None else f"{value * factor:.{digits}f}"
