"""The server's part of the error tree; its root and the engines' part are the SDK's.

DalstonError
├── BadRequest          a field is missing, unknown or malformed
│   ├── BadField        a field of a form has no usable value
│   ├── SourceRefused   this address is not called
│   ├── SourceUnreachable  nothing can be had from this address
│   ├── UploadTooLarge  the body is over the limit
│   ├── UploadStalled   the body does not go on
│   ├── NotFound        no such job
│   ├── Conflict        the job's state does not allow it
│   └── SessionIdle     a live session's client sends nothing
├── Unauthorized        no valid key
├── Forbidden           the key may not do this
├── Limited             too much at once, or too often
│   └── LiveFull        no worker has room for another live session
├── JobDamaged          a job's file is not what was written
├── Refusal             nothing alive can do what is asked
│   └── NoWorker        no live worker has the model
└── Unavailable         a part of the server is away
"""

from __future__ import annotations

from dalston_engine.errors import DalstonError


class BadRequest(DalstonError):
    """The request cannot be understood."""

    code, status, retryable = "bad_request", 400, False


class BadField(BadRequest):
    """A field of a form has no usable value."""

    code, status = "invalid_parameters", 422

    def __init__(
        self, field: str, message: str, *, kind: str = "value_error", code: str = "", status: int = 0
    ) -> None:
        self.field, self.kind = field, kind
        super().__init__(message, code=code, status=status)


class SourceRefused(BadRequest):
    """This address is not one that the server calls."""

    code = "source_refused"


class SourceUnreachable(BadRequest):
    """The recording cannot be fetched from its address."""

    code, status = "source_unreachable", 422


class UploadTooLarge(BadRequest):
    """The upload is larger than this server accepts."""

    code, status = "upload_too_large", 413


class UploadStalled(BadRequest):
    """The upload stood still for too long."""

    code, status = "upload_stalled", 408


class NotFound(BadRequest):
    """There is no such job."""

    code, status = "not_found", 404


class Conflict(BadRequest):
    """The job's state does not allow this."""

    code, status = "conflict", 409


class SessionIdle(BadRequest):
    """The client of a live session has sent nothing for too long."""

    code, status = "session_idle", 408


class Unauthorized(DalstonError):
    """A valid key is needed: send it as `xi-api-key`, or as `Authorization: Bearer`."""

    code, status, retryable = "invalid_api_key", 401, False


class Forbidden(DalstonError):
    """This key may not do this."""

    code, status, retryable = "missing_scope", 403, False


class Limited(DalstonError):
    """Too many requests."""

    code, status, retryable = "rate_limit_exceeded", 429, True

    def __init__(self, message: str = "", *, retry_after: float = 0, code: str = "", status: int = 0) -> None:
        self.retry_after = retry_after
        super().__init__(message, code=code, status=status)


class LiveFull(Limited):
    """All workers have as many live sessions as they take; try again soon."""

    code, status = "at_capacity", 503


class JobDamaged(DalstonError):
    """A job's file is damaged."""

    code, retryable = "job_damaged", False


class Refusal(DalstonError):
    """No running engine can do this."""

    code, status, retryable = "no_engine", 503, True


class NoWorker(Refusal):
    """No worker for live sessions is running that has the model and knows the language."""

    code = "no_worker"


class Unavailable(DalstonError):
    """A part of the server cannot be reached."""

    code, status, retryable = "unavailable", 503, True
