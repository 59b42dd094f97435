"""How an exported transcript is cut and what it shows; names and defaults are ElevenLabs'."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Characters = Annotated[int, Meta(ge=10, le=1_000_000)]


class ExportOptions(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is not said is as the format has it by default."""

    include_speakers: bool | None = None
    """Whether it says who speaks."""
    include_timestamps: bool | None = None
    """Whether it says when; subtitles always do."""
    segment_on_silence_longer_than_s: Seconds | None = None
    """A pause of so many seconds ends a segment."""
    max_segment_duration_s: Seconds | None = None
    """The longest segment, in seconds of speech."""
    max_segment_chars: Characters | None = None
    """The longest segment, in characters; one of a wide script counts for two."""
    max_characters_per_line: Characters | None = None
    """Where lines are broken; of srt, vtt and txt."""

    def over(self, default: ExportOptions) -> ExportOptions:
        """These options, and where they say nothing the default's."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(default, **said)


SUBTITLES = ExportOptions(False, True, 0.8, 4.0, 84, 42)
TEXT = ExportOptions(True, True, max_characters_per_line=100)
DOCUMENT = ExportOptions(True, True)
