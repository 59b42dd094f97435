"""The gateway's application: routes, and the one place where errors become answers."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
from collections.abc import AsyncIterator

from dalston_engine.errors import DalstonError, DiskFull
from dalston_engine.queue import AWAY
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

import dalston
from dalston.dialects import spoken
from dalston.errors import BadRequest, Limited, Unauthorized, Unavailable
from dalston.gateway import (
    asyncapi,
    elevenlabs,
    elevenlabs_live,
    elevenlabs_webhooks,
    events,
    fleet,
    keys,
    live,
    metrics,
    models,
    numbered,
    openai,
    openai_live,
    realtime,
    transcriptions,
    webhooks,
)
from dalston.gateway.access import authenticated
from dalston.gateway.native import error_json
from dalston.gateway.numbered import Numbered
from dalston.gateway.openapi import ERRORS, describe
from dalston.gateway.speaking import sent
from dalston.gateway.state import opened
from dalston.settings import Settings

log = logging.getLogger("dalston.gateway")


def create_app(settings: Settings) -> FastAPI:
    """The application; it opens its stores when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(app, settings):
            yield

    app = FastAPI(
        title="Dalston",
        summary="Self-hosted audio transcription: the native API",
        version=dalston.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
        dependencies=[Depends(authenticated)],
    )
    describe(app)
    # A page of the open web that has its name resolve to this machine does not get in.
    if not settings.keyed:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    if settings.origins:
        shown = ["location", "retry-after", *numbered.HEADERS, numbered.REPLAYED]
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"],
                           allow_headers=["*"], expose_headers=shown)  # fmt: skip
    app.add_middleware(Numbered)
    app.state.metrics = metrics.Metrics()
    app.add_middleware(metrics.Watched, metrics=app.state.metrics)
    for part in (
        transcriptions,
        elevenlabs,
        elevenlabs_webhooks,
        openai,
        elevenlabs_live,
        openai_live,
        models,
        keys,
        webhooks,
        fleet,
        events,
        metrics,
        live,
        asyncapi,
        realtime,
    ):
        app.include_router(part.router)
    app.include_router(elevenlabs.tokens)
    for kind in (
        DalstonError,
        RequestValidationError,
        HTTPException,
        ClientDisconnect,
        OSError,
        *AWAY,
        Exception,
    ):
        app.add_exception_handler(kind, _answer)
    return app


async def _answer(request: Request, error: Exception) -> Response:
    known = _known(error)
    if known.status >= 500 and not isinstance(error, DalstonError):
        log.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    dialect = request.scope.get("dialect", spoken(request.scope["path"], request.headers))
    headers = {}
    if isinstance(known, Limited):
        headers["retry-after"] = str(math.ceil(known.retry_after))
    if isinstance(known, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    if dialect is not None:
        told = dialect.error(known, request.scope["request_id"])
        told.headers |= headers
        return sent(told)
    return Response(error_json(known), known.status, headers, "application/json")


def _known(error: Exception) -> DalstonError:
    match error:
        case DalstonError():
            return error
        case RequestValidationError():
            first = error.errors()[0]
            name = next(part for part in reversed(first["loc"]) if isinstance(part, str))
            return BadRequest(f"`{name}`: {first['msg']}.", code="invalid_option")
        case HTTPException():
            return BadRequest(f"{error.detail}.", code="http_error", status=error.status_code)
        case ClientDisconnect():
            return BadRequest("The client hung up.", status=499)
    if isinstance(error, AWAY):
        return Unavailable("The server's Redis cannot be reached or takes no writes; try again soon.")
    if isinstance(error, BlockingIOError):
        return Unavailable("Somebody else has been changing this job for too long; try again soon.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("The server's disk is full; try again when there is space.")
    return DalstonError("Something went wrong in the server; its log says what.")
