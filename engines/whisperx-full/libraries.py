"""Lets WhisperX be imported beside any build of PyTorch, and keeps it quiet; before it is imported."""

from __future__ import annotations

import logging
import sys
import warnings
from types import ModuleType
from typing import Any


def prepare() -> None:
    """Do so once; a second time changes nothing."""
    # WhisperX logs the texts that it cannot align, to the standard output unless somebody took that over.
    logger = logging.getLogger("whisperx")
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    # That its own voice activity detection was saved by an older release of Lightning is no news.
    logging.getLogger("lightning.pytorch.utilities.migration.utils").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pyannote")
    # torchaudio's libraries are built for one CUDA release, and importing it beside another build of PyTorch
    # fails. Only its pure Python is used here, so what loads them is replaced by "there are no libraries".
    loader: Any = ModuleType("torchaudio._extension")
    loader._IS_TORCHAUDIO_EXT_AVAILABLE, loader.fail_if_no_align = False, lambda function: function
    sys.modules.setdefault(loader.__name__, loader)
    sys.modules.setdefault("torchcodec", None)  # type: ignore[arg-type]  # it opens files, and here none are
