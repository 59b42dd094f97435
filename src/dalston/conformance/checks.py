"""What every engine must do, one function a check.

A check returns a note on what it saw, and raises Failed with a sentence on what is wrong.
"""

from __future__ import annotations

import re
import signal
import subprocess
import wave
from pathlib import Path
from typing import Any

import msgspec
from dalston_engine import Audio, Diarization, Media, Transcript, keys
from dalston_engine.errors import DalstonError
from dalston_engine.parameters import validated
from dalston_engine.types import Card

from dalston.conformance import hearing, material
from dalston.conformance.leaks import stray_keys
from dalston.conformance.material import MARKER, Material
from dalston.conformance.workbench import Attempt, Failed, Workbench
from dalston.orchestrator.options import type_of

PAUSE_S = 5.0
"""An engine that keeps its other threads from running longer than this loses its lease."""
DRAIN_S = 60.0
"""How long a process may take to end once it has nothing to finish."""
BLUR_S = 0.5
"""How far times may lie outside the recording: models count in steps."""
SHARED_S = 1e-3
"""How much of turns that exclude each other rounding may make them share."""
IMPOSSIBLE = "impossible"
"""A value for options that take no text."""
PHRASE = 3
"""Words that make a text long enough to be recognised in a log."""
SERVER_FAULT = 500
CHECKED = {"integer", "number", "string", "boolean", "null", "array"}
"""Types of options that the gateway can check."""
Params = dict[str, Any]


