"""Build the images, run them with docker-compose, and show that they do what they are for.

    .venv/bin/python scripts/containers.py

It needs a Docker engine and docker-compose 1.29 or later. DALSTON_BASE_IMAGE names the base image,
DALSTON_BUILD_OPTIONS holds more options for `docker build`. Everything but the images is taken away
at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from dalston.live import FinalTranscript
from dalston.live_client import LiveClient
from dalston.settings import Settings

ROOT = Path(__file__).parent.parent
PROJECT, PORT = "dalston-check", "8766"
SAMPLE = ROOT / "samples" / "meeting.flac"
SCALED = "faster-whisper"
ENGINES = sorted(Settings().engines.split(","))
SERVICES = ["gateway", "orchestrator", "valkey", *ENGINES]
COMPOSE = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
API = httpx2.Client(
    base_url=f"http://127.0.0.1:{PORT}", timeout=180, trust_env=False, headers={"x-dalston-api": "native"}
)
MB = 1_000_000


class NotSo(Exception):
    """Something is not as it should be."""


def run(*command: str) -> str:
    """What a command prints; raises NotSo when it fails."""
    env = os.environ | {"DALSTON_PORT": PORT}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)  # noqa: S603
    if done.returncode:
        raise NotSo(f"{shlex.join(command)} failed ({done.returncode})")
    return done.stdout.strip()


def compose(*args: str) -> str:
    """What docker-compose prints for this project."""
    return run(*COMPOSE, "-p", PROJECT, "-f", "deploy/compose.yaml", *args)


def containers(service: str) -> list[str]:
    """The ids of a service's containers."""
    return compose("ps", "-q", service).split()


def inspect(id: str) -> Any:
    """All that Docker knows of a container or an image."""
    return json.loads(run("docker", "inspect", id))[0]


def until(what: Callable[[], Any], told: str, seconds: float = 120) -> Any:
    """The first true answer of `what`."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        if time.monotonic() > end:
            raise NotSo(f"not within {seconds:.0f} s: {told}")
        time.sleep(0.05)
    return answer


def holds(fact: object, told: str) -> None:
    """Say that a fact holds; raises NotSo when it does not."""
    if not fact:
        raise NotSo(told)
    print(f"✓ {told}", flush=True)


def get(path: str, **query: Any) -> Any:
    """GET a path as JSON."""
    answer = API.get(path, params=query)
    return answer.raise_for_status().json()


def submit(**fields: str) -> Any:
    """The job of a new upload of the sample."""
    with SAMPLE.open("rb") as file:
        answer = API.post("/v1/audio/transcriptions", data=fields, files={"file": file})
    return answer.raise_for_status().json()


def answers() -> bool:
    """True when all engines are there and their models loaded."""
    try:
        return API.get("/ready", params={"wait": 5, "engines": ",".join(ENGINES)}).is_success
    except httpx2.TransportError:
        return False


def instances() -> dict[str, str]:
    """State by instance of the engine that is scaled."""
    engine = next(e for e in get("/v1/engines")["engines"] if e["id"] == SCALED)
    return {one["id"]: one["state"] for one in engine["instances"]}


def build() -> None:
    options = shlex.split(os.environ.get("DALSTON_BUILD_OPTIONS", ""))
    if base := os.environ.get("DALSTON_BASE_IMAGE"):
        options += ["--build-arg", f"BASE_IMAGE={base}"]
    began = time.monotonic()
    run("docker", "build", "-q", *options, "-f", "deploy/Dockerfile", "-t", "dalston-server", ".")
    for engine in ENGINES:
        which = ["--build-arg", f"ENGINE={engine}", "-t", f"dalston-engine-{engine}"]
        run("docker", "build", "-q", *options, "-f", "deploy/engine.Dockerfile", *which, ".")
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    for image in ["dalston-server", *(f"dalston-engine-{engine}" for engine in ENGINES)]:
        size = inspect(image)["Size"] / MB
        _, *layers = run("docker", "history", "--human=false", "--format", "{{.Size}}", image).split()[::-1]
        print(f"  {image}: {size:.0f} MB, {sum(map(int, layers)) / MB:.0f} MB of it ours", flush=True)


def transcribes() -> None:
    began = time.monotonic()
    job = submit(wait="true")
    heard = len(job["text"].split())
    holds(
        job["state"] == "completed" and heard > 50,
        f"a recording of {job['duration']:.0f} s is {heard} words after {time.monotonic() - began:.1f} s",
    )


def is_shut() -> None:
    """Users, file systems, ports and health of all containers."""
    for service in SERVICES:
        (id,) = containers(service)
        host = inspect(id)["HostConfig"]
        user = run("docker", "exec", id, "id", "-u")
        attempt = "touch /x /opt/x /usr/x 2>/dev/null || echo refused"
        refused = run("docker", "exec", id, "sh", "-c", attempt) == "refused"
        ports = {port["HostIp"] for one in host["PortBindings"].values() for port in one}
        holds(
            user == "10001"
            and host["ReadonlyRootfs"]
            and refused
            and host["CapDrop"] == ["ALL"]
            and ports == ({"127.0.0.1"} if service == "gateway" else set()),
            f"{service}: user {user}, read-only, no capabilities, published: {', '.join(ports) or 'no'}",
        )
    for service in SERVICES:
        until(partial(well, service), f"{service} is healthy")
    print(f"✓ all {len(SERVICES)} containers are healthy", flush=True)
    answer = API.get("/health", headers={"host": "example.org"})
    holds(answer.status_code == 400, "a request under another host's name is refused")


def well(service: str) -> bool:
    """True when Docker says that a service's container is healthy."""
    return bool(inspect(containers(service)[0])["State"]["Health"]["Status"] == "healthy")


