"""A form is read the same however it arrives, and writes nothing but the recording."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest

from dalston.errors import BadRequest, UploadTooLarge
from dalston.gateway.upload import BLOCK, PARTS_LIMIT, Upload, extension

pytestmark = pytest.mark.anyio

TYPE = "multipart/form-data; boundary=edge"
FILE = b"\r\n--edg\r\n-- edge \x00\xff\r\n"
"""A recording with what looks like the boundary's beginnings."""

Part = tuple[str, bytes]


def part(name: str, content: bytes | str, filename: str | None = None) -> Part:
    """A part's disposition and content."""
    file = "" if filename is None else f'; filename="{filename}"'
    return f'form-data; name="{name}"{file}', content.encode() if isinstance(content, str) else content


def form(*parts: Part) -> bytes:
    """The body of a form."""
    lines = [
        f"--edge\r\nContent-Disposition: {head}\r\n\r\n".encode() + body + b"\r\n" for head, body in parts
    ]
    return b"".join([*lines, b"--edge--\r\n"])


RECORDING = part("file", FILE, "talk.WAV")
BEFORE, AFTER = part("language", "de"), part("prompt", "Grüße")
BODY = form(BEFORE, RECORDING, AFTER)


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """A body as the server hands it over."""
    for chunk in chunks:
        yield chunk


async def read(folder: Path, chunks: Iterable[bytes], kind: str = TYPE, limit: int = 10**9) -> Upload:
    """The form read into a folder made for it."""
    folder.mkdir(exist_ok=True)
    upload = Upload(folder, limit)
    assert await upload.read(kind, stream(chunks)) is upload.source
    return upload


async def refusal(folder: Path, chunks: Iterable[bytes], kind: str = TYPE, limit: int = 10**9) -> BadRequest:
    """Why the form is refused."""
    with pytest.raises(BadRequest) as refused:
        await read(folder, chunks, kind, limit)
    assert 400 <= refused.value.status < 500
    return refused.value


def assert_complete(upload: Upload, folder: Path) -> None:
    """Exactly BODY was read."""
    assert upload.fields == {"language": ["de"], "prompt": ["Grüße"]}
    assert upload.source is not None
    assert (upload.source.bytes, upload.source.filename) == (len(FILE), "talk.WAV")
    assert upload.source.sha256 == hashlib.sha256(FILE).hexdigest()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"source.wav": FILE}


@pytest.mark.parametrize(
    "parts", [(RECORDING, BEFORE, AFTER), (BEFORE, AFTER, RECORDING), (BEFORE, RECORDING, AFTER)]
)
async def test_fields_may_come_before_and_after_the_file(tmp_path: Path, parts: Sequence[Part]) -> None:
    assert_complete(await read(tmp_path / "job", [form(*parts)]), tmp_path / "job")


async def test_a_form_is_the_same_wherever_it_is_cut(tmp_path: Path) -> None:
    for cut in range(len(BODY) + 1):
        folder = tmp_path / str(cut)
        assert_complete(await read(folder, [BODY[:cut], BODY[cut:]]), folder)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_form_is_the_same_in_pieces_of_any_size(tmp_path: Path, size: int) -> None:
    pieces = [BODY[n : n + size] for n in range(0, len(BODY), size)]
    assert_complete(await read(tmp_path / "job", pieces), tmp_path / "job")


