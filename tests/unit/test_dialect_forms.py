"""What the vendors' clients put on the wire, and what it comes to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dalston.dialects import DIALECTS, spoken
from dalston.dialects import form as forms
from dalston.dialects.base import Dialect, Submission
from dalston.dialects.elevenlabs import ELEVENLABS
from dalston.dialects.elevenlabs.form import Form
from dalston.dialects.openai import OPENAI, TRANSLATIONS
from dalston.errors import BadField


def scribe(**fields: str | list[str]) -> Submission:
    """What an ElevenLabs form comes to."""
    return ELEVENLABS.submission(listed({"model_id": "scribe_v1"} | fields), {})


def whisper(**fields: str | list[str]) -> Submission:
    """What an OpenAI form comes to."""
    return OPENAI.submission(listed({"model": "whisper-1"} | fields), {})


def listed(fields: dict[str, Any]) -> dict[str, list[str]]:
    """Fields as a form has them."""
    return {name: texts if isinstance(texts, list) else [texts] for name, texts in fields.items()}


def test_null_as_a_text_is_absent() -> None:
    nothing = dict.fromkeys(
        ["webhook_metadata", "entity_detection", "entity_redaction", "language_code"], "null"
    )
    assert scribe(**nothing) == scribe()


@pytest.mark.parametrize(
    "texts", [['"all"'], ['["pii","name"]'], ["pii", "name"], ["all"], ["['pii']"]], ids=str
)
def test_entities_are_refused_however_they_are_written(texts: list[str]) -> None:
    with pytest.raises(BadField, match="entity_detection") as refused:
        scribe(entity_detection=texts)
    assert (refused.value.status, refused.value.code) == (400, "unsupported_parameter")


@pytest.mark.parametrize("text", ['{"a":1}', '"{\\"a\\":1}"'])
def test_metadata_may_be_encoded_twice(text: str) -> None:
    assert scribe(webhook="true", webhook_metadata=text).metadata == {"a": 1}


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "1"])
def test_truth_is_read_in_any_case(text: str) -> None:
    assert scribe(webhook=text).later


def test_of_a_field_sent_twice_the_last_counts() -> None:
    assert scribe(diarize=["true", "false"]).request.speaker_detection == "none"


@pytest.mark.parametrize(
    "texts", [["Dalston", "Kingsland"], ['["Dalston","Kingsland"]'], ["['Dalston', 'Kingsland']"]]
)
def test_key_terms_come_repeated_or_as_a_list(texts: list[str]) -> None:
    assert scribe(keyterms=texts).request.options["keyterms"] == ["Dalston", "Kingsland"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"num_speakers": "0"}, "num_speakers"),
        ({"num_speakers": "33", "diarize": "true"}, "num_speakers"),
        ({"num_speakers": "many"}, "num_speakers"),
        ({"temperature": "2.1"}, "temperature"),
        ({"seed": "-1"}, "seed"),
        ({"timestamps_granularity": "sentence"}, "timestamps_granularity"),
        ({"keyterms": ["x" * 51]}, "keyterms"),
        ({"keyterms": ["a<b"]}, "keyterms"),
        ({"keyterms": ["one two three four five six"]}, "keyterms"),
        ({"keyterms": ["term"] * 1001}, "keyterms"),
        ({"webhook": "true", "webhook_metadata": "text"}, "webhook_metadata"),
        ({"webhook": "true", "webhook_metadata": '{"a":{"b":{"c":1}}}'}, "webhook_metadata"),
        ({"webhook": "true", "webhook_metadata": '{"a":"' + "x" * 17_000 + '"}'}, "webhook_metadata"),
        ({"use_multi_channel": "true", "diarize": "true"}, "diarize"),
        ({"use_multi_channel": "true", "num_speakers": "2"}, "num_speakers"),
        ({"language_code": "klingon"}, "language_code"),
        ({"no_verbatim": "true"}, "no_verbatim"),
        ({"model_idd": "x"}, "model_idd"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadField) as refused:
        scribe(**fields)
    assert refused.value.field == field
    assert 400 <= refused.value.status < 500
    told = msgspec.json.decode(ELEVENLABS.error(refused.value, "r1").content)["detail"]
    assert field == (told[0]["loc"][1] if isinstance(told, list) else told["param"])


def test_a_missing_model_is_named_as_the_vendor_would() -> None:
    with pytest.raises(BadField) as refused:
        ELEVENLABS.submission({}, {})
    (told,) = msgspec.json.decode(ELEVENLABS.error(refused.value, "r1").content)["detail"]
    assert (told["loc"], told["type"]) == (["body", "model_id"], "missing")


def test_every_field_that_is_refused_is_refused() -> None:
    sample = {"list": "x", "bool": "true", "float": "0.2"}
    for name in Form.REFUSED:
        kind = str(Form.__annotations__[name])
        text = next((text for key, text in sample.items() if key in kind), "digits")
        with pytest.raises(BadField, match=name):
            scribe(**{name: text})


@pytest.mark.parametrize("code", ["de", "deu", "DE"])
def test_a_language_has_a_short_or_a_long_code(code: str) -> None:
    assert scribe(language_code=code).request.language == "de"


def test_names_stand_for_models_as_the_operator_says() -> None:
    form = {"model_id": ["scribe_v2"]}
    assert ELEVENLABS.submission(form, {}).request.model is None
    assert ELEVENLABS.submission(form, {"scribe_v2": "large-v3"}).request.model == "large-v3"
    assert ELEVENLABS.submission({"model_id": ["base"]}, {}).request.model == "base"


def test_arrays_come_with_and_without_brackets() -> None:
    plain = whisper(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    bracketed: dict[str, Any] = {"timestamp_granularities[]": ["word", "segment"]}
    assert whisper(response_format="verbose_json", **bracketed) == plain
    assert plain.request.word_timestamps


def test_a_chunking_strategy_is_a_word_or_an_object_in_brackets() -> None:
    assert "vad" not in whisper(chunking_strategy="auto").request.options
    form = {"chunking_strategy[type]": "server_vad", "chunking_strategy[threshold]": "0.4"}
    assert whisper(**form).request.options == {"vad": True, "vad_threshold": 0.4}
    assert whisper(chunking_strategy='{"type":"server_vad"}').request.options == {"vad": True}


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"response_format": "xml"}, "response_format", "invalid_value"),
        ({"temperature": "1.5"}, "temperature", "invalid_value"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "invalid_value"),
        ({"include[]": "logprobs", "response_format": "text"}, "include", "invalid_value"),
        ({"known_speaker_names[]": "Ann"}, "known_speaker_names", "unsupported_parameter"),
        ({"languages[]": ["en", "de"]}, "languages", "unsupported_value"),
        ({"best_of": "5"}, "best_of", "unknown_parameter"),
    ],
)
def test_openais_errors_name_the_parameter(fields: dict[str, Any], field: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        whisper(**fields)
    answer = OPENAI.error(refused.value, "r1")
    told = msgspec.json.decode(answer.content)["error"]
    assert (answer.status, told["param"], told["code"]) == (400, field, code)
    assert told["type"] == "invalid_request_error"


def test_whisper_does_not_stream() -> None:
    assert not whisper(stream="true").request.stream
    assert whisper(stream="true", model="gpt-4o-transcribe").request.stream


def test_a_translation_is_asked_for() -> None:
    asked = TRANSLATIONS.submission({"model": ["whisper-1"], "prompt": ["hello"]}, {}).request
    assert (asked.task, asked.options) == ("translate", {"prompt": "hello"})


@pytest.mark.parametrize("dialect", [*DIALECTS.values(), TRANSLATIONS], ids=lambda one: one.form.__name__)
def test_what_differs_and_what_is_refused_are_fields(dialect: Dialect) -> None:
    form: Any = dialect.form
    assert {*form.REFUSED, *form.DIFFERS} <= {field.name for field in msgspec.structs.fields(form)}
    assert not form.REFUSED.keys() & form.DIFFERS.keys()


def test_a_request_tells_its_dialect() -> None:
    key = {"xi-api-key": "k"}
    assert spoken("/v1/speech-to-text/transcripts/x", {}) is ELEVENLABS
    assert spoken("/v1/models", key) is ELEVENLABS
    assert spoken("/v1/models/base", {"authorization": "Bearer k"}) is OPENAI
    assert spoken("/v1/audio/transcriptions", {}) is OPENAI
    assert spoken("/v1/audio/transcriptions", {"x-dalston-api": "native"}) is None
    assert spoken("/v1/engines", key) is None


def test_fields_are_read_one_by_one() -> None:
    class Small(msgspec.Struct):
        many: list[int] = []
        one: int | None = None

    assert forms.read(Small, {"many": ["1", "[2,3]"], "one": ["4", "5"]}) == Small([1, 2, 3], 5)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"x-stainless-read-timeout": "600"}, 600), ({"x-stainless-timeout": "20"}, 20), ({}, None),
     ({"x-stainless-read-timeout": "None", "x-stainless-timeout": "3"}, 3),
     ({"x-stainless-read-timeout": "-1"}, None), ({"x-stainless-read-timeout": "inf"}, None),
     ({"x-stainless-read-timeout": "nan"}, None)],
)  # fmt: skip
def test_a_client_says_when_it_gives_up(headers: dict[str, str], seconds: float | None) -> None:
    assert OPENAI.patience(headers) == seconds
    assert ELEVENLABS.patience(headers) is None
