"""OpenAI's live dialect: its messages to actions, events to its messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dalston_engine.errors import DalstonError

from dalston import live
from dalston.dialects.openai.live import LiveTalk
from dalston.dialects.openai.live_form import Input, read
from dalston.errors import Limited, Refusal, Unauthorized
from dalston.live import Audio, Begin, Clear, Configure, Flush
from tests.unit.talking import SECOND, Told, b64, told, words


@pytest.fixture
def event() -> Told:
    return Told()


def conversation(headers: dict[str, str] | None = None, **query: str) -> LiveTalk:
    names = {"gpt-4o-mini-transcribe": "tiny.en"}
    return LiveTalk({name: [value] for name, value in query.items()}, headers or {}, names)


def send(talk: LiveTalk, type: str, **fields: Any) -> list[Any]:
    return list(talk.heard(json.dumps({"type": type, "event_id": "mine"} | fields)))


def update(talk: LiveTalk, **given: Any) -> list[Any]:
    include = {"include": given.pop("include")} if "include" in given else {}
    session = {"type": "transcription", "audio": {"input": given}} | include
    return told(send(talk, "session.update", session=session))


def append(talk: LiveTalk, content: bytes = SECOND) -> list[Any]:
    return send(talk, "input_audio_buffer.append", audio=b64(content))


def test_a_connection_is_greeted_at_once() -> None:
    (created,) = told(conversation(intent="transcription").began())
    assert created["type"] == "session.created"
    session = created["session"]
    assert (session["type"], session["object"]) == ("transcription", "realtime.transcription_session")
    heard = session["audio"]["input"]
    assert heard["format"] == {"type": "audio/pcm", "rate": 24000}
    assert heard["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
    }
    assert heard["noise_reduction"] is None


def test_a_model_in_the_query_makes_no_conversation() -> None:
    for model, meant in (
        ("gpt-realtime", None),
        ("gpt-4o-transcribe", "gpt-4o-transcribe"),
        ("base", "base"),
    ):
        (created,) = told(conversation(model=model).began())
        assert created["session"]["type"] == "transcription"
        assert created["session"]["audio"]["input"]["transcription"]["model"] == meant


def test_fields_left_out_keep_their_value() -> None:
    talk = conversation()
    update(talk, transcription={"model": "whisper-1", "language": "en"})
    update(talk, turn_detection={"type": "server_vad", "silence_duration_ms": 350})
    (updated,) = update(
        talk, transcription={"prompt": "Names."}, turn_detection={"type": "server_vad", "threshold": 0.7}
    )
    assert updated["type"] == "session.updated"
    heard = updated["session"]["audio"]["input"]
    assert heard["transcription"] == {"model": "whisper-1", "language": "en", "prompt": "Names."}
    assert heard["turn_detection"]["silence_duration_ms"] == 350
    assert heard["turn_detection"]["threshold"] == 0.7
    (updated,) = update(talk, turn_detection=None)
    assert updated["session"]["audio"]["input"]["turn_detection"] is None


def test_the_first_audio_opens_the_session() -> None:
    talk = conversation()
    update(
        talk,
        format={"type": "audio/pcm", "rate": 16000},
        transcription={"model": "gpt-4o-mini-transcribe", "language": "en"},
        turn_detection={
            "type": "server_vad",
            "threshold": 0,
            "prefix_padding_ms": 600,
            "silence_duration_ms": 350,
        },
    )
    begin, audio = append(talk)
    assert isinstance(begin, Begin)
    request = begin.request
    assert (request.model, request.encoding, request.sample_rate) == ("tiny.en", "pcm_s16le", 16000)
    options = request.options
    assert (options.language, options.vad_threshold) == ("en", 0.05)
    assert (options.vad_padding_ms, options.vad_silence_ms) == (600, 350)
    assert audio == Audio(SECOND)
    assert append(talk) == [Audio(SECOND)]


@pytest.mark.parametrize(("format", "encoding"), [("audio/pcmu", "mulaw"), ("audio/pcma", "alaw")], ids=str)
def test_telephones_formats(format: str, encoding: str) -> None:
    talk = conversation()
    (updated,) = update(talk, format={"type": format})
    assert updated["session"]["audio"]["input"]["format"] == {"type": format}
    begin, _ = append(talk)
    assert (begin.request.encoding, begin.request.sample_rate) == (encoding, 8000)
    assert begin.request.model == "accurate"


@pytest.mark.parametrize(
    ("eagerness", "silence"), [("low", 1500), ("medium", 800), ("auto", 800), ("high", 400)]
)
def test_eagerness_is_a_silence(eagerness: str, silence: int) -> None:
    talk = conversation()
    (updated,) = update(talk, turn_detection={"type": "semantic_vad", "eagerness": eagerness})
    assert updated["session"]["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": eagerness,
    }
    assert append(talk)[0].request.options.vad_silence_ms == silence


@pytest.mark.parametrize("path", Input.REFUSED)
def test_what_cannot_be_kept_is_refused(path: str) -> None:
    name, _, inner = path.partition(".")
    kind = {"type": "server_vad"} if name == "turn_detection" else {}
    value: Any = {"delay": "low", "idle_timeout_ms": 5000}.get(inner, {"type": "near_field"})
    (error,) = update(conversation(), **{name: kind | {inner: value} if inner else value})
    assert error["type"] == "error"
    assert (error["error"]["param"], error["error"]["code"]) == (path, "unsupported_parameter")
    (updated,) = update(conversation(), **{name: kind | {inner: None} if inner else None})
    assert updated["type"] == "session.updated"


@pytest.mark.parametrize(
    "given",
    [
        {"format": {"type": "audio/opus"}},
        {"format": {"type": "audio/pcm", "rate": 4000}},
        {"transcription": {"language": "en-US"}},
        {"transcription": {"languages": ["en", "de"]}},
        {"transcription": None},
        {"transcription": {"model": "gpt-4o-transcribe-diarize"}},
        {"transcription": {"model": "gpt-live-transcribe"}, "turn_detection": {"type": "server_vad"}},
        {"turn_detection": {"type": "server_vad", "threshold": 2}},
        {"voice": "alloy"},
        {"include": ["audio"]},
    ],
    ids=str,
)
def test_what_is_wrong_changes_nothing(given: dict[str, Any]) -> None:
    talk = conversation()
    before = talk.settings
    (error,) = update(talk, **given)
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert error["error"]["event_id"] == "mine"
    assert error["error"]["message"]
    assert talk.settings == before


def test_a_model_without_turns_has_none() -> None:
    talk = conversation()
    (updated,) = update(talk, transcription={"model": "gpt-live-transcribe", "keywords": ["Dalston"]})
    assert updated["session"]["audio"]["input"]["turn_detection"] is None
    options = append(talk)[0].request.options
    assert (options.keyterms, options.vad_silence_ms) == (["Dalston"], 1500)


def test_once_audio_has_come_some_things_stay() -> None:
    talk = conversation()
    append(talk)
    assert update(talk, transcription={"language": "de"})[0] == Configure(talk.settings.options())
    assert talk.settings.options().language == "de"
    (same,) = update(talk, format={"type": "audio/pcm", "rate": 24000})
    assert same["type"] == "session.updated"
    for given in ({"format": {"type": "audio/pcmu"}}, {"transcription": {"model": "base"}}):
        (error,) = update(talk, **given)
        assert error["error"]["code"] == "cannot_update"


def test_a_turn_is_told_in_the_vendors_order(event: Told) -> None:
    talk = conversation()
    append(talk)
    messages = told(
        [
            *talk.told(event(live.SpeechStarted, 0.5)),
            *talk.told(event.partial(0.5, "Good", " mor")),
            *talk.told(event(live.SpeechEnded, 1.5)),
            *talk.told(event.partial(0.5, "Good morning")),
            *talk.told(event.final(0.5, 1.4, "Good morning.")),
            *talk.told(event(live.SpeechStarted, 3.0)),
            *talk.told(event(live.SpeechEnded, 4.0)),
            *talk.told(event.final(3.0, 4.0, "Bye.")),
        ]
    )
    asr = "conversation.item.input_audio_transcription"
    turn = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert [one["type"] for one in messages] == [
        *turn,
        f"{asr}.delta",
        f"{asr}.delta",
        f"{asr}.completed",
        *turn,
        f"{asr}.delta",
        f"{asr}.completed",
    ]
    assert len({one["event_id"] for one in messages}) == len(messages)
    started, stopped, committed, added, *_ = messages
    assert (started["audio_start_ms"], stopped["audio_end_ms"]) == (500, 1500)
    ids = {one.get("item_id") or one["item"]["id"] for one in messages[:8]}
    assert ids == {started["item_id"]}
    assert (committed["previous_item_id"], added["previous_item_id"]) == (None, None)
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert "".join(one["delta"] for one in messages[5:7]) == messages[7]["transcript"] == "Good morning."
    assert messages[7]["usage"] == {"type": "duration", "seconds": 1.0}
    assert messages[10]["previous_item_id"] == started["item_id"]


def test_models_of_dalstons_own_tell_words_as_they_are_spoken(event: Told) -> None:
    talk = conversation(model="fast")
    append(talk)
    messages = told(
        [
            *talk.told(event(live.SpeechStarted, 0.5)),
            *talk.told(event.partial(0.5, "Good", " mor")),
            *talk.told(event.partial(0.5, "Good morning")),
        ]
    )
    assert [one.get("delta") for one in messages] == [None, "Good", " morning"]
    assert {one["item_id"] for one in messages} == {messages[0]["item_id"]}


def test_words_are_not_taken_back(event: Told) -> None:
    talk = conversation(model="fast")
    append(talk)
    deltas = told(talk.told(event.partial(0.5, "Good mourning")))
    last = told(talk.told(event.final(0.5, 1, "Good morning.")))
    assert [one["delta"] for one in deltas] == ["Good mourning"]
    assert last[-1]["transcript"] == "Good morning."
    assert not any("delta" in one for one in last)


def test_a_turn_that_was_cut_for_its_length_is_one_item(event: Told) -> None:
    talk = conversation()
    append(talk)
    messages = told(
        [
            *talk.told(event(live.SpeechStarted, 0)),
            *talk.told(event.final(0, 15, "One two", "length")),
            *talk.told(event(live.SpeechEnded, 17)),
            *talk.told(event.final(15, 17, "three.")),
        ]
    )
    assert messages[-1]["transcript"] == "One two three."
    assert messages[-1]["usage"]["seconds"] == 17
    told(talk.told(event(live.SpeechStarted, 20)))
    told(talk.told(event.final(20, 35, "Four", "length")))
    messages = told(talk.told(event(live.Ack, 36.0)))
    assert messages[0]["type"] == "input_audio_buffer.speech_stopped"
    assert messages[-1]["transcript"] == "Four"


def test_a_client_commits_where_nothing_else_does(event: Told) -> None:
    talk = conversation()
    update(talk, turn_detection=None)
    append(talk, b"\0\1" * 24_000)
    told(talk.told(event(live.SpeechStarted, 0.1)))
    told(talk.told(event.final(0.1, 0.5, "One.")))
    flush, *said = told(send(talk, "input_audio_buffer.commit"))
    assert isinstance(flush, Flush)
    assert [one["type"] for one in said] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert told(talk.told(event(live.SpeechStarted, 0.6))) == []
    messages = told(
        [*talk.told(event.final(0.6, 1, "Two.", "flush")), *talk.told(event(live.Flushed, flush.id, 1.0))]
    )
    assert [one.get("delta") for one in messages] == ["One. Two.", None]
    assert (messages[-1]["transcript"], messages[-1]["item_id"]) == ("One. Two.", said[0]["item_id"])
    assert messages[-1]["usage"] == {"type": "duration", "seconds": 1.0}


def test_a_client_may_commit_within_a_turn(event: Told) -> None:
    talk = conversation()
    append(talk, b"\0\1" * 24_000)
    (started,) = told(talk.told(event(live.SpeechStarted, 0.1)))
    flush, committed, *_ = told(send(talk, "input_audio_buffer.commit"))
    assert committed["item_id"] == started["item_id"]
    (second,) = told(talk.told(event(live.SpeechStarted, 1.5)))
    assert second["item_id"] != started["item_id"]
    (stopped,) = told(talk.told(event(live.SpeechEnded, 0.9)))
    assert stopped["item_id"] == started["item_id"]
    told(talk.told(event.final(0.1, 1, "One.", "flush")))
    (last,) = told(talk.told(event(live.Flushed, flush.id, 1.0)))
    assert (last["transcript"], last["item_id"]) == ("One.", started["item_id"])


def test_an_empty_commit_is_an_error_with_the_clients_event() -> None:
    talk = conversation()
    (error,) = told(send(talk, "input_audio_buffer.commit"))
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"
    assert (error["error"]["event_id"], error["error"]["type"]) == ("mine", "invalid_request_error")
    append(talk)
    told(send(talk, "input_audio_buffer.commit"))
    (error,) = told(send(talk, "input_audio_buffer.commit"))
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"


def test_what_is_cleared_is_forgotten(event: Told) -> None:
    talk = conversation()
    (cleared,) = told(send(talk, "input_audio_buffer.clear"))
    assert cleared["type"] == "input_audio_buffer.cleared"
    append(talk)
    clear, cleared = told(send(talk, "input_audio_buffer.clear"))
    assert isinstance(clear, Clear)
    (error,) = told(send(talk, "input_audio_buffer.commit"))
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"


def test_what_was_committed_outlives_a_clearing(event: Told) -> None:
    talk = conversation()
    append(talk)
    flush, committed, *_ = told(send(talk, "input_audio_buffer.commit"))
    append(talk)
    second, cleared = told(send(talk, "input_audio_buffer.clear"))
    assert isinstance(second, Flush)
    assert cleared["type"] == "input_audio_buffer.cleared"
    told(talk.told(event.final(0.1, 0.6, "Kept.", "flush")))
    (last,) = told(talk.told(event(live.Flushed, flush.id, 0.67)))
    assert (last["transcript"], last["item_id"]) == ("Kept.", committed["item_id"])
    assert told(talk.told(event(live.SpeechStarted, 0.8))) == []
    assert told(talk.told(event.final(0.8, 1.3, "Dropped.", "flush"))) == []
    assert told(talk.told(event(live.Flushed, second.id, 1.33))) == []
    assert told(talk.told(event.final(2, 3, "New.")))[-1]["transcript"] == "New."


def test_what_was_under_way_when_it_was_cleared_is_not_told(event: Told) -> None:
    talk = conversation()
    append(talk)
    told(send(talk, "input_audio_buffer.clear"))
    late = [event(live.SpeechStarted, 0.1), event.partial(0.1, "Old"), event(live.SpeechEnded, 0.6),
            event.final(0.1, 0.6, "Old.")]  # fmt: skip
    assert told(message for one in late for message in talk.told(one)) == []
    assert told(talk.told(event.final(0.7, 1.2, "New.")))[-1]["transcript"] == "New."


def test_a_turn_that_ends_where_its_client_commits_is_that_item(event: Told) -> None:
    talk = conversation()
    append(talk, b"\0\1" * 24_000)
    told(talk.told(event(live.SpeechStarted, 0.1)))
    _, committed, *_ = told(send(talk, "input_audio_buffer.commit"))
    (stopped,) = told(talk.told(event(live.SpeechEnded, 1.00001)))
    assert stopped["item_id"] == committed["item_id"]
    (started,) = told(talk.told(event(live.SpeechStarted, 0.99999)))
    assert started["item_id"] != committed["item_id"]


def test_logprobs_are_told_where_they_are_measured(event: Told) -> None:
    talk = conversation()
    (updated,) = update(talk, include=["item.input_audio_transcription.logprobs"])
    assert updated["session"]["include"] == ["item.input_audio_transcription.logprobs"]
    assert append(talk)[0].request.options.word_timestamps
    last = told(talk.told(event.final(0, 2, "Good night.", words=words("Good night.", 0))))[-1]
    assert [one["token"] for one in last["logprobs"]] == [" night."]
    assert "logprobs" not in told(talk.told(event.final(3, 4, "Bye.")))[-1]


def test_languages_that_were_found_are_told(event: Told) -> None:
    talk = conversation()
    append(talk)
    last = told(talk.told(event.final(0, 2, "Bonjour.", language="fr", language_probability=0.9)))[-1]
    assert last["languages"] == [{"code": "fr"}]
    assert "languages" not in told(talk.told(event.final(3, 4, "Bye.", language="en")))[-1]


@pytest.mark.parametrize("type", ["response.create", "conversation.item.create", "unheard.of"])
def test_there_is_no_conversation(type: str) -> None:
    (error,) = told(send(conversation(), type))
    assert (error["error"]["code"], error["error"]["event_id"]) == ("unsupported_event", "mine")


@pytest.mark.parametrize(
    "message",
    [
        "no JSON",
        b"\xff",
        "[]",
        '{"type":3}',
        '{"audio":""}',
        '{"type":"input_audio_buffer.append","audio":"?"}',
        '{"type":' + "[" * 100_000,
    ],
    ids=lambda message: str(message)[:60],
)
def test_what_cannot_be_read_is_told_and_the_session_goes_on(message: str | bytes) -> None:
    talk = conversation()
    (error,) = told(talk.heard(message))
    assert error["type"] == "error"
    begin, _ = append(talk)
    assert isinstance(begin, Begin)


def test_the_beta_has_its_own_shapes(event: Told) -> None:
    talk = conversation({"openai-beta": "realtime=v1"}, intent="transcription")
    (created,) = told(talk.began())
    assert created["type"] == "transcription_session.created"
    session = {
        "input_audio_format": "g711_ulaw",
        "input_audio_noise_reduction": None,
        "modalities": ["text"],
        "input_audio_transcription": {"model": "whisper-1", "language": "en", "prompt": ""},
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 200, "create_response": False},
    }
    (updated,) = told(send(talk, "transcription_session.update", session=session))
    assert updated["type"] == "transcription_session.updated"
    assert updated["session"]["input_audio_format"] == "g711_ulaw"
    assert updated["session"]["turn_detection"]["silence_duration_ms"] == 200
    begin, _ = append(talk)
    assert (begin.request.encoding, begin.request.options.language) == ("mulaw", "en")
    kinds = [one["type"] for one in told(talk.told(event.final(0, 1, "Hi.")))]
    assert "conversation.item.created" in kinds
    assert "conversation.item.added" not in kinds


def test_a_beta_update_makes_a_beta_of_the_connection() -> None:
    talk = conversation()
    (updated,) = told(send(talk, "transcription_session.update", session={"turn_detection": None}))
    assert updated["type"] == "transcription_session.updated"
    (updated,) = update(talk, turn_detection=None)
    assert updated["type"] == "session.updated"


def test_a_browsers_subprotocol_is_answered() -> None:
    talk = conversation(
        {"sec-websocket-protocol": "realtime, openai-insecure-api-key.dk_x, openai-beta.realtime-v1"}
    )
    assert (talk.protocol, talk.accepting, talk.beta) == ("realtime", True, True)
    assert (conversation().protocol, conversation().accepting) == (None, False)


def test_an_ephemeral_key_brings_settings() -> None:
    preset = read({"type": "transcription", "audio": {"input": {"transcription": {"language": "fr"}}}})
    (created,) = told(LiveTalk({"model": ["gpt-realtime"]}, {}, {}, preset).began())
    assert created["session"]["audio"]["input"]["transcription"]["language"] == "fr"


def test_trouble_fails_what_waits_and_hangs_up(event: Told) -> None:
    talk = conversation()
    append(talk)
    told(send(talk, "input_audio_buffer.commit"))
    failed, error, code = told(talk.told(event(live.Trouble, "engine_error", "It broke.", 500)))
    assert failed["type"] == "conversation.item.input_audio_transcription.failed"
    assert failed["error"]["message"] == error["error"]["message"] == "It broke."
    assert (error["error"]["type"], code) == ("server_error", 1011)


@pytest.mark.parametrize(
    ("error", "code", "close"),
    [
        (Unauthorized(), "invalid_api_key", 1008),
        (Refusal(), "no_engine", 1013),
        (Limited(code="quota_exceeded"), "insufficient_quota", 1013),
        (DalstonError("x", code="unknown_model", status=404), "model_not_found", 1008),
    ],
    ids=lambda one: getattr(one, "code", one),
)
def test_errors_are_the_vendors(error: DalstonError, code: str, close: int) -> None:
    message, closed = told(conversation().failed(error))
    assert (message["error"]["code"], message["error"]["event_id"], closed) == (code, None, close)


def test_what_cannot_be_changed_does_not_end_the_session(event: Told) -> None:
    talk = conversation()
    list(talk.told(event(live.SessionStarted, "abc", "tiny.en", 0.0)))
    (message,) = told(talk.failed(DalstonError("No.", code="unsupported_language", status=422)))
    assert message["type"] == "error"


def test_the_end_hangs_up(event: Told) -> None:
    assert told(conversation().told(event(live.SessionEnded, "abc", 3.0))) == [1000]
