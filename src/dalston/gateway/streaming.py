"""A vendor's answer as events: what an engine says is told as it says it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from dalston_engine.errors import DalstonError
from dalston_engine.types import Segment
from fastapi import Request, Response

from dalston.dialects.base import Dialect, Finished, Stream
from dalston.gateway.events import HEADERS
from dalston.gateway.events import Stream as Streaming
from dalston.gateway.intake import ended
from dalston.gateway.speaking import Taken, finished
from dalston.gateway.state import State
from dalston.store.segments import follow


async def streamed(request: Request, dialect: Dialect, what: Taken) -> Response:
    """The answer as events; an error before the first of them is an ordinary one."""
    state, job = State.of(request), what.file.id
    assert dialect.stream is not None
    await state.jobs.submit(what.file)
    segments = follow(state.jobs, job)
    first = await anext(segments, None)
    if first is None:
        await ended(state, job)
    told = _told(state, dialect.stream, what, first, segments, request.scope["request_id"])
    return Streaming(told, media_type="text/event-stream", headers=HEADERS)


async def _told(
    state: State,
    stream: Stream,
    what: Taken,
    first: Segment | None,
    segments: AsyncGenerator[Segment],
    number: str,
) -> AsyncIterator[bytes]:
    texts, heard = Texts(), 0.0
    try:
        while first is not None:
            yield stream.delta(texts.next(first))
            heard, first = first.end, await anext(segments, None)
        await ended(state, what.file.id)
        whole: Finished = await finished(state, what.file.id, what.submission.request)
        for segment in whole.transcript.segments:
            if segment.start + segment.end > 2 * heard:  # what nobody was there to hear
                yield stream.delta(texts.next(segment))
        for event in stream.last(whole):
            yield event
    except DalstonError as error:
        yield stream.broken(error, number)
    finally:
        await segments.aclose()


class Texts:
    """Segments' texts so that all of them together are the transcript's text."""

    def __init__(self) -> None:
        self._begun = False

    def next(self, segment: Segment) -> str:
        """The segment's text; the first one without the space before it."""
        text = segment.text if self._begun else segment.text.lstrip()
        self._begun = True
        return text
