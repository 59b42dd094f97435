"""The stage contracts: which method an engine of a stage has, what it is given and returns."""

from msgspec import Struct

from dalston_engine.types import Diarization, Media, Transcript


class Stage(Struct, frozen=True):
    """One processing category of the pipeline."""

    name: str
    """Also the name of the engine's method."""
    takes: tuple[str, ...]
    """The method's positional arguments, in order; see `Workspace.argument`."""
    result: type
    effort: float
    """Typical share of a job's work, for progress bars only."""


STAGES = {stage.name: stage for stage in (
    Stage("prepare", ("source", "folder"), Media, 4),
    Stage("transcribe", ("audio",), Transcript, 60),
    Stage("align", ("audio", "transcript"), Transcript, 10),
    Stage("diarize", ("audio",), Diarization, 25),
    Stage("merge", ("parts",), Transcript, 1),
    Stage("listen", ("batch",), list, 0),
)}  # fmt: skip
"""`listen` is no part of a job: given utterances of live sessions (`live.speech.Speech`), it returns a
Transcript for each. An engine of another stage may have it besides, when its manifest says `listens`."""
