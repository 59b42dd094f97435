"""How well one recording was heard, and all recordings of a set together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Any

from dalston_engine.types import Turn, Word
from msgspec import Struct

from dalston.evaluation.recordings import JOINED, Recording
from dalston.evaluation.speakers import COLLAR_S, Diarized, count, diarization
from dalston.evaluation.words import Offsets, Rate, error_rate, offsets, permuted_error_rate, tokens, unit


class Heard(Struct, omit_defaults=True):
    """What was made of a recording; None: nothing of the kind was asked for, or given."""

    text: str | None = None
    words: list[Word] | None = None
    turns: list[Turn] | None = None
    language: str | None = None
    """As given, or as detected."""
    duration: float | None = None
    """Seconds of audio decoded."""
    model: str | None = None
    """What transcribed, if it has a name."""
    cpu: dict[str, float] | None = None
    """CPU seconds of each process that had to do with it."""
    seconds: float | None = None
    """Wall seconds until the answer was there."""
    failure: str | None = None
    """The error's code when there is no transcript: it counts as having heard nothing."""


class Scores(Struct, omit_defaults=True):
    """What can be said of one answer with what is known of its recording."""

    word_errors: Rate | None = None
    """Of words, or of characters where the language has no spaces."""
    made_up: int | None = None
    """Words on a recording in which nobody speaks."""
    offsets: Offsets | None = None
    diarization: Diarized | None = None
    diarization_collar: Diarized | None = None
    speakers: int | None = None
    """How many were found."""
    permuted: Rate | None = None
    """cpWER."""


class Result(Struct, omit_defaults=True):
    """One recording, and what was made of it by the server and by the bare libraries."""

    audio: str
    set: str
    language: str | None
    unit: str
    """What `word_errors` count: `words` or `characters`."""
    detection: str
    """The `speaker_detection` it was sent with."""
    speakers: int | None
    """How many there are."""
    text: str | None
    """What is said."""
    ours: Heard
    scores: Scores
    bare: Heard | None = None
    bare_scores: Scores | None = None


def result(recording: Recording, detection: str, ours: Heard, bare: Heard | None) -> Result:
    """Both answers held against the truth; times of words are those of words that both got right."""
    seconds = ours.duration or (bare and bare.duration) or 0.0
    found = scores(recording, ours, seconds)
    other = None if bare is None else scores(recording, bare, seconds)
    if other and other.offsets and found.offsets:
        shared = set(found.offsets.places) & set(other.offsets.places)
        found.offsets, other.offsets = found.offsets.of(shared), other.offsets.of(shared)
    return Result(
        audio=recording.name,
        set=recording.set,
        language=recording.language,
        unit=unit(recording.language),
        detection=detection,
        speakers=None if recording.turns is None else count(recording.turns),
        text=recording.text,
        ours=ours,
        scores=found,
        bare=bare,
        bare_scores=other,
    )


def scores(recording: Recording, heard: Heard, seconds: float) -> Scores:
    """One answer held against the truth, of a recording of so many seconds."""
    found, language = Scores(), recording.language
    if recording.text == "" and heard.text is not None:
        found.made_up = len(tokens(heard.text, language or heard.language))
    elif recording.text and heard.text is not None:
        found.word_errors = error_rate(recording.text, heard.text, language)
    if recording.words is not None and heard.words is not None:
        found.offsets = offsets(recording.words, heard.words)
    if recording.turns is not None and heard.turns is not None:
        end = max([seconds, *(turn.end for turn in recording.turns)])
        found.diarization = diarization(recording.turns, heard.turns, end)
        found.diarization_collar = diarization(recording.turns, heard.turns, end, COLLAR_S)
        found.speakers = count(heard.turns)
    if recording.spoken and (spoken := _spoken(heard)) is not None:
        found.permuted = permuted_error_rate(recording.spoken, spoken, language)
    return found


def _spoken(heard: Heard) -> dict[str, str] | None:
    """What each speaker says, if the answer tells speakers."""
    if heard.failure:
        return {}
    words = heard.words or []
    if not any(word.speaker for word in words):
        return None
    names = dict.fromkeys(word.speaker or "" for word in words)
    return {name: "".join(w.text for w in words if (w.speaker or "") == name) for name in names}


class Measures(Struct, omit_defaults=True):
    """All answers of one kind to a set of recordings; rates are errors in all by length in all."""

    error_rate: float | None = None
    """Word error rate, or character error rate; 1 is as many errors as there are words."""
    made_up: int | None = None
    """Words on recordings in which nobody speaks."""
    start_offset: float | None = None
    """Median of the seconds by which matched words' starts are off."""
    start_offset_mean: float | None = None
    end_offset: float | None = None
    end_offset_mean: float | None = None
    boundary_offset_mean: float | None = None
    """Mean of both."""
    matched: int | None = None
    """How many words those are of; with two systems, of words that both got right."""
    der: float | None = None
    """Diarization error rate: no collar, overlaps included."""
    der_collar: float | None = None
    """The same with a collar of 0.25 s on each side."""
    speaker_error: float | None = None
    """Mean of how many speakers too many or too few were found."""
    cpwer: float | None = None
    cpu: float | None = None
    """CPU seconds, of the recordings that both systems did the same with, if there are two."""


