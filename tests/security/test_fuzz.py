"""Made-up forms and mutated recordings: a clean result or a clean refusal, never anything else.

`DALSTON_CHAOS=1` tries many more, at random.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from dalston.errors import BadRequest
from dalston.gateway.upload import FIELD_LIMIT, Upload
from tests.security.conftest import Studio

LONG = "DALSTON_CHAOS" in os.environ
pytestmark = pytest.mark.timeout(1800 if LONG else 60)
FORMS = settings(max_examples=20_000 if LONG else 300, derandomize=not LONG)
FILES = settings(
    max_examples=20_000 if LONG else 300,
    derandomize=not LONG,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
LIMIT = 2_000
VERDICT_S = 30
"""The studio's limit on processor time, and then some."""


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """A body as the server hands it over."""
    for chunk in chunks:
        yield chunk


def outcome(chunks: list[bytes], kind: str) -> Any:
    """What the reader makes of a body: fields, name and content, or status and code of the refusal."""
    with tempfile.TemporaryDirectory() as folder:
        upload = Upload(Path(folder), LIMIT)
        try:
            source = asyncio.run(upload.read(kind, stream(chunks)))
        except BadRequest as error:
            return error.status, error.code
        if source is None:
            return 400, "no_file"
        (file,) = Path(folder).iterdir()
        content = file.read_bytes()
        assert (source.bytes, file.stem) == (len(content), "source")
        return upload.fields, source.filename, content


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """The body in chunks."""
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


names = st.text("abcdefgh_", min_size=1, max_size=8).filter(lambda name: name != "file")
values = st.text(max_size=40).filter(lambda text: "edge" not in text)
sounds = st.binary(max_size=LIMIT + 200).filter(lambda content: b"edge" not in content)
places = st.lists(st.integers(0, 10_000), max_size=12)


def form(fields: list[tuple[str, str]], content: bytes, at: int) -> bytes:
    """The body of a form with its file at a place among the fields."""
    parts = [f'name="{name}"\r\n\r\n'.encode() + text.encode() for name, text in fields]
    parts.insert(at % (len(parts) + 1), b'name="file"; filename="talk.wav"\r\n\r\n' + content)
    return (
        b"".join(b"--edge\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
        + b"--edge--\r\n"
    )


@FORMS
@given(st.lists(st.tuples(names, values), max_size=6), sounds, st.integers(0, 6), places)
def test_a_form_is_read_as_it_was_written_wherever_it_is_cut(
    fields: list[tuple[str, str]], content: bytes, at: int, places: list[int]
) -> None:
    told = outcome(cut(form(fields, content, at), places), "multipart/form-data; boundary=edge")
    wanted: dict[str, list[str]] = {}
    for name, text in fields:
        wanted.setdefault(name, []).append(text)
    assert told == ((413, "upload_too_large") if len(content) > LIMIT else (wanted, "talk.wav", content))


fragments = st.sampled_from(
    [
        b"--edge", b"--edge--", b"\r\n", b"\n", b"\r", b"--", b"edge", b": ", b";", b'"', b"\\", b"\0", b"=",
        b"Content-Disposition: form-data; ", b'name="file"', b'name="a"', b'filename="x.wav"',
        b"filename*=utf-8''x",
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n',
        b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\n', b"\r\n--edge", b"\r\n--edge--\r\n",
        b"x" * 5_000, b"\xff" * 20, b"y" * (FIELD_LIMIT + 1),
    ]
)  # fmt: skip
bodies = st.lists(fragments | st.binary(max_size=20), max_size=20).map(b"".join)
latin = st.text(st.characters(max_codepoint=255), max_size=40)
"""What a header can hold."""
kinds = (
    st.just("multipart/form-data; boundary=edge")
    | latin.map(lambda text: f"multipart/form-data; {text}")
    | latin
)


@FORMS
@given(bodies, places, kinds)
def test_whatever_comes_is_read_the_same_or_refused_wherever_it_is_cut(
    body: bytes, places: list[int], kind: str
) -> None:
    told, whole = outcome(cut(body, places), kind), outcome([body], kind)
    # What the parser skips before the first boundary depends on the chunks; nobody sends anything there.
    if body.startswith(b"--edge") or (told[0] not in (400, 413) and whole[0] not in (400, 413)):
        assert told == whole


@st.composite
def mutations(draw: st.DrawFn) -> tuple[int, list[tuple[str, float, bytes]]]:
    """Which recording, and what is done to it where."""
    where = st.floats(0, 1) | st.floats(0, 0.02)
    numbers = st.sampled_from(
        [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0"]
    )
    change = st.tuples(
        st.sampled_from(["put", "cut", "add", "copy"]), where, numbers | st.binary(min_size=1, max_size=40)
    )
    return draw(st.integers(0, 10_000)), draw(st.lists(change, min_size=1, max_size=8))


def mutated(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """The content with all that done to it."""
    for what, where, data in changes:
        at = int(where * len(content))
        match what:
            case "put":
                content = content[:at] + data + content[at + len(data) :]
            case "cut":
                content = content[:at] + content[at + len(data) :]
            case "add":
                content = content[:at] + data + content[at:]
            case "copy":
                content = content[:at] + content[-len(data) * 8 :] + content[at:]
    return content


@FILES
@given(mutations())
def test_a_mutated_recording_is_decoded_or_refused(
    studio: Studio, drawn: tuple[int, list[tuple[str, float, bytes]]]
) -> None:
    number, changes = drawn
    name = studio.names[number % len(studio.names)]
    verdict = studio.judge(mutated((studio.folder / name).read_bytes(), changes), f"mutated-{name}")
    assert "raised" not in verdict, (name, verdict)
    assert verdict["seconds"] < VERDICT_S
    if media := verdict.get("media"):
        assert 0 < media["duration"] <= 60
        assert media["channels"] > 0
        assert media["sample_rate"] > 0
    else:
        assert verdict["refused"][0] == 422


def test_every_common_container_is_tried(studio: Studio) -> None:
    assert {"a.wav", "a.flac", "a.mp3", "a.m4a", "a.opus", "a.webm", "a.mkv", "a.ts", "a.avi"} <= set(
        studio.names
    )
    for name in studio.names:
        verdict = studio.judge((studio.folder / name).read_bytes(), f"whole-{name}")
        assert 0.4 < verdict["media"]["duration"] < 0.7, (name, verdict)
        assert "warnings" not in verdict["media"] or not verdict["media"]["warnings"]
