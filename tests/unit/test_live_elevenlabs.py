"""ElevenLabs' live dialect: its messages to actions, events to its messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dalston_engine.errors import DalstonError

from dalston import live
from dalston.dialects.elevenlabs.live import LEAST_S, MOST_S, LiveTalk
from dalston.dialects.elevenlabs.live_form import FORMATS, Live
from dalston.errors import BadField, Forbidden, Limited, LiveFull, Refusal, Unauthorized
from dalston.live import Audio, Begin, Configure, Flush, LiveRequest
from tests.unit.talking import SECOND, Told, b64, told, words


@pytest.fixture
def event() -> Told:
    return Told()


def conversation(**query: Any) -> LiveTalk:
    fields = {"model_id": "scribe_v2_realtime"} | query
    many = {
        name: [str(one) for one in value] if isinstance(value, list) else [str(value)]
        for name, value in fields.items()
    }
    return LiveTalk(many, {}, {"scribe_v3_live": "base"})


def begun(**query: Any) -> LiveRequest:
    (begin,) = conversation(**query).began()
    assert isinstance(begin, Begin)
    return begin.request


def chunk(content: bytes = b"", commit: bool = False, **more: Any) -> str:
    fields = {"message_type": "input_audio_chunk", "audio_base_64": b64(content), "commit": commit}
    return json.dumps(fields | {"sample_rate": 16_000, "previous_text": None} | more)


def test_the_vendors_models_detect_so_they_are_the_accurate_one() -> None:
    assert begun().model == "accurate"
    assert begun(model_id="scribe_v1").model == "accurate"
    assert begun(model_id="scribe_v3_live").model == "base"
    assert begun(model_id="fast").model == "fast"


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_an_encoding_and_a_rate(name: str) -> None:
    request = begun(audio_format=name)
    assert request.sample_rate == int(name.split("_")[1])
    assert request.encoding == ("mulaw" if name.startswith("ulaw") else "pcm_s16le")


def test_the_query_becomes_options() -> None:
    request = begun(
        commit_strategy="vad",
        vad_silence_threshold_secs=0.7,
        vad_threshold=0.6,
        min_silence_duration_ms=900,
        min_speech_duration_ms=60,
        language_code="deu",
        keyterms=["Dalston", "Hackney Wick"],
        include_timestamps="true",
        enable_logging="false",
        unheard_of="yes",
    )
    options = request.options
    assert (options.vad_silence_ms, options.vad_threshold, options.vad_min_speech_ms) == (900, 0.6, 60)
    assert (options.language, options.keyterms) == ("de", ["Dalston", "Hackney Wick"])
    assert options.word_timestamps
    assert not request.keep


def test_where_the_client_commits_sentences_stay_whole() -> None:
    assert begun().options.vad_silence_ms == 1500


@pytest.mark.parametrize(
    "query",
    [
        {"audio_format": "mp3"},
        {"commit_strategy": "turn_prediction"},
        {"vad_threshold": 0.95},
        {"vad_silence_threshold_secs": 0.2},
        {"min_speech_duration_ms": 49},
        {"min_silence_duration_ms": 2001},
        {"language_code": "ru-RU"},
        {"keyterms": ["x"] * 51},
        {"keyterms": ["twenty-one characters"]},
        {"include_timestamps": "perhaps"},
        {"model_id": ""},
    ],
    ids=str,
)
def test_what_is_out_of_range_is_told_and_hung_up_on(query: dict[str, Any]) -> None:
    message, code = told(conversation(**query).began())
    assert (message["message_type"], code) == ("invalid_request", 1008)
    assert next(iter(query)) in message["error"]


@pytest.mark.parametrize("name", Live.REFUSED)
def test_what_cannot_be_kept_is_refused(name: str) -> None:
    flag = Live.__struct_defaults__[Live.__struct_fields__.index(name) - 1] is False
    message, code = told(conversation(**{name: "true" if flag else "all"}).began())
    assert (message["message_type"], code) == ("invalid_request", 1008)
    assert Live.REFUSED[name] in message["error"]
    if flag:
        begun(**{name: "false"})


def test_a_session_starts_with_what_is_in_force(event: Told) -> None:
    talk = conversation(audio_format="ulaw_8000", keyterms=["Dalston"])
    (message,) = told(talk.told(event(live.SessionStarted, "abc", "base", 0.0)))
    assert (message["message_type"], message["session_id"]) == ("session_started", "abc")
    config = message["config"]
    assert (config["sample_rate"], config["audio_format"]) == (8000, "ulaw_8000")
    assert (config["commit_strategy"], config["vad_silence_threshold_secs"]) == ("manual", 1.5)
    assert (config["model_id"], config["keyterms"]) == ("scribe_v2_realtime", ["Dalston"])
    assert (config["vad_commit_strategy"], config["timestamps_granularity"]) == ("manual", "none")
    assert not {"token", "language_code"} & set(config)


def test_a_commit_is_answered_once_with_all_that_was_said(event: Told) -> None:
    talk = conversation()
    assert list(talk.heard(chunk(SECOND))) == [Audio(SECOND)]
    assert told(talk.told(event.partial(0, "Good", " morn"))) == [
        {"message_type": "partial_transcript", "text": "Good morn"}
    ]
    assert told(talk.told(event.final(0, 1, "Good morning."))) == [
        {"message_type": "partial_transcript", "text": "Good morning."}
    ]
    assert told(talk.told(event.partial(1.2, "", "Good"))) == [
        {"message_type": "partial_transcript", "text": "Good morning. Good"}
    ]
    assert list(talk.heard(chunk(SECOND, commit=True))) == [Audio(SECOND), Flush("1")]
    told(talk.told(event.final(1.2, 2, "Good night.", "flush")))
    assert told(talk.told(event(live.Flushed, "1", 2.0))) == [
        {"message_type": "committed_transcript", "text": "Good morning. Good night."}
    ]
    assert list(talk.heard(chunk(SECOND, commit=True))) == [Audio(SECOND), Flush("2")]
    assert told(talk.told(event(live.Flushed, "2", 3.0))) == [
        {"message_type": "committed_transcript", "text": ""}
    ]


def test_a_commit_of_too_little_is_throttled() -> None:
    talk = conversation()
    (message,) = told(talk.heard(chunk(commit=True)))
    assert message["message_type"] == "commit_throttled"
    assert "only 0.00s" in message["error"]
    first, message = told(talk.heard(chunk(SECOND[: int(32_000 * LEAST_S) - 2], commit=True)))
    assert (type(first), message["message_type"]) == (Audio, "commit_throttled")
    assert Flush("1") in list(talk.heard(chunk(SECOND[:2], commit=True)))


def test_without_commits_one_is_made_after_a_while() -> None:
    talk = conversation()
    actions = [one for _ in range(int(MOST_S) + 10) for one in talk.heard(chunk(SECOND))]
    assert actions.index(Flush("1")) == MOST_S
    assert Flush("2") not in actions


def test_silence_commits_where_it_is_told_to(event: Told) -> None:
    talk = conversation(commit_strategy="vad")
    assert told(talk.told(event.final(0, 8, "One two", "length"))) == [
        {"message_type": "partial_transcript", "text": "One two"}
    ]
    assert told(talk.told(event.final(8, 9, "three."))) == [
        {"message_type": "committed_transcript", "text": "One two three."}
    ]
    assert told(talk.told(event.final(12, 12.2, ""))) == []
    told(talk.told(event.partial(14, "", "Uh")))
    assert told(talk.told(event.final(14, 14.2, ""))) == [
        {"message_type": "committed_transcript", "text": ""}
    ]


def test_what_was_cut_off_is_committed_when_nobody_goes_on(event: Told) -> None:
    talk = conversation(commit_strategy="vad")
    told(talk.told(event.final(0, 8, "One two", "length")))
    assert told(talk.told(event(live.Ack, 8.0))) == []
    assert told(talk.told(event(live.Ack, 10.0))) == [
        {"message_type": "committed_transcript", "text": "One two"}
    ]
    assert told(talk.told(event(live.Ack, 11.0))) == []


def test_a_client_may_commit_where_silence_does(event: Told) -> None:
    talk = conversation(commit_strategy="vad")
    assert list(talk.heard(chunk(SECOND, commit=True))) == [Audio(SECOND), Flush("1")]
    told(talk.told(event.final(0, 1, "One", "flush")))
    assert told(talk.told(event(live.Flushed, "1", 1.0))) == [
        {"message_type": "committed_transcript", "text": "One"}
    ]


def test_times_follow_each_commit(event: Told) -> None:
    talk = conversation(include_timestamps="true")
    for start, text in ((0, "Good morning."), (3, "Good night.")):
        told(talk.told(event.final(start, start + 2, text, words=words(text, start), language="en")))
    first, second = told(talk.told(event(live.Flushed, "1", 5.0)))
    assert first == {"message_type": "committed_transcript", "text": "Good morning. Good night."}
    assert second["message_type"] == "committed_transcript_with_timestamps"
    assert (second["text"], second["language_code"]) == (first["text"], "eng")
    assert "".join(word["text"] for word in second["words"]) == first["text"]
    assert [word["type"] for word in second["words"]] == ["word", "spacing"] * 3 + ["word"]
    assert [word["start"] for word in second["words"][::2]] == [0, 1, 3, 4]
    assert ["logprob" in word for word in second["words"]] == [False, False, True, False] * 1 + [
        False,
        False,
        True,
    ]


def test_a_language_is_told_without_times(event: Told) -> None:
    talk = conversation(include_language_detection="true")
    told(talk.told(event.final(0, 1, "Bonjour.", language="fr")))
    _, second = told(talk.told(event(live.Flushed, "1", 1.0)))
    assert (second["language_code"], second["words"]) == ("fra", None)
    _, second = told(talk.told(event(live.Flushed, "2", 2.0)))
    assert "language_code" not in second


def test_languages_without_spaces_get_none(event: Told) -> None:
    talk = conversation()
    for text in ("你好。", "再见。"):
        told(talk.told(event.final(0, 1, text, language="zh")))
    assert told(talk.told(event(live.Flushed, "1", 1.0)))[0]["text"] == "你好。再见。"


def test_text_before_goes_with_the_first_chunk_only() -> None:
    talk = conversation(language_code="en")
    (action,) = talk.heard(chunk(previous_text="We were saying"))
    assert isinstance(action, Configure)
    assert (action.options.prompt, action.options.language) == ("We were saying", "en")
    message, audio = told(talk.heard(chunk(SECOND, previous_text="and then")))
    assert (message["message_type"], audio) == ("input_error", Audio(SECOND))


def test_an_empty_chunk_keeps_alive_and_nothing_else() -> None:
    talk = conversation()
    assert list(talk.heard(chunk())) == []
    assert list(talk.heard('{"message_type":"input_audio_chunk","audio_base_64":""}')) == []


def test_a_sample_may_come_in_two_chunks() -> None:
    talk = conversation()
    assert list(talk.heard(chunk(b"abc"))) == [Audio(b"ab")]
    assert list(talk.heard(chunk(b"def"))) == [Audio(b"cdef")]


@pytest.mark.parametrize(
    "message",
    [
        b"\xff\x00",
        "no JSON",
        "[]",
        '{"message_type":"end"}',
        '{"message_type":"input_audio_chunk","audio_base_64":"?"}',
        '{"message_type":"input_audio_chunk","audio_base_64":"AAAA","sample_rate":8000}',
        '{"message_type":"input_audio_chunk","audio_base_64":3}',
        '{"x":' + "[" * 100_000,
    ],
    ids=lambda message: str(message)[:60],
)
def test_what_cannot_be_read_is_told_and_the_session_goes_on(message: str | bytes) -> None:
    talk = conversation()
    (answer,) = told(talk.heard(message))
    assert answer["message_type"] == "input_error"
    assert list(talk.heard(chunk(SECOND))) == [Audio(SECOND)]


def test_a_chunk_that_is_too_long_is_told() -> None:
    (answer,) = told(conversation().heard(chunk(audio_base_64="A" * 10_485_764)))
    assert answer["message_type"] == "chunk_size_exceeded"


@pytest.mark.parametrize(
    ("error", "name", "code"),
    [
        (Unauthorized(), "auth_error", 1008),
        (Forbidden(), "auth_error", 1008),
        (Limited(), "rate_limited", 1013),
        (Limited(code="quota_exceeded"), "quota_exceeded", 1008),
        (Refusal(), "resource_exhausted", 1013),
        (BadField("x", "y"), "invalid_request", 1008),
        (DalstonError("y", code="unknown_model", status=404), "invalid_request", 1008),
        (LiveFull(), "resource_exhausted", 1013),
        (DalstonError("y", code="worker_lost", status=503), "transcriber_error", 1011),
        (DalstonError("y"), "transcriber_error", 1011),
    ],
    ids=lambda one: getattr(one, "code", one),
)
def test_errors_have_the_vendors_names(event: Told, error: DalstonError, name: str, code: int) -> None:
    talk = conversation()
    expected = [{"message_type": name, "error": error.message}, code]
    assert told(talk.failed(error)) == expected
    assert told(talk.told(event(live.Trouble, error.code, error.message, error.status))) == expected


def test_what_is_not_fatal_is_a_warning(event: Told) -> None:
    talk = conversation()
    (warning,) = told(talk.told(event(live.Trouble, "x", "Something.", 500, False)))
    assert warning == {"message_type": "warning", "warning": "Something."}
    lags = [message for s in (4.0, 6.0, 0.0, 5.0) for message in told(talk.told(event(live.Lag, s)))]
    assert [one["message_type"] for one in lags] == ["warning", "warning"]


def test_the_end_hangs_up(event: Told) -> None:
    assert told(conversation().told(event(live.SessionEnded, "abc", 3.0))) == [1000]


def test_browsers_are_let_in_before_they_are_refused() -> None:
    query = {"model_id": ["scribe_v2_realtime"]}
    assert LiveTalk(query | {"token": ["sutkn_x"]}, {}, {}).accepting
    assert LiveTalk(query, {"origin": "https://a.example"}, {}).accepting
    assert not LiveTalk(query, {"xi-api-key": "k"}, {}).accepting