class Checks:
    """The checks of one engine, in the order in which they build on each other."""

    def __init__(self, bench: Workbench, params: Params, recording: Material) -> None:
        self.bench, self.given, self.params, self.recording = bench, params, params, recording
        self.card = Card("", "")
        self.said: set[str] = {MARKER}
        """Texts that must not turn up in a log."""
        self.folder = _listing(bench.engine.folder)

    def alone(self) -> str:
        """Runs by hand with a recording, and lets other threads run meanwhile."""
        inputs = self._inputs(self.recording)
        options = [word for name, value in self.given.items() for word in ("-o", f"{name}={value}")]
        done = self.bench.alone(*inputs, *options)
        if done.returncode:
            raise Failed(f"`engine.py` with a recording ended with {done.returncode}: {_last(done.stderr)}")
        result = self._decoded(done.stdout.encode())
        numbers = re.findall(r"^-?\d+\.\d+(?:e-\d+)?$", done.stderr, re.MULTILINE)
        if not numbers:
            raise Failed("it ended its process before its work was done")
        pause = max(float(numbers[-1]), 0.0)
        if pause > PAUSE_S:
            raise Failed(f"its other threads could not run for {pause:.1f} s; {PAUSE_S:.0f} s are allowed")
        return f"prints a {type(result).__name__}; other threads waited {pause:.2f} s at most"

    def hears(self) -> str:
        """Hears utterances of live sessions."""
        return hearing.hears(self.bench, str(self.given.get("model", "")), self.recording.audio)

    def announces(self) -> str:
        """Its card is in Redis, and the server understands every option on it."""
        key = keys.ENGINE(engine=self.bench.engine.manifest.id)
        found = self.bench.until(lambda: self.bench.redis.hget(key, "card"), "its start")
        self.card = msgspec.json.decode(found, type=Card)
        manifest = self.bench.engine.manifest
        if (self.card.id, self.card.stage) != (manifest.id, manifest.stage):
            raise Failed("its card says another id or stage than its manifest")
        rules = self.card.params.get("properties", {})
        vague = [name for name, rule in rules.items() if not _understood(rule)]
        if vague:
            raise Failed(
                f"the server cannot check the type of: {', '.join(vague)}; see docs/how-to/write-an-engine.md"
            )
        without = [name for name, rule in rules.items() if "default" not in rule]
        if without:
            raise Failed(f"options need a default: {', '.join(without)}")
        try:
            self.params = self._checked(self.given)
        except DalstonError as error:
            raise Failed(f"--option: {error.message}") from None
        return f"options: {', '.join(rules) or 'none'}"

    def transcribes(self) -> str:
        """Gives the right kind of result for a recording."""
        attempt = self.bench.ended(self.recording, self.params)
        if attempt.state != "completed":
            raise Failed(_why(attempt))
        return self._plausible(self._decoded(self.bench.result(attempt)), attempt)

    def tells(self) -> str:
        """What it says on the way is what it says in the end."""
        attempt = self.bench.ended(self.recording, self.params | {"stream": True})
        if attempt.state != "completed":
            raise Failed(_why(attempt))
        told = self.bench.told(attempt)
        if not told:
            return "yields none, so who follows a job hears nothing before its end"
        if told != self._decoded(self.bench.result(attempt)).segments:
            raise Failed("the segments that it yields are not those that it returns")
        return f"yields {len(told)} before its end"

    def splits(self) -> str:
        """It leaves each channel by itself, if it says that it can."""
        if "per_channel" not in self.card.params.get("properties", {}):
            return "it does not tell channels apart"
        attempt = self.bench.ended(self.recording, self.params | {"per_channel": True})
        if attempt.state != "completed":
            raise Failed(_why(attempt))
        media = self._decoded(self.bench.result(attempt))
        if (media.parts, media.split) != (media.channels, "channels"):
            raise Failed('with per_channel its result needs parts = its channels and split = "channels"')
        folder = self.bench.files.jobs / attempt.job / f"{attempt.task}.{attempt.token}"
        notes = [_prepared(media, folder / f"audio-{n}.wav", self.recording) for n in range(media.parts)]
        return ", ".join(notes)

    def silent(self) -> str:
        """Silence is no accident."""
        return self._bears(material.silence())

    def empty(self) -> str:
        """Nor is a recording without a sample."""
        return self._bears(material.empty())

    def damaged(self) -> str:
        """What is damaged fails for good, with a sentence."""
        attempt = self.bench.ended(material.damaged(), self.params)
        if attempt.state == "completed":
            raise Failed("it made a result of random bytes")
        told = _refused(attempt)
        if self.bench.stage.name == "prepare" and attempt.error and attempt.error.status >= SERVER_FAULT:
            raise Failed(f"{told} It has status {attempt.error.status}; raise BadInput for what is no audio")
        return f"refused: {told}"

    def options(self) -> str:
        """Unknown and impossible options are refused."""
        unknown = self.bench.ended(self.recording, self.params | {"zeppelin": "1"})
        if unknown.state != "failed" or not unknown.error or unknown.error.code != "invalid_option":
            raise Failed(f"an unknown option was not refused: {_why(unknown)}")
        rules = self.card.params.get("properties", {})
        strict = [name for name, rule in rules.items() if not _takes_text(rule)]
        for name in strict:
            attempt = self.bench.ended(self.recording, self.params | {name: IMPOSSIBLE})
            if attempt.state != "failed" or not attempt.error or attempt.error.code != "invalid_option":
                raise Failed(f"a wrong value for {name} was not refused: {_why(attempt)}")
        return f"an unknown one is refused{', and wrong values of ' + ', '.join(strict) if strict else ''}"

    def free_text(self) -> str:
        """What callers write into options does not come back in errors."""
        rules = self.card.params.get("properties", {})
        free = {name: MARKER for name, rule in rules.items() if _takes_text(rule) and name != "language"}
        attempt = self.bench.ended(self.recording, self.params | free)
        if attempt.error and MARKER in attempt.error.message:
            raise Failed("its error message repeats what an option said, which may be personal")
        return f"{', '.join(free)}: {attempt.state}" if free else "there is none"

    def lives(self) -> str:
        """After all of that the same process still works."""
        attempt = self.bench.ended(self.recording, self.params)
        if attempt.state != "completed":
            raise Failed(_why(attempt))
        return "one process has done all of this"

    def cancelled(self) -> str:
        """A cancelled task ends at its next progress call."""
        bench, task = self.bench, self.bench.submit(self.recording, self.params)
        if not bench.held(task):
            return "reports no progress, so a cancelled task runs to its end"
        bench.cancel(task)
        following = bench.submit(self.recording, self.params)
        if not bench.held(following):
            raise Failed(f"the task after a cancelled one was not begun: {_why(bench.look(following))}")
        if bench.swallowed():
            raise Failed("it caught what progress() raises and went on: let `Interrupted` through")
        if left := bench.left(bench.look(task)):
            raise Failed(f"the cancelled task left {len(left)} files behind")
        self._stop(following)
        if bench.swallowed():
            raise Failed("it caught what progress() raises when its process stops: let `Interrupted` through")
        return "the task ended, the next one began; stopped in the middle, that one went back to its queue"

    def drains(self) -> str:
        """SIGTERM: the process ends by itself, and leaves the fleet."""
        process = self.bench.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"asked to stop, it still runs after {DRAIN_S:.0f} s") from None
        if code:
            raise Failed(f"asked to stop, it ended with {code}")
        seen = self.bench.redis.zrange(keys.ENGINES(), 0, -1, withscores=True)
        own = f"{self.bench.engine.manifest.id}/"
        if any(score for member, score in seen if member.startswith(own)):
            raise Failed("it ended without leaving the fleet")
        return "ends with 0 and has left the fleet"

    def taken_over(self) -> str:
        """kill -9 in the middle of a task: another instance does it, after the lease."""
        bench = self.bench
        task = bench.submit(self.recording, self.params)
        with bench.instance(hold="start", tmp=bench.killed) as process:
            if not bench.held(task):
                raise Failed(f"the task was not begun: {_why(bench.look(task))}")
            process.kill()
            process.wait()
        with bench.instance():
            bench.until(lambda: bench.taken_back(task), "taking it back")
            bench.until(lambda: bench.look(task).state in {"completed", "failed", "retrying"}, "the task")
        attempt = bench.look(task)
        if (attempt.state, attempt.attempt) != ("completed", 2):
            raise Failed(f"after {attempt.attempt} attempts: {_why(attempt)}")
        return "another instance completed the task at the second attempt"

    def discreet(self) -> str:
        """Its log and its errors say nothing of what was said."""
        if any(text in error for error in self.bench.errors for text in (MARKER, str(self.bench.data))):
            raise Failed("an error message holds text of a transcript, of an option, or a path of the server")
        log = self.bench.log.read_text(errors="replace")
        if any(text in log for text in self.said):
            raise Failed("its log holds text of a transcript or of an option, which is personal")
        return f"{len(log.splitlines())} lines without a text"

    def tidy(self) -> str:
        """It leaves results where they belong and nothing elsewhere."""
        bench = self.bench
        places = {"its working folder": bench.cwd, "the folder for temporary files": bench.tmp}
        for name, place in places.items():
            if found := _listing(place):
                raise Failed(f"it left {len(found)} files in {name}: {', '.join(sorted(found)[:3])}")
        if new := _listing(bench.engine.folder) - self.folder:
            raise Failed(f"it wrote into its own folder: {', '.join(sorted(new)[:3])}")
        if strange := {path.name for path in bench.data.iterdir()} - {"jobs", "trash"}:
            raise Failed(f"it wrote into the data folder: {', '.join(sorted(strange)[:3])}")
        if files := bench.stray_attempts():
            raise Failed(f"attempts that do not count left files: {', '.join(files[:3])}")
        if keys_left := stray_keys(bench.redis):
            raise Failed(f"it left keys in Redis: {', '.join(keys_left[:3])}")
        return "no file and no key is left where none belongs"

    def _stop(self, task: str) -> None:
        self.drains()
        attempt = self.bench.look(task)
        if (attempt.state, attempt.attempt) != ("queued", 0):
            raise Failed(f"stopped in the middle, its task did not go back uncounted: {_why(attempt)}")
        self.bench.cancel(task)

    def _bears(self, made: Material) -> str:
        attempt = self.bench.ended(made, self.params)
        if attempt.state == "completed":
            self._decoded(self.bench.result(attempt))
            return "gives a result"
        told = _refused(attempt)
        if attempt.error and attempt.error.status >= SERVER_FAULT:
            raise Failed(f"{told} That is nobody's fault but the engine's (status {attempt.error.status})")
        return f"refused: {told}"

    def _checked(self, given: Params) -> Params:
        """The options of the command line as the gateway takes them from a request."""
        options = {name: value for name, value in given.items() if name != "model"}
        values: Params = msgspec.to_builtins(validated(type_of(self.card.params), options))
        return values | {name: value for name, value in given.items() if name == "model"}

    def _inputs(self, made: Material) -> list[str | Path]:
        """The material in files, as `engine.py` takes it on its command line."""
        folder = self.bench.inputs
        contents = {"source.wav": made.source, "audio.wav": made.audio, "media.json": made.media,
                    "transcript.json": made.transcript}  # fmt: skip
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        (folder / "out").mkdir()
        arguments: dict[str, list[str | Path]] = {
            "prepare": ["--folder", folder / "out", folder / "source.wav"],
            "transcribe": [folder / "audio.wav"],
            "align": [folder / "audio.wav", folder / "transcript.json"],
            "diarize": [folder / "audio.wav"],
            "merge": [folder / "media.json", folder / "transcript.json"],
            "listen": [folder / "audio.wav"],
        }
        return arguments[self.bench.stage.name]

    def _decoded(self, content: bytes) -> Any:
        kind = self.bench.stage.result
        try:
            result: Any = msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise Failed(f"its result is no {kind.__name__}: {error}") from None
        if isinstance(result, list):
            return self._decoded_each(content)
        if isinstance(result, Transcript):
            texts = ["".join(s.text for s in result.segments), *(s.text for s in result.segments)]
            self.said |= {text.strip() for text in texts if len(text.split()) >= PHRASE}
        return result

    def _decoded_each(self, content: bytes) -> list[Transcript]:
        try:
            return msgspec.json.decode(content, type=list[Transcript])
        except msgspec.DecodeError as error:
            raise Failed(f"its result is no list of transcripts: {error}") from None

    def _plausible(self, result: Any, attempt: Attempt) -> str:
        if isinstance(result, Media):
            artifact = self.bench.files.jobs / attempt.job / f"{attempt.task}.{attempt.token}"
            return _prepared(result, artifact / "audio.wav", self.recording)
        if isinstance(result, Diarization):
            return _turned(result, self.recording)
        note = _timed(result, self.recording)
        if self.bench.stage.name == "align":
            given = msgspec.json.decode(self.recording.transcript, type=Transcript)
            if [segment.text for segment in result.segments] != [one.text for one in given.segments]:
                raise Failed("an align engine leaves the text as it is")
        if self.bench.stage.name == "merge" and result.text is None:
            raise Failed("a merge engine sets the transcript's text")
        words = "word_timestamps" in self.card.params.get("properties", {})
        if self.card.words and words and self.params.get("word_timestamps", True) and result.words is None:
            raise Failed("its manifest says words = true, but it gave no words")
        return note


