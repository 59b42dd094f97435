"""However a task ends, it has an outcome; nothing is written where nothing should be."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import wave
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import pytest
import redis
from dalston_engine import Audio, BadInput, Engine, Media, ModelUnavailable, Retry, Segment, Transcript
from dalston_engine.errors import Cancelled, DalstonError, Drained, LeaseLost
from dalston_engine.host import Host
from dalston_engine.manifest import Manifest
from dalston_engine.models import Models
from dalston_engine.types import Need, Task
from dalston_engine.worker import Worker
from dalston_engine.workspace import JobGone, Workspace, encode
from msgspec import Meta

TASK = Task("j.prepare", "j", "prepare", "stub", 1, "token")
PRIVATE = "what was said in private"


class Number:
    """A scalar as numpy has them."""

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


class Stub(Engine):
    """A prepare engine that ends as `end` says."""

    end: Any = None

    def prepare(self, source: Path, folder: Path, gain: Annotated[int, Meta(ge=1)] = 1) -> Media:
        (folder / "audio.wav").write_bytes(source.read_bytes() * gain)
        self.progress(0.5)
        if isinstance(self.end, BaseException):
            raise self.end
        return Media(1.0, "wav", "pcm", 8000, 1) if self.end is None else self.end


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """A worker that has a job's folder, and no need of Redis."""
    (tmp_path / "jobs" / "j").mkdir(parents=True)
    (tmp_path / "jobs" / "j" / "source.wav").write_bytes(b"RIFF")
    manifest = Manifest("stub", "prepare")
    host = Host(type("Ends", (Stub,), {}), manifest, Models(manifest, tmp_path / "models"))
    return Worker(host, "unix:///nowhere", "one", tmp_path / "jobs")


def ends(worker: Worker, end: object) -> None:
    """Let the engine end like this."""
    worker.host.engine.end = end  # type: ignore[attr-defined]


def left(worker: Worker) -> set[str]:
    """What there is below the jobs' folder."""
    return {path.relative_to(worker.jobs).as_posix() for path in worker.jobs.rglob("*") if path.is_file()}


def test_a_return_value_is_published(worker: Worker) -> None:
    outcome = worker.perform(TASK)
    assert (outcome.word, outcome.error) == ("completed", None)
    assert outcome.seconds is not None
    assert left(worker) == {"j/source.wav", "j/j.prepare.token/audio.wav", "j/j.prepare.token.json"}


