"""From a request and the fleet to a plan: a pure function.

What no engine alive can do is refused here, at once, with a sentence that says what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from dalston_engine.errors import BadInput, DalstonError
from dalston_engine.parameters import validated
from dalston_engine.types import Card

from dalston.errors import BadRequest
from dalston.orchestrator.choosing import Choice, Team, rules, team, unsupported
from dalston.orchestrator.options import type_of
from dalston.request import TranscribeRequest
from dalston.store.files import PlanTask

Plan = list[PlanTask]
"""A job's tasks in an order in which each comes after what it needs; the last is the sink."""


def plan(job: str, request: TranscribeRequest, fleet: Sequence[Card]) -> Plan | DalstonError:
    """The tasks that fulfil `request`, or the reason why nothing alive can.

    prepare → transcribe (→ align) → merge, and diarize beside these from prepare to merge, unless the
    transcribing engine tells speakers apart by itself. Prepare may grow the plan: by a transcribe (and an
    align) task for each channel, or for each part of a long recording.
    """
    try:
        chosen = team(request, fleet)
        return _tasks(job, request, chosen, _params(request, chosen))
    except DalstonError as refusal:
        return refusal


def _tasks(job: str, request: TranscribeRequest, chosen: Team, params: dict[str, str]) -> Plan:
    channels, split = request.speaker_detection == "per_channel", _may_split(request, chosen)
    grows = channels or split

    def task(stage: str, choice: Choice, *needs: str, **more: bool) -> PlanTask:
        needed = [f"{job}.{need}" for need in needs]
        return PlanTask(f"{job}.{stage}", stage, choice.card.id, needed, params[stage], **more)

    tasks = [
        task("prepare", chosen.prepare, grows=grows),
        task("transcribe", chosen.transcribe, "prepare", each=grows),
    ]
    if chosen.align:  # times that nobody asked for are worth no failure
        wordless = bool(request.word_timestamps) and not chosen.transcribe.card.words
        required = bool(request.align or request.aligner or wordless)
        tasks.append(task("align", chosen.align, "prepare", "transcribe", required=required, each=grows))
    if chosen.diarize:
        tasks.append(task("diarize", chosen.diarize, "prepare"))
    return [*tasks, task("merge", chosen.merge, *(one.stage for one in tasks))]


def _may_split(request: TranscribeRequest, chosen: Team) -> bool:
    """Whether a long recording may be cut in time: not for who follows it from its beginning, nor where one
    engine has to hear it all."""
    heard_whole = request.speaker_detection == "diarize" and chosen.diarize is None
    apart = request.speaker_detection == "per_channel"
    return "split" in rules(chosen.prepare.card) and not (request.stream or heard_whole or apart)


def _params(request: TranscribeRequest, chosen: Team) -> dict[str, str]:
    """What each stage's engine is told, as JSON; raises BadRequest for what none of them takes."""
    words = chosen.transcribe
    told = {
        "prepare": _reading(request, chosen),
        "transcribe": _flags(request, chosen),
        "align": {},
        "diarize": {},
        "merge": _joining(request, chosen),
    }
    choices = {"transcribe": words, "align": chosen.align, "diarize": chosen.diarize}
    asked = {stage: choice for stage, choice in choices.items() if choice}
    known = {stage: sorted(rules(choice.card)) for stage, choice in asked.items()}
    if unknown := sorted(set(request.options) - {name for names in known.values() for name in names}):
        raise BadRequest(
            f"{' and '.join(choice.card.id for choice in asked.values())} "
            f"{'has' if len(asked) == 1 else 'have'} no option {', '.join(unknown)}. "
            f"There are: {', '.join(dict.fromkeys(name for names in known.values() for name in names))}.",
            code="invalid_option",
        )
    for stage, choice in asked.items():
        mine = {name: value for name, value in request.options.items() if name in known[stage]}
        told[stage] = _checked(choice.card, mine | told[stage])
    told["transcribe"] |= {"model": words.name} if words.name else {}
    told["transcribe"] |= {"stream": True} if request.stream else {}
    return {stage: msgspec.json.encode(values).decode() for stage, values in told.items()}


def _checked(card: Card, values: dict[str, Any]) -> dict[str, Any]:
    """Options as an engine's schema has them."""
    try:
        return dict(msgspec.to_builtins(validated(type_of(card.params), values)))
    except BadInput as error:
        raise BadRequest(error.message, code=error.code) from None


def _reading(request: TranscribeRequest, chosen: Team) -> dict[str, Any]:
    """The options for prepare; raises BadRequest for a source it cannot read so."""
    card = chosen.prepare.card
    wanted: dict[str, Any] = {"per_channel": True} if request.speaker_detection == "per_channel" else {}
    wanted |= {"source_format": request.source_format} if request.source_format else {}
    for name in wanted:
        if name not in rules(card):
            raise unsupported(f"{card.id} has no option {name}: another prepare engine is needed for this.")
    return wanted | ({"split": True} if _may_split(request, chosen) else {})


def _joining(request: TranscribeRequest, chosen: Team) -> dict[str, Any]:
    """The options for merge: to leave out the words that were needed on the way."""
    needless = request.word_timestamps is False
    return {"words": False} if needless and "words" in rules(chosen.merge.card) else {}


def _flags(request: TranscribeRequest, chosen: Team) -> dict[str, Any]:
    """What is asked of the transcribing engine in words that every such engine knows, if it has them."""
    card = chosen.transcribe.card
    flags: dict[str, Any] = {"task": "translate"} if request.task == "translate" else {}
    flags |= {"characters": True} if request.characters else {}
    flags |= {"diarize": True} if request.speaker_detection == "diarize" and not chosen.diarize else {}
    flags |= {} if request.word_timestamps is None else {"word_timestamps": request.word_timestamps}
    flags |= {} if chosen.alone else {"word_timestamps": True}
    flags = {name: value for name, value in flags.items() if name in rules(card)}
    return ({} if request.language is None else {"language": request.language}) | flags
