"""Which engines do a request's stages: by what their cards say, by name only where the request names one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dalston_engine.types import Card, ModelCard
from msgspec import Struct

from dalston.errors import BadRequest, Refusal
from dalston.request import TranscribeRequest


class Choice(NamedTuple):
    """An engine, and which of its models."""

    card: Card
    name: str | None
    model: ModelCard

    @property
    def rank(self) -> tuple[bool, bool]:
        """Whose weights are on this machine comes first, and of these who is no fallback."""
        return bool(self.card.models) and not self.model.local, self.card.fallback


class Team(Struct):
    """Who does what of one job."""

    prepare: Choice
    transcribe: Choice
    merge: Choice
    align: Choice | None = None
    diarize: Choice | None = None
    """None also where the transcribing engine does it by itself."""

    @property
    def alone(self) -> bool:
        """Whether words come from the transcribing engine alone."""
        return self.align is None and self.diarize is None


def team(request: TranscribeRequest, fleet: Sequence[Card]) -> Team:
    """The engines for a request; raises Refusal or BadRequest for what none alive can do."""
    prepare = _any("prepare", fleet)
    if request.diarizer and request.speaker_detection != "diarize":
        raise unsupported("To name a `diarizer` ask for speaker_detection=diarize.")
    if request.aligner and request.align is False:
        raise unsupported("To name an `aligner` and say align=false contradict each other.")
    if request.align or request.aligner:
        if request.task == "translate":
            raise unsupported(
                "Words of a translation have no times in the recording: they cannot be aligned."
            )
        if request.characters:
            raise unsupported("Words that are aligned have no times of characters; ask for one or the other.")
    unaligned = request.align is False or request.task == "translate" or request.characters
    aligner = None if unaligned else _helper("align", request.aligner, request.language, fleet)
    if aligner is None and request.align:
        raise _none_can("align", fleet, f"words in {request.language or 'this language'}")
    diarizer = None
    if request.speaker_detection == "diarize":
        diarizer = _helper("diarize", request.diarizer, None, fleet)
    words = _transcriber(request, fleet, aligner, diarizer)
    found = Team(prepare, words, _any("merge", fleet))
    if request.speaker_detection == "diarize" and (request.diarizer or not words.card.speakers):
        found.diarize = diarizer
    wordless = request.word_timestamps is True and not words.card.words
    if request.align or request.aligner or found.diarize or wordless:
        found.align = aligner
    return found


def lacking(
    request: TranscribeRequest, card: Card, aligner: Choice | None = None, diarizer: Choice | None = None
) -> str:
    """What the request asks for that an engine cannot do, with help; a sentence, or empty if nothing."""
    tasks = rules(card).get("task", {}).get("enum", [])
    # An aligner gives words times in the languages it knows; of one yet to be detected nobody can tell.
    certain = aligner is not None and (request.language is not None or "*" in aligner.model.languages)
    if request.word_timestamps and not card.words and not certain:
        return f"{card.id} gives no word times."
    if request.characters and not card.characters:
        return f"{card.id} gives no times of characters."
    if request.probabilities and not card.probabilities:
        return f"{card.id} gives no probabilities of words, which this answer needs."
    if request.task == "translate" and "translate" not in tasks:
        return f"{card.id} cannot translate; name a model of an engine that can."
    if request.speaker_detection == "diarize" and not card.speakers and diarizer is None:
        return (
            "No running engine can diarize, and "
            f"{card.id} does not tell speakers apart by itself. Start one that does with "
            "`dalston up --engines …`, or ask for speaker_detection=per_channel or none."
        )
    return ""


def rules(card: Card) -> dict[str, Any]:
    """The schemas of an engine's options."""
    return dict(card.params.get("properties", {}))


def unsupported(why: str) -> BadRequest:
    """A request that no engine alive can fulfil."""
    return BadRequest(why, code="unsupported_option", status=422)


