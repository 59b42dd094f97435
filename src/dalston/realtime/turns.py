"""Who speaks, as a client was told it: whoever hears the audio once more does not tell it once more."""

from __future__ import annotations


class Turns:
    """The beginnings and ends of speech that were told."""

    def __init__(self) -> None:
        self._speaking = self._going = self._again = False
        self._ended = self._before = 0.0

    def started(self, at: float) -> bool:
        """Somebody began to speak at this moment; whether that is news."""
        self._again = at < self._before
        if self._again:
            return False
        going, self._going, self._speaking = self._going, False, True
        return not going

    def ended(self, at: float) -> bool:
        """He stopped; whether that is news."""
        again, self._again = self._again, False
        if not again:
            self._speaking, self._going, self._ended = False, False, at
        return not again

    def lost(self) -> None:
        """What was told and has no final yet is heard again, by another worker."""
        self._going, self._again, self._before = self._speaking, False, self._ended
