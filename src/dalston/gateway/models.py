"""`/v1/models`: the names that a request may give as its model, in the caller's dialect."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from dalston.dialects import DIALECTS, spoken
from dalston.dialects.base import Model
from dalston.dialects.openai import OPENAI
from dalston.dialects.openai.models import model as one_model
from dalston.errors import NotFound
from dalston.gateway.openapi import told_by
from dalston.gateway.state import State

router = APIRouter(tags=["models"])


@router.get(
    "/v1/models",
    summary="List models",
    responses=told_by(OPENAI, "The models there are", OPENAI.examples.models),
)
async def list_models(request: Request) -> Any:
    """The models there are, as ElevenLabs lists them for a caller with `xi-api-key`, else as OpenAI does."""
    dialect = spoken("/v1/models", request.headers) or OPENAI
    return dialect.models(await known(request))


@router.get(
    "/v1/models/{model:path}",
    summary="Read a model",
    responses=told_by(OPENAI, "The model", OPENAI.examples.models["data"][0]),
)
async def read_model(request: Request, model: str) -> dict[str, Any]:
    """One model, as OpenAI tells it."""
    there = {one.id: one for one in await known(request)}
    if model not in there:
        names = ", ".join(there) or "none"
        raise NotFound(f"There is no model {model[:80]!r}. There are: {names}.", code="unknown_model")
    return one_model(there[model])


async def known(request: Request) -> list[Model]:
    """Dalston's own names, then those of the vendors' that stand for one of them."""
    state = State.of(request)
    cards = [card for card in await state.fleet.cards() if card.stage == "transcribe"]
    own = {name: Model(name, one.languages, card.id) for card in cards for name, one in card.models.items()}
    own |= {card.id: Model(card.id, card.languages, card.id) for card in cards}
    default = next(
        (one for card in cards if not card.scripted and (one := own.get(card.default_model or ""))), None
    )
    names = {name: "" for dialect in DIALECTS.values() for name in dialect.names} | state.settings.names
    found = dict(own)
    for name, model in names.items():
        meant = own.get(model) if model else default
        if meant is not None:
            found.setdefault(name, Model(name, meant.languages, meant.engine))
    return list(found.values())
