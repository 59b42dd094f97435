"""A multipart form read as it arrives: the file goes straight into the job's folder.

Parsing happens on the event loop, writing and hashing in a thread, at most `BLOCK` bytes apart, so
memory stays flat whatever the size of the recording. Fields may come before or after the file.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dalston.errors import BadRequest, UploadStalled, UploadTooLarge
from dalston.store.files import Source

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

BLOCK = 1 << 20
FIELD_LIMIT, FIELDS_LIMIT = 1 << 16, 1 << 22
PARTS_LIMIT = 1200


class Upload:
    """One form with one file."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.fields: dict[str, list[str]] = {}
        self.source: Source | None = None
        self._folder, self._limit = folder, limit
        self._hash, self._size = hashlib.sha256(), 0
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._name, self._text, self._texts = "", bytearray(), 0
        self._filename: str | None = None
        self._pending = bytearray()
        self._file: int | None = None
        self._ended = False

    async def read(self, content_type: str, body: AsyncIterator[bytes]) -> Source | None:
        """Read the whole form, and its file if it has one; raises BadRequest or UploadTooLarge."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise BadRequest("Send a multipart/form-data form with the recording in the field `file`.")
        try:
            parser = MultipartParser(options[b"boundary"], self._callbacks())
            async for chunk in body:
                parser.write(chunk)
                if len(self._pending) >= BLOCK:
                    await self._flush()
            parser.finalize()
            if not self._ended:
                raise BadRequest("The form is cut off.")
            await self._flush(last=True)
        except FormParserError:
            raise BadRequest("The form is malformed.") from None
        finally:
            if self._file is not None:
                os.close(self._file)
        return self.source

    async def take(self, content: AsyncIterator[bytes], filename: str) -> Source:
        """Take the recording from elsewhere than a form; raises UploadTooLarge."""
        self._filename, self.source = filename, Source(0, "", Path(filename).name[:255] or None)
        self._open(filename)
        try:
            async for chunk in content:
                self._data(chunk)
                if len(self._pending) >= BLOCK:
                    await self._flush()
            await self._flush(last=True)
        finally:
            if self._file is not None:
                os.close(self._file)
        return self.source

    def _open(self, filename: str) -> None:
        path = self._folder / f"source{extension(filename)}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name_header(data[start:end]),
            "on_header_value": lambda data, start, end: self._value_header(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._headers_finished,
            "on_part_data": lambda data, start, end: self._data(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > PARTS_LIMIT:
            raise BadRequest(f"The form has more than {PARTS_LIMIT} parts.")
        self._headers, self._header, self._value, self._text = {}, b"", b"", bytearray()

    def _name_header(self, data: bytes) -> None:
        self._header += data

    def _value_header(self, data: bytes) -> None:
        self._value += data

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if not self._name:
            raise BadRequest("The form has a part without a name.")
        filename = options.get(b"filename")
        self._filename = None if filename is None else filename.decode(errors="replace")
        if self._filename is None:
            return
        if self._file is not None:
            raise BadRequest("The form has more than one file.")
        if self._name != "file":
            raise BadRequest(f"The recording belongs in the field `file`, not `{self._name[:40]}`.")
        self._open(self._filename)

    def _data(self, data: bytes) -> None:
        if self._filename is None:
            self._text += data
            self._texts += len(data)
            if self._texts > FIELDS_LIMIT:
                raise BadRequest(f"The fields of the form have more than {FIELDS_LIMIT} bytes.")
            if len(self._text) > FIELD_LIMIT:
                raise BadRequest(f"The field `{self._name[:40]}` is too long.")
            return
        self._size += len(data)
        if self._size > self._limit:
            raise UploadTooLarge(f"The recording is larger than {self._limit} bytes.")
        self._pending += data

    def _end(self) -> None:
        if self._filename is None:
            self.fields.setdefault(self._name, []).append(self._text.decode(errors="replace"))
        else:
            self.source = Source(0, "", Path(self._filename).name[:255] or None)

    def _finish(self) -> None:
        self._ended = True

    async def _flush(self, last: bool = False) -> None:
        block, self._pending = self._pending, bytearray()
        await asyncio.to_thread(self._write, block)
        if last and self.source is not None:
            self.source.bytes, self.source.sha256 = self._size, self._hash.hexdigest()

    def _write(self, block: bytearray) -> None:
        if self._file is None:
            return
        self._hash.update(block)
        view = memoryview(block)
        while view:
            view = view[os.write(self._file, view) :]


async def flowing(body: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The body while it goes on; raises UploadStalled when nothing more comes for `seconds`."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await anext(body, None)
        except TimeoutError:
            raise UploadStalled(f"Nothing more of the upload came for {seconds} s; send it again.") from None
        if chunk is None:
            return
        yield chunk


def extension(filename: str) -> str:
    """The file name's extension when it is a harmless one, else nothing."""
    suffix = Path(filename).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""
