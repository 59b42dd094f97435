"""The root of the error tree, and the part of it that engines see.

DalstonError
├── BadInput            the caller's file or options are at fault: never tried again
├── ModelUnavailable    the model cannot be found or loaded
├── Retry               something passing went wrong: try again later
│   └── DiskFull        the data folder's disk is full: try again, uncounted, until there is space
└── Interrupted         the task must stop now; not a fault
    ├── Cancelled       its job was cancelled
    ├── Drained         this process is asked to stop: the task goes back to its queue
    └── LeaseLost       another instance owns the task

A class carries what the two boundaries need: `code` and `status` for the gateway's answer,
`retryable` for the queue's decision, or the `outcome` itself. The docstring is the default message.
"""

import inspect

from msgspec import Struct


class ErrorRecord(Struct, omit_defaults=True):
    """An error as it is stored with a task or a job, and sent to clients."""

    code: str
    message: str
    status: int = 500


class DalstonError(Exception):
    """Something went wrong in Dalston."""

    code, status, retryable = "internal_error", 500, True
    outcome: str | None = None
    """How a task that ends with this is settled; None: `retry` or `failed`, as `retryable` says."""

    def __init__(self, message: str = "", *, code: str = "", status: int = 0) -> None:
        self.message = message or inspect.getdoc(type(self)) or ""
        self.code = code or self.code
        self.status = status or self.status
        super().__init__(self.message)

    @property
    def record(self) -> ErrorRecord:
        return ErrorRecord(self.code, self.message, self.status)


class BadInput(DalstonError):
    """The input cannot be processed."""

    code, status, retryable = "invalid_input", 422, False


class ModelUnavailable(DalstonError):
    """The model cannot be found or loaded."""

    code, status, retryable = "model_unavailable", 503, False


class Retry(DalstonError):
    """Something passing went wrong; the task is tried again."""

    code, status, retryable = "engine_error", 500, True


class DiskFull(Retry):
    """The server's disk is full; the work goes on once there is space."""

    code, status, outcome = "disk_full", 507, "postponed"


class Interrupted(DalstonError):
    """The task must stop now."""

    code, status, retryable, outcome = "interrupted", 499, False, "released"


class Cancelled(Interrupted):
    """The job was cancelled."""

    code, outcome = "cancelled", "cancelled"


class Drained(Interrupted):
    """The engine is stopping; the task goes back to its queue."""


class LeaseLost(Interrupted):
    """Another instance owns the task now."""
