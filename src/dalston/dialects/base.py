"""What every dialect is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dalston_engine.errors import DalstonError, ErrorRecord
from dalston_engine.types import Transcript
from msgspec import Struct, field

from dalston.request import TranscribeRequest

Fields = Mapping[str, Sequence[str]]
"""A form as it came: every field with its texts in order."""
Names = Mapping[str, str]
"""The vendors' model names that the operator maps, to Dalston's; an empty one is the default model."""


class Submission(Struct):
    """What a form asks for."""

    request: TranscribeRequest
    url: str | None = None
    """Where the recording is, when the form does not bring it."""
    later: bool = False
    """True: answered at once, the transcript is delivered by webhook."""
    keep: bool = True
    """False: nothing stays once it is answered."""
    webhook: str | None = None
    """Which registered webhook is told; None: all of them."""
    metadata: Any = None
    """What the webhook gets back."""


class Finished(Struct):
    """A job with its transcript, as an answer needs it."""

    id: str
    transcript: Transcript
    asked: dict[str, Any]
    """`TranscribeRequest.answer`."""


class Answer(Struct):
    """What is sent."""

    content: bytes
    type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Inline(NamedTuple):
    """A form that came as JSON, with its recording inside."""

    fields: dict[str, list[str]]
    content: bytes
    filename: str


class Ended(Struct):
    """A job that has ended, as a webhook is told of it."""

    id: str
    state: str
    at: float
    """Seconds since 1970."""
    transcript: Transcript | None
    error: ErrorRecord | None
    asked: dict[str, Any]
    metadata: Any
    """What the request gave to go back with it."""


class Notice(NamedTuple):
    """What a webhook is told, and the header that signs it."""

    body: bytes
    signature: str


class Examples(NamedTuple):
    """What a dialect's answers look like, for the OpenAPI document."""

    done: Any
    models: Any
    error: Any


class Stream(NamedTuple):
    """How a dialect tells a transcript while it is made."""

    delta: Callable[[str], bytes]
    last: Callable[[Finished], Iterator[bytes]]
    broken: Callable[[DalstonError, str], bytes]


class Model(Struct):
    """A name that a request may give as its model."""

    id: str
    languages: list[str]
    """ISO 639-1 codes, or `*` for any."""
    engine: str
    """Which engine transcribes with it."""


class Dialect(NamedTuple):
    """One vendor's way to ask for a transcript and to be answered."""

    name: str
    form: type[Struct]
    """The vendor's form, field by field."""
    submission: Callable[[Fields, Names], Submission]
    """Raises BadRequest."""
    answer: Callable[[Finished], Answer]
    error: Callable[[DalstonError, str], Answer]
    """An error and the request's id to the vendor's envelope."""
    models: Callable[[Sequence[Model]], Any]
    """The models there are, as the vendor lists them."""
    envelope: str
    """The one key of that envelope."""
    names: Sequence[str]
    """The vendor's own names of models."""
    examples: Examples
    stream: Stream | None = None
    """How it streams, if it does."""
    accepted: Callable[[str, str], Answer] | None = None
    """A job and the request's id to the answer of a request that is delivered later, if it has that."""
    notice: Callable[[Ended], Notice] | None = None
    """What a webhook is told, if it has webhooks."""
    inline: Callable[[bytes], Inline] | None = None
    """How it reads JSON in place of a form, if it does; raises BadRequest."""
    patience: Callable[[Mapping[str, str]], float | None] = lambda _: None
    """For how many seconds a client waits for its answer, if its request's headers say so."""


def mapped(name: str, vendor: Sequence[str], names: Names) -> str | None:
    """What a name stands for: what the operator says, the default model for a vendor's name, or itself."""
    if name in names:
        return names[name] or None
    return None if name in vendor else name