class Summary(Struct, omit_defaults=True):
    """A set of recordings in one language."""

    set: str
    language: str | None
    unit: str
    recordings: int
    seconds: float
    """Of audio."""
    failed: int
    ours: Measures
    bare: Measures | None = None
    cpu_ratio: float | None = None
    """CPU seconds of the whole server by those of the bare libraries, for the same work."""


def summaries(results: Sequence[Result]) -> list[Summary]:
    """A summary of each set in each language, of each language, and of all that is counted alike.

    What was joined of other recordings is in no sum with them.
    """
    sets: dict[tuple[str, str | None, str], list[Result]] = {}
    sums: dict[tuple[str, str | None, str], list[Result]] = {}
    totals: dict[tuple[str, str | None, str], list[Result]] = {}
    for one in results:
        sets.setdefault((one.set, one.language, one.unit), []).append(one)
        if one.set != JOINED:
            sums.setdefault(("all", one.language, one.unit), []).append(one)
            totals.setdefault(("all", "all", one.unit), []).append(one)
    return [summary(*kind, found) for kind, found in (sets | sums | totals).items()]


def summary(set: str, language: str | None, unit: str, results: Sequence[Result]) -> Summary:
    """Those recordings together."""
    same = [r for r in results if r.bare is None or _same_work(r)]
    ours = measures([(r.scores, r.speakers) for r in results], _cpu(r.ours for r in same))
    both = [(r.scores, r.bare_scores, r.speakers) for r in results if r.bare_scores is not None]
    bare = measures(_comparable(both), _cpu(r.bare for r in same if r.bare)) if both else None
    return Summary(
        set=set,
        language=language,
        unit=unit,
        recordings=len(results),
        seconds=round(sum(r.ours.duration or 0 for r in results), 3),
        failed=sum(r.ours.failure is not None for r in results),
        ours=ours,
        bare=bare,
        cpu_ratio=ours.cpu / bare.cpu if bare and ours.cpu and bare.cpu else None,
    )


def _comparable(found: Sequence[tuple[Scores, Scores, int | None]]) -> list[tuple[Scores, int | None]]:
    """The second scores, without the kinds that are not of the same recordings as the first ones."""
    kinds = [
        kind
        for kind in Scores.__struct_fields__
        if all((getattr(ours, kind) is None) == (getattr(bare, kind) is None) for ours, bare, _ in found)
    ]
    return [
        (Scores(**{kind: getattr(bare, kind) for kind in kinds}), speakers) for _, bare, speakers in found
    ]


def _same_work(result: Result) -> bool:
    """Whether both transcribed the whole once, and both or none told speakers apart."""
    bare = result.bare
    if bare is None or result.detection == "per_channel" or result.ours.failure or bare.text is None:
        return False
    return (result.detection == "diarize") == (bare.turns is not None)


def _cpu(heard: Iterable[Heard]) -> float | None:
    known = [sum(one.cpu.values()) for one in heard if one.cpu is not None]
    return sum(known) if known else None


def measures(found: Sequence[tuple[Scores, int | None]], cpu: float | None) -> Measures:
    """Scores together, each with the true number of speakers; what none of them has stays absent."""
    every = [scores for scores, _ in found]
    made_up = _known(every, lambda s: s.made_up)
    matched = _known(every, lambda s: s.offsets)
    starts = [seconds for one in matched for seconds in one.starts]
    ends = [seconds for one in matched for seconds in one.ends]
    counted = [abs(s.speakers - true) for s, true in found if s.speakers is not None and true is not None]
    return Measures(
        error_rate=_pooled(_known(every, lambda s: s.word_errors)),
        made_up=sum(made_up) if made_up else None,
        start_offset=median(starts) if starts else None,
        start_offset_mean=fmean(starts) if starts else None,
        end_offset=median(ends) if ends else None,
        end_offset_mean=fmean(ends) if ends else None,
        boundary_offset_mean=fmean(starts + ends) if starts else None,
        matched=len(starts) if matched else None,
        der=_pooled(_known(every, lambda s: s.diarization)),
        der_collar=_pooled(_known(every, lambda s: s.diarization_collar)),
        speaker_error=fmean(counted) if counted else None,
        cpwer=_pooled(_known(every, lambda s: s.permuted)),
        cpu=cpu,
    )


def _known(every: Sequence[Scores], part: Callable[[Scores], Any]) -> list[Any]:
    return [value for value in map(part, every) if value is not None]


def _pooled(rates: Sequence[Any]) -> float | None:
    """The rate of all together; None without any, or without anything to be wrong about."""
    if not rates:
        return None
    first, *others = rates
    whole = sum(others, start=first)
    try:
        return float(whole.value)
    except ZeroDivisionError:
        return None
