"""WhisperX's alignment, made fit for a machine with any build of PyTorch and without a network."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any


class Whole:
    """In place of NLTK's sentence splitter, whose data would be fetched: segments stay as they are."""

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def opened() -> Any:
    """The module `whisperx.alignment`."""
    logger = logging.getLogger("whisperx")  # it logs the texts that it cannot align
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    # torchaudio's libraries are built for one release of CUDA, and importing it beside another build of
    # PyTorch fails. Here none of them is used: what loads them is replaced by "there are none".
    extension: Any = ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE, extension.fail_if_no_align = False, lambda call: call
    sys.modules.setdefault(extension.__name__, extension)
    from whisperx import alignment

    alignment.nltk_load = lambda _: Whole()
    return alignment
