"""A job's folder as an engine sees it.

    jobs/{job}/source, source.*         the upload
    jobs/{job}/{task}.{token}.json      what an attempt returned
    jobs/{job}/{task}.{token}/          what it wrote besides: only a stage that is given a folder
        audio.wav, audio-0.wav, …       prepare: the whole, its channels, or the whole and its parts in time

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
                return Audio(self._audio(self.task.part))
            case "transcript":
                return self._result("transcribe")
            case "parts":
                media, aligned = self._result("prepare"), self._left("align")
                texts = [_read(aligned.get(part, file), "transcribe")
                         for part, file in self._left("transcribe").items()]  # fmt: skip
                spoke = self._result("diarize") if self._left("diarize") else None
                audio = [Audio(self._audio(part)) for part in range(media.parts or 0)]
                return Parts(media, texts, spoke, audio)
        raise ValueError(f"no stage is given {name!r}")

    def _audio(self, part: int | None) -> Path:
        (prepared,) = self._left("prepare").values()
        return prepared.with_suffix("") / ("audio.wav" if part is None else f"audio-{part}.wav")

    def _left(self, stage: str) -> dict[str, Path]:
        """The results of a stage's tasks, by their ids without the stage: the same for the same part."""
        found = [need for need in self.task.needs if need.stage == stage]
        return {n.id.replace(f".{stage}", ""): self.job / f"{n.id}.{n.token}.json" for n in found}

    def _result(self, stage: str) -> Any:
        (file,) = self._left(stage).values()
        return _read(file, stage)


def _read(file: Path, stage: str) -> Any:
    return msgspec.json.decode(file.read_bytes(), type=STAGES[stage].result)
