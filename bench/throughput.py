"""How many tasks a second get through when engines do nothing, and whether a long queue slows them.

Everything but the work itself is real: the SDK's loop in a process for each instance, leases, files,
an orchestrator that publishes, an append-only file. Jobs are put on disk and into Redis before the
clock starts, without the gateway and without its syncs; publishing syncs as always. A rate is the best
of a few rounds: whatever else the machine does only takes away from it.

ext4 passes over inodes that were freed in the last minutes, which makes every new file cost up to 20
times as much after many have been deleted. So nothing is deleted between rounds, and the first one
waits until the file system is as quick as it is for a server at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from dalston_engine import keys
from dalston_engine.queue import AWAY
from dalston_engine.queue import connect as connect_sync
from msgspec import Raw

from bench.figure import Figure
from bench.server import Failed, temporary
from dalston.local import environments, valkey
from dalston.store.client import connect
from dalston.store.events import Events
from dalston.store.files import Files, JobFile, PlanTask, Source
from dalston.store.jobs import Jobs, new_id

JOBS, QUICK_JOBS = 6000, 1500
WIDE = 30
WAITING, QUICK_WAITING = 100_000, 20_000
PAIRS, ROUNDS = 7, 3
PAUSE_MS = 60_000
"""Writes to Redis are held back until all processes have started: starting is not what is measured."""
PROBES, CHEAP_S, CALM_S = 200, 200e-6, 600
SPAN = 6000
"""Tasks over which a rate is taken when most of the queue stays."""
REQUEST = b'{"model":"base","language":"en","word_timestamps":true}'
OPTIONS = '{"language":"en","word_timestamps":true,"beam_size":5,"vad":false,"model":"base"}'
ENGINE = """
import wave
from pathlib import Path
from dalston_engine import Audio, Engine, Media, Parts, Segment, Transcript, serve