def _any(stage: str, fleet: Sequence[Card]) -> Choice:
    """The best engine of a stage; raises Refusal."""
    found = _helper(stage, None, None, fleet)
    if found is None:
        raise _none_can(stage, fleet)
    return found


def _helper(stage: str, named: str | None, language: str | None, fleet: Sequence[Card]) -> Choice | None:
    """The best engine of a stage, or the one of that name; None when no other knows the language.

    Raises BadRequest for a name that no running engine of the stage has.
    """
    cards = [card for card in fleet if card.stage == stage and named in (card.id, None)]
    if named and not cards:
        known = ", ".join(card.id for card in fleet if card.stage == stage) or "none"
        raise BadRequest(
            f"No running engine {named!r} can {stage}. There are: {known}.", code="no_such_engine", status=404
        )
    found = [choice for card in cards if (choice := _model(card, named, language))]
    able = [choice for choice in found if _speaks(choice.model, language)]
    if named and not able:
        raise unsupported(f"{named} cannot {stage} the language {language!r}.")
    return min(able, key=lambda choice: choice.rank, default=None)


def _transcriber(
    request: TranscribeRequest, fleet: Sequence[Card], aligner: Choice | None, diarizer: Choice | None
) -> Choice:
    """The engine and the model for the words: named, or the best that knows the language."""
    cards = [card for card in fleet if card.stage == "transcribe"]
    offers = [choice for card in cards if (choice := _model(card, request.model))]
    if not cards or (request.model is None and not offers):
        raise _none_can("transcribe", fleet)
    if not offers:
        known = sorted({name for card in cards for name in (card.id, *card.models)})
        raise BadRequest(
            f"No running engine has the model {request.model!r}. There are: {', '.join(known)}.",
            code="unknown_model",
            status=404,
        )
    fluent = [choice for choice in offers if _speaks(choice.model, request.language)]
    if not fluent:
        raise BadRequest(
            f"The language {request.language!r} is not one that "
            f"{' or '.join(choice.name or choice.card.id for choice in offers)} can transcribe.",
            code="unsupported_language",
            status=422,
        )
    able = [choice for choice in fluent if not lacking(request, choice.card, aligner, diarizer)]
    if not able:
        raise unsupported(lacking(request, fluent[0].card, aligner, diarizer))
    whole = request.speaker_detection == "diarize" and not request.diarizer

    def rank(choice: Choice) -> tuple[Any, ...]:
        """One engine that does it all comes before several, where it has all options and its weights."""
        missing, fallback = choice.rank
        known = set(rules(choice.card))
        for other in () if choice.card.speakers and whole else (aligner, diarizer):
            known |= set(rules(other.card)) if other else set()
        return not set(request.options) <= known, missing, whole and not choice.card.speakers, fallback

    return min(able, key=rank)


def _model(card: Card, asked: str | None, language: str | None = None) -> Choice | None:
    """The model of `card` that answers to `asked`, if any; a scripted engine only to its name.

    An engine without a default model takes one for the language by itself.
    """
    if card.scripted and asked != card.id:
        return None
    if card.models and card.default_model is None and asked in (None, card.id):
        own = [
            model for model in card.models.values() if "*" not in model.languages and _speaks(model, language)
        ]
        return Choice(card, None, ModelCard(card.languages, any(model.local for model in own)))
    if asked is None or asked == card.id:
        name = card.default_model
        return Choice(card, name, card.models.get(name or "", ModelCard(card.languages)))
    if asked in card.models:
        return Choice(card, asked, card.models[asked])
    return Choice(card, asked, ModelCard(["*"])) if card.hub and "/" in asked else None


def _speaks(model: ModelCard, language: str | None) -> bool:
    return language is None or "*" in model.languages or language in model.languages


def _none_can(stage: str, fleet: Sequence[Card], what: str = "") -> Refusal:
    running = ", ".join(card.id for card in fleet) or "none"
    verb = f"{stage} {what}".strip()
    return Refusal(
        f"No running engine can {verb}. Running: {running}. Start one with `dalston up --engines …`."
    )