def _prepared(media: Media, path: Path, made: Material) -> str:
    try:
        seconds = Audio(path).duration
    except (OSError, EOFError, ValueError, wave.Error) as error:
        raise Failed(f"it left no prepared audio ({path.name}, 16 kHz mono 16-bit): {error}") from None
    for what, value in ((f"{path.name} lasts", seconds), ("it says", media.duration)):
        if abs(value - made.seconds) > BLUR_S / 5:
            raise Failed(f"{what} {value:.2f} s, but the recording lasts {made.seconds:.2f} s")
    return f"{seconds:.1f} s of prepared audio"


def _timed(result: Transcript, made: Material) -> str:
    end = made.seconds + BLUR_S
    kinds: dict[str, Any] = {"segment": result.segments, "word": result.words or []}
    for what, spans in kinds.items():
        last = 0.0
        for at, span in enumerate(spans):
            if not 0 <= span.start <= span.end <= end or span.start < last:
                raise Failed(
                    f"{what} {at} lies from {span.start:.2f} to {span.end:.2f} s, after one at {last:.2f} s"
                )
            last = span.start
    whole = "".join(segment.text for segment in result.segments).strip()
    if result.words and "".join(word.text for word in result.words).strip() != whole:
        raise Failed("its words joined are not its segments joined: words keep their leading space")
    words = "" if result.words is None else f", words: {len(result.words)}"
    return f"{made.seconds:.1f} s, segments: {len(result.segments)}{words}"


