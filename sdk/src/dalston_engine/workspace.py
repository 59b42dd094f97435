"""A job's folder as an engine sees it.

    jobs/{job}/source, source.*         the upload
    jobs/{job}/{task}.{token}.json      what an attempt returned
    jobs/{job}/{task}.{token}/          what it wrote besides: only a stage that is given a folder
        audio.wav, or audio-0.wav, …    prepare: the whole, or its parts

The token of the settled attempt is the one that counts, so nobody reads what is half written. The
job's own folder is never made here, so a task of a deleted job cannot bring it back.
"""

import shutil
import wave
from pathlib import Path
from typing import Any, Self

import msgspec

from dalston_engine.errors import BadInput
from dalston_engine.stages import STAGES
from dalston_engine.types import Audio, Parts, Task


def encode(result: Any) -> bytes:
    """A stage's result as JSON; numbers of numpy are taken as they are."""
    return msgspec.json.encode(result, enc_hook=lambda number: number.item())


class JobGone(BadInput):
    """The job's files are gone."""

    code, status = "job_gone", 410


class ArtifactLost(BadInput):
    """What an earlier stage wrote is gone; the job starts over once."""

    code, status = "artifact_lost", 500


class Workspace:
    """The files of one attempt at a task: what it reads, and a folder for what it writes."""

    def __init__(self, jobs: Path, task: Task) -> None:
        self.job, self.task = jobs / task.job, task
        self.folder = self.job / f"{task.id}.{task.token}"
        self.result = Path(f"{self.folder}.json")

    def __enter__(self) -> Self:
        if not self.job.is_dir():
            raise JobGone
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:
            self.discard()

    def discard(self) -> None:
        """Remove what this attempt left: another one counts, or none."""
        self.result.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self, result: Any) -> None:
        """Write the result; it counts once the attempt is settled."""
        self.result.write_bytes(encode(result))

    def arguments(self) -> list[Any]:
        """What the stage's method is given, in order."""
        try:
            return [self.argument(name) for name in STAGES[self.task.stage].takes]
        except (FileNotFoundError, EOFError, wave.Error, msgspec.DecodeError):
            raise ArtifactLost from None

    def argument(self, name: str) -> Any:
        """One input by its name in the stage contract."""
        match name:
            case "source":
                found = [path for path in self.job.glob("source*") if path.stem == "source"]
                return found[0] if found else self.job.joinpath("source").resolve(strict=True)
            case "folder":
                self.folder.mkdir(exist_ok=True)
                return self.folder
            case "audio":
                part = "" if self.task.part is None else f"-{self.task.part}"
                return Audio(self.job / self._left("prepare")[0] / f"audio{part}.wav")
            case "parts":
                return Parts(self._results("prepare")[0], self._results("transcribe"))
        raise ValueError(f"no stage is given {name!r}")

    def _left(self, stage: str) -> list[str]:
        return [f"{need.id}.{need.token}" for need in self.task.needs if need.stage == stage]

    def _results(self, stage: str) -> list[Any]:
        files, kind = [self.job / f"{name}.json" for name in self._left(stage)], STAGES[stage].result
        return [msgspec.json.decode(file.read_bytes(), type=kind) for file in files]
