"""What is heard live, as it comes: on a terminal a line that still changes below those that do not."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from dalston.cli.output import say
from dalston.live import Event, FinalTranscript, Lag, PartialTranscript, SessionStarted

if TYPE_CHECKING:
    from rich.text import Text

TAIL = 2
"""How many lines of a terminal what still changes may take; its end is what counts."""
Show = Callable[[Event], None]


@contextlib.contextmanager
def captions(json: bool, words: bool) -> Iterator[Show]:
    """What shows an event: as a line of JSON, as captions on a terminal, else final transcripts as lines."""
    if json:
        yield _as_json
    elif sys.stdout.isatty():
        with _Captions(words) as shown:
            yield shown
    else:
        yield lambda event: _line(event, words)


def lines(event: FinalTranscript, words: bool) -> str:
    """A final transcript with its time, and maybe a line for each of its words."""
    text = f"{clock(event.start)}  {event.text}"
    if words:
        text += "".join(
            f"\n  {clock(word.start)} - {clock(word.end)} {word.text}" for word in event.words or []
        )
    return text


def clock(seconds: float) -> str:
    """A time of the session, such as 1:02:03.4."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    whole = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{whole}:{tenths // 10:02}.{tenths % 10}"


def _as_json(event: Event) -> None:
    print(msgspec.json.encode(event).decode(), flush=True)


def _line(event: Event, words: bool) -> None:
    if isinstance(event, FinalTranscript) and event.text:
        print(lines(event, words), flush=True)
    else:
        _aside(event)


def _aside(event: Event) -> None:
    """What is no transcript, but the person should know."""
    if isinstance(event, SessionStarted) and event.resumed:
        say("The connection was lost; the session goes on.")


class _Captions:
    """Final transcripts, and below them what is being said: bright what is settled, dim what is not."""

    def __init__(self, words: bool) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._text, self._words = Text, words
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._behind = ""

    def __enter__(self) -> Show:
        self._live.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _show(self, event: Event) -> None:
        match event:
            case PartialTranscript():
                self._live.update(self._partial(event), refresh=True)
            case FinalTranscript():
                if event.text:
                    self._console.print(self._text(lines(event, self._words)))
                self._live.update(self._text(self._behind, style="dim"), refresh=True)
            case Lag():
                self._behind = f"… {event.seconds:.0f} s behind" if event.seconds >= 1 else ""
                self._live.update(self._text(self._behind, style="dim"), refresh=True)
            case _:
                _aside(event)

    def _partial(self, event: PartialTranscript) -> Text:
        whole = self._text(event.stable) + self._text(event.text.removeprefix(event.stable), style="dim")
        room = max(self._console.width * TAIL - 1, 1)
        return whole[-room:] if len(whole) > room else whole
