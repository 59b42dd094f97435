"""What the vendors' live dialects have in common: audio inside JSON."""

from __future__ import annotations

import base64
import binascii

from dalston_engine.live.protocol import SAMPLE_BYTES, Encoding

from dalston.errors import BadRequest


class Sound:
    """Audio of one encoding as it comes in pieces, of which none needs to end with a sample."""

    def __init__(self, encoding: Encoding, rate: int) -> None:
        self.width, self.rate = SAMPLE_BYTES[encoding], rate
        self._rest = b""

    def taken(self, text: str) -> bytes:
        """The whole samples there are with a piece in base64; raises BadRequest."""
        try:
            content = self._rest + base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("The audio is not base64.") from None
        whole = len(content) - len(content) % self.width
        self._rest = content[whole:]
        return content[:whole]

    def seconds(self, content: bytes) -> float:
        """How long it is."""
        return len(content) / self.width / self.rate
