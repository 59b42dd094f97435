"""From a request and the fleet to a plan: a pure function.

Engines are chosen by what their cards say, by name only when the request names one. What no engine
alive can do is refused here, at once, with a sentence that says what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from dalston_engine.errors import BadInput, DalstonError
from dalston_engine.parameters import validated
from dalston_engine.types import Card, ModelCard

from dalston.errors import BadRequest, Refusal
from dalston.orchestrator.options import type_of
from dalston.request import TranscribeRequest
from dalston.store.files import PlanTask

Plan = list[PlanTask]
"""A job's tasks in an order in which each comes after what it needs; the last is the sink."""


def plan(job: str, request: TranscribeRequest, fleet: Sequence[Card]) -> Plan | DalstonError:
    """The tasks that fulfil `request`, or the reason why nothing alive can.

    `none`, and `diarize` by an engine that can: prepare → transcribe → merge. `per_channel`: the same,
    but prepare grows the plan by a transcribe task for each channel.
    """
    try:
        prepare = _by_stage("prepare", fleet)
        transcribe, model = _transcriber(request, fleet)
        merge = _by_stage("merge", fleet)
        reading = _reading(request, prepare)
        options = _options(request, model, transcribe)
    except DalstonError as refusal:
        return refusal
    split = request.speaker_detection == "per_channel"
    words = PlanTask(
        f"{job}.transcribe", "transcribe", transcribe.id, [f"{job}.prepare"], options, each=split
    )
    return [
        PlanTask(f"{job}.prepare", "prepare", prepare.id, [], reading, grows=split),
        words,
        PlanTask(f"{job}.merge", "merge", merge.id, [f"{job}.prepare", words.id], "{}"),
    ]


def _by_stage(stage: str, fleet: Sequence[Card]) -> Card:
    for card in fleet:
        if card.stage == stage and not card.scripted:
            return card
    raise Refusal(
        f"No running engine can {stage}. Running: {_names(fleet) or 'none'}. "
        "Start one with `dalston up --engines …`."
    )


def _transcriber(request: TranscribeRequest, fleet: Sequence[Card]) -> tuple[Card, str | None]:
    """The engine and the model for the words: named, or the first that knows the language."""
    cards = [card for card in fleet if card.stage == "transcribe"]
    offers = [(card, model) for card in cards for model in [_model(card, request.model)] if model]
    if not cards or (request.model is None and not offers):
        _by_stage("transcribe", fleet)
    if not offers:
        known = sorted({name for card in cards for name in (card.id, *card.models)})
        raise BadRequest(
            f"No running engine has the model {request.model!r}. There are: {', '.join(known)}.",
            code="unknown_model",
            status=404,
        )
    fluent = [(card, model) for card, model in offers if _speaks(model[1], request.language)]
    if not fluent:
        raise BadRequest(
            f"The language {request.language!r} is not one that "
            f"{' or '.join(model[0] or card.id for card, model in offers)} can transcribe.",
            code="unsupported_language",
            status=422,
        )
    able = [(card, model) for card, model in fluent if not lacking(request, card)]
    if not able:
        raise _unsupported(lacking(request, fluent[0][0]))
    card, (name, _) = able[0]
    return card, name


def _model(card: Card, asked: str | None) -> tuple[str | None, ModelCard] | None:
    """The model of `card` that answers to `asked`, if any; a scripted engine only to its name."""
    if card.scripted and asked != card.id:
        return None
    if asked is None or asked == card.id:
        name = card.default_model
        return name, card.models.get(name or "", ModelCard(card.languages))
    if asked in card.models:
        return asked, card.models[asked]
    return (asked, ModelCard(["*"])) if card.hub and "/" in asked else None


def _speaks(model: ModelCard, language: str | None) -> bool:
    return language is None or "*" in model.languages or language in model.languages


def lacking(request: TranscribeRequest, card: Card) -> str:
    """What the request asks for that a transcribing engine cannot do, as a sentence; empty if nothing."""
    tasks = _rules(card).get("task", {}).get("enum", [])
    if request.word_timestamps and not card.words:
        return f"{card.id} gives no word times."
    if request.characters and not card.characters:
        return f"{card.id} gives no times of characters."
    if request.probabilities and not card.probabilities:
        return f"{card.id} gives no probabilities of words, which this answer needs."
    if request.task == "translate" and "translate" not in tasks:
        return f"{card.id} cannot translate; name a model of an engine that can."
    if request.speaker_detection == "diarize" and not card.speakers:
        return (
            "No running engine can diarize, and "
            f"{card.id} does not tell speakers apart by itself. Start one that does with "
            "`dalston up --engines …`, or ask for speaker_detection=per_channel or none."
        )
    return ""


def _reading(request: TranscribeRequest, card: Card) -> str:
    """The options for prepare as JSON; raises BadRequest for a source it cannot read so."""
    wanted: dict[str, Any] = {"per_channel": True} if request.speaker_detection == "per_channel" else {}
    wanted |= {"source_format": request.source_format} if request.source_format else {}
    for name in wanted:
        if name not in _rules(card):
            raise _unsupported(f"{card.id} has no option {name}: another prepare engine is needed for this.")
    return msgspec.json.encode(wanted).decode()


def _unsupported(why: str) -> BadRequest:
    return BadRequest(why, code="unsupported_option", status=422)


def _rules(card: Card) -> dict[str, Any]:
    """The schemas of an engine's options."""
    return dict(card.params.get("properties", {}))


def _options(request: TranscribeRequest, model: str | None, card: Card) -> str:
    """The options for an engine as JSON, checked against its schema."""
    values = dict(request.options)
    if request.language is not None:
        values["language"] = request.language
    known = sorted(_rules(card))
    values |= {name: value for name, value in _flags(request).items() if name in known}
    if unknown := sorted(set(values) - set(known)):
        raise BadRequest(
            f"{card.id} has no option {', '.join(unknown)}. It has: {', '.join(known)}.",
            code="invalid_option",
        )
    try:
        options = msgspec.to_builtins(validated(type_of(card.params), values))
    except BadInput as error:
        raise BadRequest(error.message, code=error.code) from None
    options |= ({"model": model} if model else {}) | ({"stream": True} if request.stream else {})
    return msgspec.json.encode(options).decode()


def _flags(request: TranscribeRequest) -> dict[str, Any]:
    """What is asked for in words that every engine knows as options, if it has them."""
    flags: dict[str, Any] = {"task": "translate"} if request.task == "translate" else {}
    flags |= {"characters": True} if request.characters else {}
    flags |= {"diarize": True} if request.speaker_detection == "diarize" else {}
    flags |= {} if request.word_timestamps is None else {"word_timestamps": request.word_timestamps}
    return flags


def _names(fleet: Sequence[Card]) -> str:
    return ", ".join(card.id for card in fleet)
