"""What every test gets: a real server on request, and proof that it left nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
from dalston_engine.queue import AWAY, connect

from dalston.conformance.leaks import stray_keys
from dalston.local import valkey as embedded
from tests.sdks.driven import VERSIONS

# A busy machine is no failure.
hypothesis.settings.register_profile(
    "dalston", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("dalston")


# Pytest's workers ignore it, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files whose tests may take longest, so that none is left to one process alone."""
    longest: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0), mark.args[0] if mark else 0)
    items.sort(key=lambda item: -longest[item.path])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that gathers it what this one has driven."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["driven"] = VERSIONS


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what a process has driven."""
    VERSIONS.update(getattr(node, "workeroutput", {}).get("driven", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell which versions of SDKs the outcome is about."""
    for name, version in sorted(VERSIONS.items()):
        terminalreporter.write_line(f"driven: {name} {version}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded server, one for all tests."""
    data = tmp_path_factory.mktemp("valkey")
    command = embedded.command(data)
    with subprocess.Popen(command, preexec_fn=embedded.die_with_parent) as process:
        with connect(embedded.url(data)) as client:
            while True:
                try:
                    client.ping()
                    break
                except AWAY:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        pytest.fail(f"{command[0]} ended with {process.wait(0.01)}")
        yield embedded.url(data)
        process.terminate()


@pytest.fixture
def redis(valkey: str) -> Iterator[Any]:
    """A client of the embedded server, which is empty."""
    with connect(valkey) as client:
        client.flushall()
        yield client


@pytest.fixture(autouse=True)
def _leaks_no_key(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every key is of a known family and type, and is on its way out or meant to stay.

    Tests with a server of their own ask the same of that one when it ends.
    """
    client = request.getfixturevalue("redis") if "valkey" in request.fixturenames else None
    yield
    if client is not None:
        assert not stray_keys(client)


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Iterator[None]:
    """No child and no listening port outlives its test; fixtures of wider scope come before this one."""
    this = psutil.Process()
    children, ports = set(this.children()), _ports(this)
    yield
    _, left = psutil.wait_procs(set(this.children()) - children, timeout=3)
    assert not left
    assert not _ports(this) - ports


def _ports(this: psutil.Process) -> set[object]:
    """Where this process listens; the engines of a server of wider scope come and go as they do."""
    return {one.laddr for one in this.net_connections("tcp") if one.status == psutil.CONN_LISTEN}


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path) -> Iterator[None]:
    """No setting of the caller gets in, none of the test's gets out; the data folder is the test's own."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("DALSTON_")]:
        del os.environ[name]
    os.environ["DALSTON_DATA"] = str(tmp_path / "data")
    yield
    os.environ.clear()
    os.environ.update(before)
