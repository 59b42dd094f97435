"""Recordings that are fetched, asked for by ElevenLabs' SDKs."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import DATA
from tests.sdks.conftest import Sdk
from tests.sdks.test_elevenlabs import JFK, assert_chunk, convert, done, recall


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the recordings."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def shelf(folder: Path) -> Iterator[str]:
    """The address of a web server with a folder's files."""

    def handler(*args: Any) -> Quiet:
        return Quiet(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def address(clip: str) -> Iterator[str]:
    """Where the recordings are."""
    with shelf(DATA) as found:
        yield found


def test_a_recording_is_fetched_and_transcribed(sdk: Sdk, address: str) -> None:
    told = done(convert(sdk, source_url=f"{address}/clips/jfk.flac"))
    assert_chunk(told)
    assert recall(told["text"], JFK) > 0.9


def test_the_older_name_of_the_field_does_too(sdk: Sdk, address: str) -> None:
    told = done(convert(sdk, model_id="turns", cloud_storage_url=f"{address}/clips/jfk.flac"))
    assert told["audio_duration_secs"] == pytest.approx(11, abs=0.1)


def test_what_is_not_there_is_told(sdk: Sdk, address: str) -> None:
    said = convert(sdk, model_id="turns", source_url=f"{address}/none.flac?key=secret")
    assert said["status"] == 422, said
    assert said["body"]["detail"]["code"] == "source_unreachable"
    assert "secret" not in said["text"]


def test_one_source_is_enough(sdk: Sdk, address: str, mono: str) -> None:
    url = f"{address}/clips/jfk.flac"
    said = convert(sdk, mono, model_id="turns", source_url=url)
    assert (said["status"], said["body"]["detail"]["param"]) == (400, "file")
    said = convert(sdk, model_id="turns", source_url=url, cloud_storage_url=url)
    assert (said["status"], said["body"]["detail"]["param"]) == (400, "source_url")
