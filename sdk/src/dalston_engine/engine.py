"""The class an engine author writes."""

from collections.abc import Callable
from pathlib import Path

from dalston_engine.models import Models


class Engine:
    """One loaded model of an engine.

    `load` runs once before any task, with the model's id if it takes one; its other parameters are
    the operator's settings (`DALSTON_<ENGINE>_<NAME>`). The method that the stage names does the
    work, one task at a time; its keyword parameters are the request's options. Return a value to
    finish, raise `BadInput` to fail for good, anything else to be tried again. `transcribe` may yield each
    segment as it comes, and return the whole at its end: those who follow the job are sent them.

    An engine for live sessions has `listen(self, batch: list[Speech]) -> list[Transcript]`, alone (stage
    `listen`) or beside the method of another stage (`listens = true`). It is given utterances of several
    sessions and returns one transcript for each, with times from the beginning of its samples; without
    segments where nobody speaks. It runs in a thread of its own, while the other method may be at work on the
    same object.
    """

    models: Models
    report: Callable[[float], None]

    def load(self) -> None:
        """Get ready for tasks; override with the parameters needed."""

    def progress(self, fraction: float) -> None:
        """Report how much of the task is done, 0 to 1. A cancelled task ends here."""
        self.report(float(min(max(fraction, 0.0), 1.0)))

    def weights(self, model: str) -> str:
        """Where a model's weights are: a folder, or a hub id for the library to fetch."""
        return self.models.find(model)

    @property
    def models_dir(self) -> Path:
        """Where fetched models belong, shared by all engines."""
        return self.models.cache