def _turned(result: Diarization, made: Material) -> str:
    """Turns in order, within the recording; those that are exclusive do not overlap."""
    kinds = {"turn": result.turns, "exclusive turn": result.exclusive or []}
    for what, turns in kinds.items():
        last = 0.0
        for at, turn in enumerate(turns):
            if not 0 <= turn.start <= turn.end <= made.seconds + BLUR_S or turn.start < last - SHARED_S:
                raise Failed(
                    f"{what} {at} lies from {turn.start:.2f} to {turn.end:.2f} s, after one at {last:.2f} s"
                )
            last = turn.end if what == "exclusive turn" else turn.start
    speakers = dict.fromkeys(turn.speaker for turn in result.turns)
    if list(speakers) != [f"speaker_{n}" for n in range(len(speakers))]:
        raise Failed(f"speakers are named speaker_0, speaker_1, … as they begin, not {', '.join(speakers)}")
    return f"{made.seconds:.1f} s, turns: {len(result.turns)}, speakers: {len(speakers)}"


def _understood(rule: dict[str, Any]) -> bool:
    if "anyOf" in rule:
        return all(_understood(one) for one in rule["anyOf"])
    return rule.get("type") in CHECKED or "enum" in rule


def _takes_text(rule: dict[str, Any]) -> bool:
    if "anyOf" in rule:
        return any(_takes_text(one) for one in rule["anyOf"])
    return "enum" not in rule and rule.get("type") in {"string", "array"}


def _refused(attempt: Attempt) -> str:
    """The sentence of a task that failed for good."""
    if attempt.state != "failed" or attempt.error is None:
        raise Failed(_why(attempt))
    if not attempt.error.message.strip():
        raise Failed("it failed without a message: say what is wrong and what to do")
    return attempt.error.message


def _why(attempt: Attempt) -> str:
    message = attempt.error.message if attempt.error else ""
    if attempt.state == "retrying":
        return f"{message} It would be tried again: raise BadInput for what is the recording's own fault"
    return message or f"the task is {attempt.state}"


def _listing(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if not {".venv", "__pycache__"} & set(path.parts)}


def _last(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "it said nothing")
