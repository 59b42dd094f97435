"""What clients put on the wire, sent by hand so that it stays tested when the SDKs change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import Server
from tests.sdks.test_elevenlabs import assert_chunk

EDGE = "dalston-edge"
UNSET = ("webhook_metadata", "entity_detection", "entity_redaction", "language_code", "num_speakers",
         "diarize", "additional_formats", "temperature", "seed", "keyterms", "source_url",
         "webhook_id")  # fmt: skip


def part(name: str, content: bytes, filename: str = "", kind: str = "") -> bytes:
    """One part of a form."""
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"'
    head += f'; filename="{filename}"' if filename else ""
    head += f"\r\nContent-Type: {kind}" if kind else ""
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


def sent(server: Server, parts: list[bytes], path: str = "/v1/speech-to-text") -> httpx2.Response:
    """A form of parts, chunked."""
    body = b"".join([*parts, f"--{EDGE}--\r\n".encode()])

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]

    headers = {
        "content-type": f"multipart/form-data; boundary={EDGE}",
        "xi-api-key": "any",
        "x-dalston-api": "",
    }
    return server.client.post(path, content=pieces(), headers=headers)


@pytest.fixture(scope="module")
def file(mono: str) -> bytes:
    """A short recording."""
    return Path(mono).read_bytes()


def form(file: bytes, *more: tuple[str, str], model: str = "turns") -> list[bytes]:
    """The usual form with more fields."""
    fields = [part(name, text.encode()) for name, text in (("model_id", model), *more)]
    return [*fields, part("file", file, "blob", "application/octet-stream")]


@pytest.mark.parametrize("name", ["blob", "upload", "audio", "Gespräch.m4a"])
def test_a_file_is_known_by_its_content(server: Server, file: bytes, name: str) -> None:
    answer = sent(
        server, [part("file", file, name, "application/octet-stream"), part("model_id", b"scribe_v1")]
    )
    assert answer.status_code == 200, answer.text
    assert_chunk(answer.json())
    assert answer.headers["x-request-id"] == answer.headers["x-trace-id"]


def test_null_is_nothing_in_every_field(server: Server, file: bytes) -> None:
    answer = sent(server, form(file, *((name, "null") for name in UNSET)))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("true", ["true", "True", "TRUE"])
def test_truth_has_any_case(server: Server, file: bytes, true: str) -> None:
    answer = sent(server, form(file, ("diarize", true)))
    assert answer.json()["words"][0]["speaker_id"] == "speaker_0"
    last = sent(server, form(file, ("diarize", true), ("diarize", "False")))
    assert "speaker_id" not in last.json()["words"][0]


@pytest.mark.parametrize(
    "fields", [["all"], ['"all"'], ['["pii","name"]'], ["pii", "name"], ["['pii']"]], ids=str
)
def test_entities_are_refused_however_they_are_asked_for(
    server: Server, file: bytes, fields: list[str]
) -> None:
    answer = sent(server, form(file, *(("entity_detection", text) for text in fields)))
    assert answer.status_code == 400
    detail = answer.json()["detail"]
    assert (detail["param"], detail["code"]) == ("entity_detection", "unsupported_parameter")
    assert detail["status"] == detail["code"]
    assert "entity_detection" in detail["message"]


UNDOABLE = {"entity_redaction": "pii", "entity_redaction_mode": "redacted", "transcript_edit": "Shout.",
            "numbers_format": "words", "secondary_language_codes": "de", "use_speaker_library": "true",
            "detect_speaker_roles": "true", "no_verbatim": "true",
            "diarization_threshold": "0.3"}  # fmt: skip


@pytest.mark.parametrize("name", UNDOABLE)
def test_what_cannot_be_done_is_refused(server: Server, file: bytes, name: str) -> None:
    answer = sent(server, form(file, (name, UNDOABLE[name])))
    assert (answer.status_code, answer.json()["detail"]["param"]) == (400, name)


FORMATS = [{"format": "srt", "maxCharactersPerLine": 20, "includeSpeakers": False},
           {"format": "txt", "includeTimestamps": False, "segmentOnSilenceLongerThanS": 0.5}]  # fmt: skip


@pytest.mark.parametrize("kind", ["application/json", ""])
def test_formats_come_as_json_with_or_without_its_type(server: Server, file: bytes, kind: str) -> None:
    asked = part("additional_formats", json.dumps(FORMATS).encode(), kind=kind)
    answer = sent(server, [*form(file), asked])
    assert answer.status_code == 200, answer.text
    srt, txt = answer.json()["additional_formats"]
    assert (srt["file_extension"], srt["content_type"]) == ("srt", "text/srt")
    assert srt["content"].startswith("1\n00:00:00,000 --> ")
    assert (txt["requested_format"], txt["content"].strip()) == (
        "txt",
        "good morning everybody thank you Ann",
    )


@pytest.mark.parametrize("terms", [["Ann", "Bob"], ['["Ann","Bob"]'], ["['Ann', 'Bob']"]], ids=str)
def test_terms_are_repeated_or_listed(server: Server, file: bytes, terms: list[str]) -> None:
    answer = sent(server, form(file, *(("keyterms", term) for term in terms)))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"num_speakers": "33", "diarize": "true"}, 422),
        ({"seed": "-1"}, 422),
        ({"diarization_threshold": "0.9"}, 422),
        ({"keyterms": "a <b>"}, 422),
        ({"keyterms": "one two three four five six"}, 422),
        ({"timestamps_granularity": "line"}, 422),
        ({"file_format": "flac"}, 422),
        ({"additional_formats": '[{"format":"xml"}]'}, 422),
        ({"additional_formats": '[{"format":"html","max_characters_per_line":9}]'}, 422),
        ({"additional_formats": json.dumps([{"format": "txt"}] * 11)}, 400),
        ({"webhook": "true", "webhook_metadata": '{"a":{"b":{"c":1}}}'}, 400),
        ({"use_multi_channel": "true", "diarize": "true"}, 400),
        ({"multichannel_output_style": "combined", "timestamps_granularity": "none"}, 400),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_named(server: Server, file: bytes, more: dict[str, str], status: int) -> None:
    answer = sent(server, form(file, *more.items()))
    assert answer.status_code == status, answer.text
    detail: Any = answer.json()["detail"]
    if status == 422:
        assert detail[0]["loc"][0] == "body"
        assert detail[0]["loc"][1] in more
        assert detail[0]["msg"]
    else:
        assert detail["message"]
        assert detail["status"] == detail["code"]


def test_a_form_without_a_model_says_so(server: Server, file: bytes) -> None:
    answer = sent(server, [part("file", file, "blob")])
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "model_id"])


def test_openai_misses_a_field_by_its_name(server: Server) -> None:
    answer = sent(server, [part("model", b"turns")], "/v1/audio/transcriptions")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, "file", "invalid_request_error")


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
def test_openai_lists_have_brackets_or_none(server: Server, file: bytes, name: str) -> None:
    fields = {"model": b"turns", "response_format": b"verbose_json", name: b"word"}
    made = [*(part(name, text) for name, text in fields.items()), part("file", file, "a.flac")]
    told = sent(server, made, "/v1/audio/transcriptions").json()
    assert [word["word"] for word in told["words"]] == ["good", "morning", "everybody", "thank", "you", "Ann"]
    assert "segments" not in told
