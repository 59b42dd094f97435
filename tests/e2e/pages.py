"""The pages of the docs as somebody follows them: every command, every file, in order.

An indented block is commands. A fenced block of Python or TOML is the content of the file that the
paragraph before it names, if it names one. A fenced block of text is what the command before it has
printed, `…` for anything.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import httpx2
from msgspec import Struct

from tests.waiting import until

ROOT = Path(__file__).parents[2]
PORT = "8765"
DALSTON = ".venv/bin/dalston"
RECORDING = ROOT / "samples" / "meeting.flac"
NOT_RUN = {
    "make test": "runs this very test",
    "make check": "runs this very test",
    ".venv/bin/dalston listen": "wants a microphone",
    "make setup": "has been run, else there would be no test",
}
"""Commands that a test cannot run, and why; a page may have no others that are left out."""
FILES = {"```python", "```toml"}
STAYS = re.compile(r"dalston (up|engine start)\b")
"""Commands in a terminal of their own: they run until Ctrl-C."""
ALONE = re.compile(r"dalston (rebuild|up)\b")
"""Commands that want no server to run, so one that runs is stopped before."""


class Step(Struct):
    """Something that a reader does."""

    kind: str
    """command, file or output."""
    text: str
    name: str = ""
    """Of a file."""


def steps(page: Path) -> list[Step]:
    """All steps of a page, in order."""
    found: list[Step] = []
    paragraph, fence, block = "", "", list[str]()
    for line, following in pairwise([*page.read_text().splitlines(), "", ""]):
        if line.startswith("```"):
            names = re.findall(r"`([\w./-]+/[\w.]+)`", paragraph)
            if fence in FILES and names:
                found.append(Step("file", "\n".join(block) + "\n", names[-1]))
            elif fence == "```text":
                found.append(Step("output", "\n".join(block)))
            fence, block = ("" if fence else line), []
        elif fence:
            block.append(line)
        elif line.startswith("    ") or (not line and following.startswith("    ")):
            block.append(line.strip())
        else:
            found += [Step("command", one) for one in commands("\n".join(block))]
            block = []
            paragraph = paragraph + line if line or following.startswith("```") else ""
    return found


def commands(block: str) -> list[str]:
    """The commands of a block; a backslash at the end of a line joins it with the next."""
    return [line for line in block.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


class Reader:
    """Somebody who follows a page, in a tree that looks like a checkout, with a port of his own."""

    def __init__(self, folder: Path) -> None:
        self.root, self.port = folder / "checkout", str(_free_port())
        self.root.mkdir()
        for path in ROOT.iterdir():
            if path.name not in {".data", ".git"}:
                (self.root / path.name).symlink_to(path)
        self.env = os.environ | {"DALSTON_PORT": self.port}
        self.printed, self.left_out = "", list[str]()
        self.terminals: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    def follow(self, page: Path) -> None:
        """Do all that the page says."""
        for step in steps(page):
            match step.kind:
                case "file":
                    (self.root / step.name).parent.mkdir(parents=True, exist_ok=True)
                    (self.root / step.name).write_text(step.text.replace(f":{PORT}", f":{self.port}"))
                case "output":
                    self._compare(step.text)
                case "command":
                    self._run(step.text.replace(f":{PORT}", f":{self.port}"))

    def close(self) -> list[int]:
        """Ctrl-C in every terminal, the last one first; how they ended."""
        codes = []
        while self.terminals:
            _, process, _ = self.terminals.pop()
            process.send_signal(signal.SIGINT)
            codes.append(process.wait(30))
        return codes

    def _run(self, command: str) -> None:
        bare = command.split("  #")[0].strip()
        if bare in NOT_RUN:
            self.left_out.append(bare)
            return
        if bare.startswith("export "):
            name, value = bare.removeprefix("export ").split("=", 1)
            self.env[name] = value
            return
        if ALONE.search(bare):
            assert set(self.close()) <= {0}
        if STAYS.search(bare):
            self._open(bare)
            return
        if re.search(r"\bID\b", bare):
            bare = re.sub(r"\bID\b", self._job(ended="dalston export" in bare), bare)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", bare],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
        )
        self.printed = done.stdout
        assert done.returncode == 0, f"{bare}\n{done.stdout}{done.stderr}"

    def _open(self, command: str) -> None:
        log = self.root / f"terminal-{len(self.terminals)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", command.replace(DALSTON, f"exec {DALSTON}", 1)],
                cwd=self.root, env=self.env, stdout=out, stderr=out,
            )  # fmt: skip
        self.terminals.append((command, process, log))
        wanted: Callable[[], bool] = lambda: "is ready" in log.read_text() or process.poll() is not None  # noqa: E731
        until(wanted, 120)
        assert process.poll() is None, f"{command}\n{log.read_text()}"

    def _job(self, ended: bool) -> str:
        """A job that has ended, or one that still waits: there are others before it."""
        content = RECORDING.read_bytes()
        url = f"http://127.0.0.1:{self.port}/v1/audio/transcriptions"
        with httpx2.Client(headers={"x-dalston-api": "native"}, timeout=60) as client:
            answers = [client.post(url, files={"file": ("meeting.flac", content)}) for _ in range(5)]
            job = str(answers[0 if ended else -1].json()["id"])
            if ended:
                assert client.get(f"{url}/{job}", params={"wait": 50}).json()["state"] == "completed"
        return job

    def _compare(self, expected: str) -> None:
        for line in expected.splitlines():
            pattern = ".*".join(re.escape(part) for part in line.split("…"))
            assert re.search(f"^{pattern}$", self.printed, re.MULTILINE), line + " is not in\n" + self.printed


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