@pytest.mark.parametrize(
    ("error", "word", "code"),
    [
        (BadInput("No audio.", code="invalid_audio"), "failed", "invalid_audio"),
        (ModelUnavailable(), "failed", "model_unavailable"),
        (Retry("Busy."), "retry", "engine_error"),
        (DalstonError(), "retry", "internal_error"),
        (RuntimeError(PRIVATE), "retry", "engine_error"),
        (MemoryError(), "retry", "engine_error"),
        (OSError(28, "No space left on device"), "postponed", "disk_full"),
        (OSError(5, "Input/output error"), "retry", "engine_error"),
        (Cancelled(), "cancelled", "cancelled"),
        (Drained(), "released", "interrupted"),
        (LeaseLost(), "released", "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_exception_has_its_outcome(worker: Worker, error: Exception, word: str, code: str) -> None:
    ends(worker, error)
    outcome = worker.perform(TASK)
    assert outcome.word == word
    assert outcome.error is not None
    assert outcome.error.code == code
    assert left(worker) == {"j/source.wav"}


def test_an_engines_own_message_reaches_the_caller_but_a_strangers_does_not(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    ends(worker, BadInput("The recording is silent."))
    told = worker.perform(TASK).error
    assert told is not None
    assert told.message == "The recording is silent."
    ends(worker, ValueError(PRIVATE))
    with caplog.at_level(logging.DEBUG):
        told = worker.perform(TASK).error
    assert told is not None
    assert told.message == "stub failed on this recording: ValueError."
    assert PRIVATE not in caplog.text


def test_progress_is_a_plain_number_whatever_the_library_counts_in(worker: Worker) -> None:
    """A float of numpy is one of Python's too, but is not written like one."""

    class Float64(float):
        def __repr__(self) -> str:
            return f"np.float64({float(self)})"

    told: list[float] = []
    engine = Stub()
    engine.report = told.append
    for fraction in (Float64(0.25), Float64(7)):
        engine.progress(fraction)
    assert repr(told) == "[0.25, 1.0]"


def test_a_draining_worker_gives_the_task_back_at_its_next_progress(worker: Worker) -> None:
    worker.keeper.draining = True
    assert worker.perform(TASK).word == "released"
    assert left(worker) == {"j/source.wav"}


@pytest.mark.parametrize("params", ['{"gain": 0}', '{"colour": "red"}', '{"gain": "loud"}'])
def test_options_that_do_not_fit_fail_for_good(worker: Worker, params: str) -> None:
    outcome = worker.perform(Task("j.prepare", "j", "prepare", "stub", 1, "token", params))
    assert outcome.word == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "invalid_option"


def test_options_reach_the_engine(worker: Worker) -> None:
    assert (
        worker.perform(Task("j.prepare", "j", "prepare", "stub", 1, "token", '{"gain": 2}')).word
        == "completed"
    )
    assert (worker.jobs / "j/j.prepare.token/audio.wav").read_bytes() == b"RIFFRIFF"


def test_a_result_of_another_type_fails_for_good(worker: Worker) -> None:
    ends(worker, "some text")
    outcome = worker.perform(TASK)
    assert outcome.word == "failed"
    assert outcome.error is not None
    assert (outcome.error.status, "Media" in outcome.error.message) == (500, True)


def test_a_task_of_a_deleted_job_fails_and_does_not_bring_it_back(worker: Worker) -> None:
    outcome = worker.perform(Task("gone.prepare", "gone", "prepare", "stub", 1, "token"))
    assert outcome.word == "failed"
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.status) == ("job_gone", 410)
    assert not (worker.jobs / "gone").exists()


def test_a_job_deleted_during_its_task_is_not_brought_back(tmp_path: Path) -> None:
    job = tmp_path / "j"
    job.mkdir()
    with Workspace(tmp_path, TASK) as workspace:
        job.rename(tmp_path / "trash")
        with pytest.raises(FileNotFoundError):
            workspace.publish({})
    assert not job.exists()


def test_a_workspace_never_creates_the_jobs_folder(tmp_path: Path) -> None:
    with pytest.raises(JobGone), Workspace(tmp_path / "jobs", TASK):
        pass
    assert not (tmp_path / "jobs").exists()


def test_an_attempt_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    with contextlib.suppress(KeyError), Workspace(tmp_path, TASK) as workspace:
        workspace.argument("folder").joinpath("half").write_text("x")
        raise KeyError
    assert list((tmp_path / "j").iterdir()) == []


def test_the_settled_attempt_is_the_one_that_is_read(worker: Worker) -> None:
    for token in ("first", "second"):
        ends(worker, Media(1.0 if token == "first" else 2.0, "wav", "pcm", 8000, 1))
        assert worker.perform(Task("j.prepare", "j", "prepare", "stub", 1, token)).word == "completed"
    merge = Task("j.merge", "j", "merge", "merger", 1, "t", needs=[Need("j.prepare", "prepare", "second")])
    assert Workspace(worker.jobs, merge).argument("parts").media.duration == 2.0


def test_a_stage_is_given_nothing_but_what_its_contract_names(worker: Worker) -> None:
    with pytest.raises(ValueError, match="'secrets'"):
        Workspace(worker.jobs, TASK).argument("secrets")


def test_numbers_of_numpy_are_written_as_numbers(worker: Worker) -> None:
    ends(worker, Media(Number(1.5), "wav", "pcm", Number(8000), 1))  # type: ignore[arg-type]
    assert worker.perform(TASK).word == "completed"
    written = json.loads((worker.jobs / "j/j.prepare.token.json").read_bytes())
    assert (written["duration"], written["sample_rate"]) == (1.5, 8000)
    assert json.loads(encode([Number(0.25)])) == [0.25]


class Chatter(Engine):
    """A transcribe engine that says two things while it works."""

    def transcribe(self, audio: Audio) -> Generator[Segment, None, Transcript]:
        said = [Segment(0.0, 0.5, " one"), Segment(0.5, 1.0, " two")]
        yield from said
        return Transcript(said)


@pytest.fixture
def chatter(tmp_path: Path) -> Worker:
    """A worker with prepared audio."""
    folder = tmp_path / "jobs" / "j" / "j.prepare.first"
    folder.mkdir(parents=True)
    with wave.open(str(folder / "audio.wav"), "wb") as wav:
        wav.setparams((1, 2, 16_000, 0, "NONE", ""))
        wav.writeframes(bytes(32_000))
    manifest = Manifest("chatter", "transcribe")
    host = Host(Chatter, manifest, Models(manifest, tmp_path / "models"))
    return Worker(host, "unix:///nowhere", "one", tmp_path / "jobs")


def talk(params: str) -> Task:
    """A task for the chatter."""
    return Task("j.t", "j", "transcribe", "chatter", 1, "t", params, [Need("j.prepare", "prepare", "first")])


def test_what_nobody_follows_is_sent_nowhere(chatter: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(chatter.queue.__class__, "tell")
    assert chatter.perform(talk("{}")).word == "completed"
    written = json.loads((chatter.jobs / "j/j.t.t.json").read_bytes())
    assert [segment["text"] for segment in written["segments"]] == [" one", " two"]


def test_segments_are_sent_as_they_come(chatter: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, list[str]]] = []
    monkeypatch.setattr(chatter.queue, "tell", lambda _, n, said: told.append((n, [s.text for s in said])))
    assert chatter.perform(talk('{"stream": true}')).word == "completed"
    assert told == [(0, [" one"]), (1, [" two"])]


def test_a_redis_that_is_away_stops_no_transcription(
    chatter: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, list[str]]] = []

    def tell(_: Task, n: int, said: list[Segment]) -> None:
        told.append((n, [s.text for s in said]))
        if len(told) == 1:
            raise redis.exceptions.ConnectionError

    monkeypatch.setattr(chatter.queue, "tell", tell)
    assert chatter.perform(talk('{"stream": true}')).word == "completed"
    assert told == [(0, [" one"]), (0, [" one", " two"])]


def test_an_engine_without_its_stages_method_is_refused_at_once(tmp_path: Path) -> None:
    manifest = Manifest("stub", "merge")
    with pytest.raises(TypeError, match=re.escape("it needs a method merge(self, parts, …)")):
        Host(Stub, manifest, Models(manifest, tmp_path))
