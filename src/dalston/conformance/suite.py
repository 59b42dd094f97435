"""All checks of an engine, one line each."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dalston_engine.errors import BadInput, DalstonError

from dalston import settings as settings_
from dalston.conformance.checks import Checks
from dalston.conformance.material import Material, recording
from dalston.conformance.workbench import Workbench, workbench
from dalston.local.environments import EngineFolder

Say = Callable[[str], None]
Check = Callable[[], str]


class Report:
    """Says how each check went, and remembers whether one failed."""

    def __init__(self, say: Say) -> None:
        self.say, self.failed = say, 0

    def check(self, name: str, check: Check) -> bool:
        """Run a check and say how it went."""
        try:
            note = check()
        except DalstonError as error:
            self.failed += 1
            self.say(f"✗ {name}: {error.message}")
            return False
        self.say(f"✓ {name}: {note}")
        return True


def conforms(
    engine: EngineFolder, params: dict[str, Any], say: Say, words: Say, file: Path | None = None
) -> bool:
    """Run all checks; `words` is given the engine's last lines when one failed.

    Raises BadInput for a recording that is not prepared audio.
    """
    report, made = Report(say), _recording(file)
    settings = settings_.load()
    models = Path(settings.models).expanduser() if settings.models else settings.folder / "models"
    manifest = engine.manifest
    report.check("manifest", lambda: f"{manifest.id} {manifest.version}, stage {manifest.stage}")
    with tempfile.TemporaryDirectory(prefix="dalston-test-") as folder:
        if report.check("environment", lambda: _installed(engine)):
            with workbench(engine, Path(folder), models, str(params.get("model", ""))) as bench:
                _run(Checks(bench, params, made), bench, report)
                if report.failed and (last := bench.last_words()):
                    words(last)
    return not report.failed


def _recording(path: Path | None) -> Material:
    try:
        return recording(path)
    except (EOFError, ValueError, wave.Error) as error:
        raise BadInput(f"The recording is no 16 kHz mono 16-bit WAV file: {error}.") from None


def _installed(engine: EngineFolder) -> str:
    engine.install(lambda _: None)
    return "up to date"


def _run(checks: Checks, bench: Workbench, report: Report) -> None:
    report.check("alone", checks.alone)
    if bench.engine.manifest.listens:
        report.check("live", checks.hears)
    if bench.stage.name == "listen":
        with bench.instance():
            report.check("card", checks.announces)
            report.check("SIGTERM", checks.drains)
    elif not _tasks(checks, bench, report):
        return
    report.check("log", checks.discreet)
    report.check("traces", checks.tidy)


def _tasks(checks: Checks, bench: Workbench, report: Report) -> bool:
    """The checks of an engine that is given tasks; False: it does none."""
    with bench.instance():
        if not report.check("card", checks.announces) or not report.check("recording", checks.transcribes):
            report.say("· the other checks need this one")
            return False
        if bench.stage.name == "transcribe":
            report.check("segments", checks.tells)
        if bench.stage.name == "prepare":
            report.check("channels", checks.splits)
        report.check("silence", checks.silent)
        report.check("no sample", checks.empty)
        report.check("damage", checks.damaged)
        report.check("options", checks.options)
        report.check("free text", checks.free_text)
        report.check("life", checks.lives)
        report.check("SIGTERM", checks.drains)
    with bench.instance(hold="progress"):
        report.check("cancel", checks.cancelled)
    report.check("kill -9", checks.taken_over)
    return True