def survives() -> None:
    """Two instances with jobs waiting; one that has a job is killed."""
    compose("up", "-d", "--no-build", "--scale", f"{SCALED}=2")
    until(lambda: len(instances()) == 2 and set(instances().values()) == {"idle"}, "two instances are idle")
    holds(True, f"{SCALED} scaled to two: /v1/engines lists {', '.join(instances())}")
    jobs = [submit()["id"] for _ in range(10)]
    busy = until(
        lambda: next((i for i, state in instances().items() if state == "running"), ""), "a task runs"
    )
    began = time.monotonic()
    kill(lambda: busy)
    ended = [get(f"/v1/audio/transcriptions/{job}", wait=120) for job in jobs]
    stages = [one for job in ended for one in job["stages"] if one["stage"] == "transcribe"]
    seconds = time.monotonic() - began
    holds(
        {job["state"] for job in ended} == {"completed"} and max(one["attempt"] for one in stages) == 2,
        f"its container killed in the middle, all jobs completed, one at attempt 2, {seconds:.1f} s later",
    )


async def streamed(halfway: Callable[[], object]) -> tuple[list[str], float]:
    """What is heard of the sample in a live session, sent within six seconds; `halfway` is called then.

    Also the seconds from then to the next words.
    """
    content, words, called, told = SAMPLE.read_bytes(), list[str](), 0.0, 0.0
    step = len(content) // 60 + 1
    async with LiveClient(str(API.base_url), encoding="flac", model="fast") as live:

        async def send() -> None:
            nonlocal called
            for place in range(0, len(content), step):
                if not called and place > len(content) / 2:
                    await asyncio.to_thread(halfway)
                    called = time.monotonic()
                await live.send(content[place : place + step])
                await asyncio.sleep(0.1)
            live.end()

        sending = asyncio.create_task(send())
        async for event in live:
            if isinstance(event, FinalTranscript):
                words += event.text.split()
                told = told or (time.monotonic() if called else 0.0)
        await sending
    return words, told - called


def hears() -> None:
    """A live session; and one whose worker's container is killed while another has room."""
    compose("up", "-d", "--no-build", "--scale", f"{SCALED}=2")
    until(lambda: len(hearing()) == 2, "two workers hear live sessions")
    words, _ = asyncio.run(streamed(lambda: None))
    holds(len(words) > 50, f"{len(words)} words are heard live")
    killed = partial(kill, lambda: next(one["id"] for one in hearing() if one["sessions"]))
    again, seconds = asyncio.run(streamed(killed))
    holds(again == words, f"its container killed in the middle, the same words, on {seconds:.1f} s later")


def hearing() -> list[Any]:
    """The workers of live sessions that are ready."""
    return [one for one in get("/v1/realtime/status")["workers"] if one["state"] == "ready"]


def kill(instance: Callable[[], str]) -> None:
    """Kill the container of an instance."""
    run("docker", "kill", instance().split("-")[0])


def main() -> int:
    try:
        build()
        began = time.monotonic()
        compose("up", "-d", "--no-build")
        until(answers, "the server is ready")
        holds(True, f"ready {time.monotonic() - began:.1f} s after `up`")
        transcribes()
        is_shut()
        survives()
        hears()
    except NotSo as error:
        print(f"✗ {error}", flush=True)
        print(compose("logs", "--tail", "20"), flush=True)
        return 1
    finally:
        compose("down", "-v", "--remove-orphans")
    return 0


if __name__ == "__main__":
    sys.exit(main())
