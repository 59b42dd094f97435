"""The paths of OpenAI's API that the native one does not have; transcriptions are a path in common."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dalston.dialects.openai import TRANSLATIONS
from dalston.gateway.access import TRANSCRIBE
from dalston.gateway.intake import received
from dalston.gateway.openapi import vendor
from dalston.gateway.speaking import answered, taken

router = APIRouter(tags=["openai"], dependencies=[TRANSCRIBE])


@router.post("/v1/audio/translations", summary="Translate as OpenAI does", **vendor(TRANSLATIONS))
async def translate(request: Request) -> Response:
    """Transcribe a recording in English, whatever is spoken."""
    async with received(request) as came:
        what = await taken(request, TRANSLATIONS, came)
    return await answered(request, TRANSLATIONS, what)