async def test_a_recording_larger_than_a_block_is_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * (3 * BLOCK // 256) + b"end"
    body = form(part("file", content, "a.flac"))
    upload = await read(tmp_path / "job", [body[n : n + 65_536] for n in range(0, len(body), 65_536)])
    assert (tmp_path / "job" / "source.flac").read_bytes() == content
    assert upload.source is not None
    assert upload.source.sha256 == hashlib.sha256(content).hexdigest()


async def test_a_field_given_twice_keeps_both(tmp_path: Path) -> None:
    upload = await read(tmp_path / "job", [form(part("a", "1"), RECORDING, part("a", "2"))])
    assert upload.fields == {"a": ["1", "2"]}


async def test_a_form_that_is_cut_off_is_refused_wherever(tmp_path: Path) -> None:
    whole = len(BODY) - len("--\r\n")
    accepted = []
    for cut in range(whole + 1):
        try:
            await read(tmp_path / str(cut), [BODY[:cut]])
            accepted.append(BODY[:cut][-20:])
        except BadRequest:
            pass
    assert accepted == []


@pytest.mark.parametrize("body", [form(BEFORE, AFTER), form(part("file", "as a field")), b"--edge--\r\n"])
async def test_a_form_may_have_no_file(tmp_path: Path, body: bytes) -> None:
    assert (await read(tmp_path / "job", [body])).source is None
    assert not list((tmp_path / "job").iterdir())


async def test_a_second_file_is_refused(tmp_path: Path) -> None:
    assert "more than one file" in (await refusal(tmp_path / "job", [form(RECORDING, RECORDING)])).message


async def test_a_file_in_another_field_is_refused(tmp_path: Path) -> None:
    assert "`audio`" in (await refusal(tmp_path / "job", [form(part("audio", FILE, "a.wav"))])).message


async def test_a_recording_over_the_limit_is_refused_and_one_at_the_limit_is_not(tmp_path: Path) -> None:
    error = await refusal(tmp_path / "over", [BODY], limit=len(FILE) - 1)
    assert isinstance(error, UploadTooLarge)
    assert error.status == 413
    assert_complete(await read(tmp_path / "at", [BODY], limit=len(FILE)), tmp_path / "at")


async def test_a_field_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert (
        "`prompt`"
        in (await refusal(tmp_path / "job", [form(part("prompt", "x" * 70_000), RECORDING)])).message
    )


async def test_a_form_of_too_many_parts_is_refused(tmp_path: Path) -> None:
    assert "parts" in (await refusal(tmp_path / "job", [form(*[BEFORE] * PARTS_LIMIT, RECORDING)])).message


@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "nonsense; ; =", "multipart/mixed; boundary=edge", "multipart/form-data",
     "multipart/form-data; boundary=", "multipart/form-data; boundary=other",
     "multipart/form-data; boundary=" + "x" * 1000],
)  # fmt: skip
async def test_a_body_of_another_type_is_refused(tmp_path: Path, kind: str) -> None:
    await refusal(tmp_path / "job", [BODY], kind)


@pytest.mark.parametrize("body", [b"", b"{}", b"\x00" * 50, b"--edge", b"--edge\r\n\r\n\r\n--edge--\r\n"])
async def test_a_body_that_is_no_form_is_refused(tmp_path: Path, body: bytes) -> None:
    await refusal(tmp_path / "job", [body])


@pytest.mark.parametrize(
    ("filename", "kept"),
    [("../../etc/passwd", "source"), ("../job.wav", "source.wav"), ("/etc/cron.d/x.mp3", "source.mp3"),
     ("..", "source"), (".wav", "source"), ("a.b/../../c", "source"), ("..\\..\\x.ogg", "source.ogg"),
     ("a.tar.gz", "source.gz"), ("a.w%00v", "source"), ("a.wav/", "source.wav"), ("a.veryverylong", "source"),
     ("x" * 500 + ".mp4", "source.mp4"), ("Gespräch.m4a", "source.m4a"), ("a.wäv", "source"), ("", "source")],
)  # fmt: skip
async def test_a_file_name_never_leaves_the_folder(tmp_path: Path, filename: str, kept: str) -> None:
    upload = await read(tmp_path / "job", [form(part("file", FILE, filename))])
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "job",
        f"job/{kept}",
    ]
    assert upload.source is not None
    assert "/" not in (upload.source.filename or "")


def test_only_a_harmless_extension_is_kept() -> None:
    assert [extension(name) for name in ("a.WAV", "a.", "a", "a.m4a", "a.$(x)", "a.\n", "a.b c")] == [
        ".wav", "", "", ".m4a", "", "", ""]  # fmt: skip
