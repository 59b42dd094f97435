"""A turn of a live session as the vendor has it: an item that is committed, and then transcribed."""

from __future__ import annotations

import secrets
from typing import Any

from dalston.dialects.openai.answer import logprob
from dalston.live import FinalTranscript, joined


class Item:
    """What is said from one commit to the next."""

    def __init__(self) -> None:
        self.id = f"item_{secrets.token_hex(10)}"
        self.finals: list[FinalTranscript] = []
        self.start: float | None = None
        self.end: float | None = None
        """When speech began and stopped, once that is told."""
        self.committed = False
        self.flush: str | None = None
        """The flush that is its end, when its client committed it."""
        self.until = self.seconds = 0.0
        """Where it ends, once that is known; how long it is, when its client committed it."""
        self.dropped = False
        """Whether its client has cleared it, so that nothing is told of it."""
        self.sent = ""
        """Its text so far as its client has it."""

    def text(self, more: str = "") -> str:
        """What was said, and what is being said."""
        language = next((one.language for one in reversed(self.finals) if one.language), None)
        return joined([*(one.text for one in self.finals), more.strip()], language)

    def growth(self, text: str) -> str:
        """What a client has to add to have this text; empty when what it has is another text's beginning."""
        if not text.startswith(self.sent):
            return ""
        new, self.sent = text[len(self.sent) :], text
        return new

    def length(self) -> float:
        """Seconds that were transcribed."""
        if self.flush is not None:
            return round(self.seconds, 3)
        start = self.finals[0].start if self.start is None else self.start
        end = self.finals[-1].end if self.end is None else self.end
        return round(max(end - start, 0.0), 3)

    def logprobs(self) -> list[dict[str, Any]]:
        """Of each word, where the engine measures them."""
        words = [word for one in self.finals for word in one.words or ()]
        return [logprob(word) for word in words if word.probability is not None]

    def detected(self) -> list[dict[str, str]]:
        """Languages that were found, not given."""
        found = [one.language for one in self.finals if one.language and one.language_probability is not None]
        return [{"code": code} for code in dict.fromkeys(found)]

    def told(self) -> dict[str, Any]:
        """As the vendor tells it."""
        return {
            "id": self.id,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_audio", "transcript": None}],
        }