class Noop(Engine):
    def prepare(self, source: Path, folder: Path) -> Media:
        with wave.open(str(folder / "audio.wav"), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(16000)
        return Media(1.0, "wav", "pcm_s16le", 16000, 1)

    def transcribe(self, audio: Audio, language: str = "en", word_timestamps: bool = True,
                   beam_size: int = 5, vad: bool = False) -> Transcript:
        return Transcript([Segment(0.0, 1.0, " nothing")], language=language)

    def merge(self, parts: Parts) -> Transcript:
        return parts.transcripts[0]

serve(Noop)
"""
STAGES = ("prepare", "transcribe", "merge")


def run(quick: bool) -> Iterator[Figure]:
    """Rates of two shapes of jobs; memory and slow-down with a long queue."""
    jobs, rounds = (QUICK_JOBS, 1) if quick else (JOBS, ROUNDS)
    with temporary() as parent:
        _calm_down(parent)
        for width, transcribers in ((1, 1), (WIDE, 3)):
            count = jobs * 3 // (width + 2)
            rate = max(_rate(parent, count, width, transcribers) for _ in range(rounds))
            name = f"throughput: jobs of {width + 2} tasks, {transcribers + 2} engine processes"
            yield Figure(name, rate, "tasks/s", 3000, aim=6000, least=True)
        waiting = QUICK_WAITING if quick else WAITING
        pairs = [(_window(parent, SPAN), _window(parent, waiting)) for _ in range(1 if quick else PAIRS)]
        (short, _), (long, memory) = (map(median, zip(*one, strict=True)) for one in zip(*pairs, strict=True))
        yield Figure(f"throughput: time a task with {waiting:,} waiting ÷ few", short / long, "x", 1.1)
        yield Figure("throughput: Redis memory a waiting task", memory / 1000, "kB", 1.2)


def _calm_down(folder: Path) -> None:
    """Wait until new files are cheap."""
    end = time.monotonic() + CALM_S
    while True:
        with tempfile.TemporaryDirectory(dir=folder) as probe:
            began = time.process_time()
            for n in range(PROBES):
                (Path(probe) / str(n)).mkdir()  # folders are spread over the disk, as jobs are
                (Path(probe) / str(n) / "file").touch()
            if (time.process_time() - began) / PROBES < CHEAP_S:
                return
        if time.monotonic() > end:
            print("new files are still dear: the rates are too low", file=sys.stderr)
            return
        time.sleep(10)


def _rate(parent: Path, jobs: int, width: int, transcribers: int) -> float:
    """Tasks a second from the first claim to the last job's end."""
    with _house(parent) as house:
        asyncio.run(house.submit(jobs, width))
        house.redis.client_pause(PAUSE_MS, all=False)
        with house.engines(transcribers), house.orchestrator():
            house.all_are_there(len(STAGES) + transcribers)
            os.sync()  # what earlier rounds left to be written is not this one's
            house.redis.client_unpause()
            while house.redis.zcard(keys.ACTIVE()):
                time.sleep(0.05)
            spans: list[Any] = [house.redis.hmget(key, "started_at", "finished_at", "state")
                     for key in house.redis.scan_iter("dalston:job:*", count=1000)]  # fmt: skip
        if {state for _, _, state in spans} != {"completed"} or len(spans) != jobs:
            raise Failed("not every job completed")
        began, ended = min(int(a) for a, _, _ in spans), max(int(b) for _, b, _ in spans)
        return jobs * (width + 2) / (ended - began) * 1000


def _window(parent: Path, waiting: int) -> tuple[float, float]:
    """Tasks a second over the first `SPAN` of so many waiting ones, and their memory in bytes each."""
    with _house(parent) as house:
        before = house.redis.info("memory")["used_memory"]
        asyncio.run(house.submit(waiting // 3, 1))
        memory = (house.redis.info("memory")["used_memory"] - before) / (waiting // 3 * 3)
        os.sync()  # writing back what was submitted is no part of the tasks
        with house.engines(1):
            warm = SPAN // 6
            began = house.until(warm)
            ended = house.until(warm + SPAN // 2)
        return SPAN / 2 / (ended - began), memory


class House:
    """A Redis, a data folder and no-op engines."""

    def __init__(self, data: Path) -> None:
        self.data, self.url, self.redis = data, valkey.url(data), connect_sync(valkey.url(data))
        self.files = Files(data)

    async def submit(self, jobs: int, width: int) -> None:
        """Put jobs on disk and into Redis."""
        redis = connect(self.url)
        store = Jobs(redis, self.files, Events(redis), keep=86_400)
        for n in range(0, jobs, 100):
            made = [self._file(width) for _ in range(min(100, jobs - n))]
            await asyncio.gather(*map(store.submit, made))
        await redis.aclose()

    def _file(self, width: int) -> JobFile:
        job = new_id()
        folder = self.files.create(job)
        prepare, merge = f"{job}.prepare", f"{job}.merge"
        names = [f"{job}.transcribe"] if width == 1 else [f"{job}.transcribe.{n}" for n in range(width)]
        plan = [
            PlanTask(prepare, "prepare", "noop-prepare", [], "{}"),
            *(PlanTask(name, "transcribe", "noop-transcribe", [prepare], OPTIONS) for name in names),
            PlanTask(merge, "merge", "noop-merge", [prepare, *names], "{}"),
        ]
        source = Source(44, "0" * 64, "recording.wav")
        file = JobFile(job, "local", time.time(), source, Raw(REQUEST), plan)
        (folder / "source.wav").write_bytes(b"RIFF")
        (folder / "job.json").write_bytes(msgspec.json.encode(file))
        return file

    @contextlib.contextmanager
    def engines(self, transcribers: int) -> Iterator[None]:
        """One instance a stage, or more."""
        fake = environments.find("fake", "")
        fake.install(print)
        with contextlib.ExitStack() as stack:
            for stage in STAGES:
                folder = self.data / f"noop-{stage}"
                folder.mkdir(exist_ok=True)
                (folder / "engine.py").write_text(ENGINE)
                manifest = f'[tool.dalston]\nid = "noop-{stage}"\nstage = "{stage}"\n'
                (folder / "pyproject.toml").write_text(f'[project]\nname = "noop"\nversion = "0"\n{manifest}')
                for n in range(transcribers if stage == "transcribe" else 1):
                    command = [fake.command[0], str(folder / "engine.py")]
                    stack.enter_context(self._process(command, f"{stage}-{n}"))
            yield

    def orchestrator(self) -> contextlib.AbstractContextManager[None]:
        """One orchestrator."""
        return self._process([sys.executable, "-m", "dalston.orchestrator"], "orchestrator")

    def all_are_there(self, processes: int) -> None:
        """Wait until so many processes have said their first word, which is held back while writes are."""
        while sum(client["cmd"] == "evalsha" for client in self.redis.client_list()) < processes:
            time.sleep(0.05)

    def until(self, tasks: int) -> float:
        """When so many tasks have been taken off their queues."""
        while self.redis.info("commandstats").get("cmdstat_xdel", {"calls": 0})["calls"] < tasks:
            time.sleep(0.01)
        return time.perf_counter()

    @contextlib.contextmanager
    def _process(self, command: list[str], name: str) -> Iterator[None]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("DALSTON_")}
        env |= {"DALSTON_REDIS_URL": self.url, "DALSTON_DATA": str(self.data)}
        with (self.data / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


@contextlib.contextmanager
def _house(parent: Path) -> Iterator[House]:
    data = Path(tempfile.mkdtemp(dir=parent))
    process: Any = subprocess.Popen(valkey.command(data), preexec_fn=valkey.die_with_parent)
    house = House(data)
    try:
        while True:
            with contextlib.suppress(*AWAY):
                house.redis.ping()
                break
            time.sleep(0.01)
        yield house
    finally:
        house.redis.close()
        process.terminate()
        process.wait()
