"""From a request and the fleet to a plan: a pure function.

Engines are chosen by what their cards say, by name only when the request names one. What no engine
alive can do is refused here, at once, with a sentence that says what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

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

    `none`: prepare → transcribe → merge.
    """
    try:
        if request.speaker_detection != "none":
            raise BadRequest(
                f"speaker_detection={request.speaker_detection} is not supported; only none is.",
                code="unsupported_option",
            )
        prepare = _by_stage("prepare", fleet)
        transcribe, model = _transcriber(request, fleet)
        merge = _by_stage("merge", fleet)
        options = _options(request, model, transcribe)
    except DalstonError as refusal:
        return refusal
    return [
        PlanTask(f"{job}.prepare", "prepare", prepare.id, [], "{}"),
        PlanTask(f"{job}.transcribe", "transcribe", transcribe.id, [f"{job}.prepare"], options),
        PlanTask(f"{job}.merge", "merge", merge.id, [f"{job}.prepare", f"{job}.transcribe"], "{}"),
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
    card, (name, _) = fluent[0]
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


def _options(request: TranscribeRequest, model: str | None, card: Card) -> str:
    """The options for an engine as JSON, checked against its schema."""
    values = dict(request.options)
    if request.language is not None:
        values["language"] = request.language
    known = sorted(card.params.get("properties", {}))
    if request.word_timestamps and not card.words:
        raise BadRequest(f"{card.id} gives no word times.", code="unsupported_option", status=422)
    if request.word_timestamps is not None and "word_timestamps" in known:
        values["word_timestamps"] = request.word_timestamps
    if unknown := sorted(set(values) - set(known)):
        raise BadRequest(
            f"{card.id} has no option {', '.join(unknown)}. It has: {', '.join(known)}.",
            code="invalid_option",
        )
    try:
        options = msgspec.to_builtins(validated(type_of(card.params), values))
    except BadInput as error:
        raise BadRequest(error.message, code=error.code) from None
    return msgspec.json.encode(options | ({"model": model} if model else {})).decode()


def _names(fleet: Sequence[Card]) -> str:
    return ", ".join(card.id for card in fleet)
