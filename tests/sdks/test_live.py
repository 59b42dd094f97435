"""Live sessions with the vendors' SDKs and with clients of others, against real models."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.e2e.conftest import Server
from tests.e2e.wav import decoded
from tests.sdks.conftest import Sdk, driver
from tests.sdks.test_elevenlabs import JFK, done, recall
from tests.waiting import until

ASR = "conversation.item.input_audio_transcription"
TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
]
ADDED = ["conversation.item.added", "conversation.item.done"]
SILENCE_S = 2.5


class Talk(NamedTuple):
    """Somebody speaks for 11 s and is then silent for a while."""

    wav: str
    pcm: str
    """16 kHz."""
    pcm24: str
    seconds: float


@pytest.fixture(scope="session")
def talk(clip: str, tmp_path_factory: pytest.TempPathFactory) -> Talk:
    """The clip as the SDKs send it."""
    folder = tmp_path_factory.mktemp("talk")
    wav = decoded(Path(clip), folder / "talk.wav")
    with wave.open(str(wav), "rb") as whole:
        samples = np.frombuffer(whole.readframes(whole.getnframes()), "<i2")
    samples = np.append(samples, np.zeros(int(16_000 * SILENCE_S), "<i2"))
    with wave.open(str(wav), "wb") as longer:
        longer.setparams((1, 2, 16_000, 0, "NONE", ""))
        longer.writeframes(samples.tobytes())
    (folder / "16").write_bytes(samples.tobytes())
    places = np.arange(len(samples) * 3 // 2) * 2 / 3
    more = np.interp(places, np.arange(len(samples)), samples).astype("<i2")
    (folder / "24").write_bytes(more.tobytes())
    return Talk(str(wav), str(folder / "16"), str(folder / "24"), len(samples) / 16_000)


@pytest.fixture(autouse=True)
def room(server: Server) -> None:
    """The worker with real models takes another session."""

    def free() -> bool:
        workers = server.client.get("/v1/realtime/status").json()["workers"]
        return any(one["engine"] == "faster-whisper" and one["free"] for one in workers)

    until(free)


@pytest.fixture(scope="module")
def javascript(server: Server) -> Iterator[Sdk]:
    """JavaScript's clients."""
    with driver("javascript", server.url) as found:
        yield found


@pytest.fixture(scope="module")
def python(server: Server) -> Iterator[Sdk]:
    """Python's clients."""
    with driver("python", server.url) as found:
        yield found


@pytest.fixture(scope="module")
def livekit(server: Server) -> Iterator[Sdk]:
    """LiveKit's plugins."""
    with driver("third/livekit", server.url) as found:
        yield found


def camel(name: str) -> str:
    """A name as JavaScript has it."""
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


def scribe(sdk: Sdk, talk: Talk, steps: list[Any], vendor: str = "elevenlabs", **more: Any) -> list[Any]:
    """The events of a session of ElevenLabs', each with its type."""
    args = {"model_id": "tiny.en", "audio_format": "pcm_16000", "sample_rate": 16_000} | more.pop("args", {})
    if sdk.language == "javascript":
        args = {camel(name): value for name, value in args.items()}
    first: list[Any] = [["wait", "session_started"]] if more.pop("starts", True) else []
    told = {"file": talk.pcm, "rate": 16_000, "args": args, "steps": [*first, *steps]} | more
    events: list[Any] = done(sdk.call(vendor, "live", **told))
    return events


def realtime(
    sdk: Sdk, talk: Talk, steps: list[Any], vendor: str = "openai", call: str = "live", **more: Any
) -> list[Any]:
    """The events of a session of OpenAI's."""
    beta = "transcription_" if call == "live.beta" else ""
    steps = [["wait", f"{beta}session.created"], *steps]
    told: dict[str, Any] = {"file": talk.pcm24, "rate": 24_000, "steps": steps} | more
    events: list[Any] = done(sdk.call(vendor, call, **told))
    return events


def of(events: list[Any], *types: str) -> list[Any]:
    """The events of some types."""
    return [one["event"] for one in events if one["type"] in types]


def session(turns: Any = None, **transcription: Any) -> dict[str, Any]:
    """A session's settings as OpenAI has them."""
    heard: dict[str, Any] = {"format": {"type": "audio/pcm", "rate": 24_000}, "turn_detection": turns,
             "transcription": {"model": "gpt-4o-transcribe"} | transcription}  # fmt: skip
    return {"type": "transcription", "audio": {"input": heard}}


def assert_no_errors(events: list[Any]) -> None:
    """Nothing went wrong."""
    assert not [one for one in events if one["type"] in ("error", "raised", "uncaught")]


# ElevenLabs'.


def test_what_is_committed_is_transcribed(sdk: Sdk, talk: Talk) -> None:
    events = scribe(sdk, talk, [
        ["send", 0, 5], ["commit"], ["wait", "committed_transcript"],
        ["send", 5, 12], ["commit"], ["wait", "committed_transcript", 2], ["close"],
    ])  # fmt: skip
    assert_no_errors(events)
    (started,) = of(events, "session_started")
    assert started["session_id"]
    assert (started["config"]["model_id"], started["config"]["commit_strategy"]) == ("tiny.en", "manual")
    assert of(events, "partial_transcript")
    first, second = (one["text"] for one in of(events, "committed_transcript"))
    assert first
    assert second
    assert recall(f"{first} {second}", JFK) > 0.85
    assert not of(events, "committed_transcript_with_timestamps")


def test_silence_commits_and_times_follow(sdk: Sdk, talk: Talk) -> None:
    events = scribe(
        sdk, talk, [["send", 0, talk.seconds], ["wait", "committed_transcript_with_timestamps"], ["close"]],
        args={"commit_strategy": "vad", "include_timestamps": True, "vad_silence_threshold_secs": 2.0},
    )  # fmt: skip
    assert_no_errors(events)
    plain, timed = of(events, "committed_transcript"), of(events, "committed_transcript_with_timestamps")
    kinds = [one["type"] for one in events if one["type"].startswith("committed")]
    assert kinds == ["committed_transcript", "committed_transcript_with_timestamps"] * len(plain)
    assert recall(" ".join(one["text"] for one in plain), JFK) > 0.85
    for one, other in zip(plain, timed, strict=True):
        assert one["text"] == other["text"] == "".join(word["text"] for word in other["words"])
        assert other["language_code"] == "eng"
    words = [word for one in timed for word in one["words"]]
    assert all(0 <= word["start"] <= word["end"] <= talk.seconds for word in words)
    assert all(one["start"] <= other["start"] for one, other in pairwise(words))
    assert all(word["logprob"] <= 0 for word in words if word["type"] == "word")


def test_a_language_is_detected(sdk: Sdk, talk: Talk) -> None:
    events = scribe(
        sdk, talk, [["send", 0, 12], ["commit"], ["wait", "committed_transcript_with_timestamps"], ["close"]],
        args={"model_id": "scribe_v2_realtime", "include_language_detection": True},
    )  # fmt: skip
    assert_no_errors(events)
    (told,) = of(events, "committed_transcript_with_timestamps")
    assert (told["language_code"], told["words"]) == ("eng", None)
    assert recall(told["text"], JFK) > 0.85


def test_a_commit_of_too_little_ends_nothing(sdk: Sdk, talk: Talk) -> None:
    events = scribe(
        sdk, talk,
        [["send", 0, 0.2], ["commit"], ["wait", "commit_throttled"], ["send", 0.2, 4], ["commit"],
         ["wait", "committed_transcript"], ["close"]],
        first={"previous_text" if sdk.language == "python" else "previousText": "A speech of a president."},
        args={"keyterms": ["Americans"], "enable_logging": False},
    )  # fmt: skip
    assert [one["message_type"] for one in of(events, "error")] == ["commit_throttled"]
    assert len(of(events, "committed_transcript")) == 1


def test_what_cannot_be_done_is_told_and_hung_up_on(sdk: Sdk, talk: Talk) -> None:
    for args in ({"language_code": "en-US"}, {"no_verbatim": True}):
        events = scribe(sdk, talk, [["wait", "close"]], args=args, starts=False)
        (told,) = of(events, "invalid_request")
        assert next(iter(args)) in told["error"]
        assert of(events, "error")


def test_a_url_is_streamed(sdk: Sdk, talk: Talk) -> None:
    """JavaScript's SDK commits at the end and closes at once: it gets its transcript all the same."""
    if sdk.language == "python":  # it never commits
        args: dict[str, Any] = {"commit_strategy": "vad", "vad_silence_threshold_secs": 2.0}
        steps = [["wait", "committed_transcript"], ["close"]]
    else:
        args, steps = {}, [["wait", "close"]]
    events = scribe(sdk, talk, steps, args=args | {"url": talk.wav})
    texts = [one["text"] for one in of(events, "committed_transcript")]
    assert recall(" ".join(texts), JFK) > 0.6
    assert not of(events, "input_error", "invalid_request", "transcriber_error")


def test_a_browser_needs_a_token(javascript: Sdk, talk: Talk) -> None:
    token = done(javascript.call("elevenlabs", "tokens.single_use.create", positional=["realtime_scribe"]))[
        "token"
    ]
    steps = [["send", 0, 5], ["commit"], ["wait", "committed_transcript"], ["close"]]
    events = scribe(javascript, talk, steps, "elevenlabs-browser", token=token)
    assert_no_errors(events)
    assert of(events, "committed_transcript")[0]["text"]
    events = scribe(javascript, talk, [["wait", "close"]], "elevenlabs-browser", token=token, starts=False)
    assert len(of(events, "auth_error")) == 1
    assert token not in str(events)


# OpenAI's.


def test_a_client_that_commits_gets_its_items(sdk: Sdk, talk: Talk) -> None:
    assert_items(sdk, talk, "openai")


def test_a_browser_gets_its_items(javascript: Sdk, talk: Talk) -> None:
    assert_items(javascript, talk, "openai-browser")


def assert_items(sdk: Sdk, talk: Talk, vendor: str) -> None:
    """Two commits, each transcribed."""
    events = realtime(sdk, talk, [
        ["update", session(language="en")], ["wait", "session.updated"],
        ["send", 0, 5], ["commit"], ["send", 5, 12], ["commit"], ["wait", f"{ASR}.completed", 2],
    ], vendor)  # fmt: skip
    assert_no_errors(events)
    first, second = of(events, "input_audio_buffer.committed")
    assert second["previous_item_id"] == first["item_id"]
    finished = of(events, f"{ASR}.completed")
    assert [one["item_id"] for one in finished] == [first["item_id"], second["item_id"]]
    assert [one["usage"] for one in finished] == [{"type": "duration", "seconds": n} for n in (5.0, 7.0)]
    assert recall(" ".join(one["transcript"] for one in finished), JFK) > 0.85
    for one in finished:
        deltas = [two["delta"] for two in of(events, f"{ASR}.delta") if two["item_id"] == one["item_id"]]
        assert "".join(deltas) in one["transcript"]


def test_turns_are_told_in_order(sdk: Sdk, talk: Talk) -> None:
    vad = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 2000}
    events = realtime(sdk, talk, [
        ["update", session(vad)], ["wait", "session.updated"],
        ["send", 0, talk.seconds], ["wait", f"{ASR}.completed"],
    ])  # fmt: skip
    assert_no_errors(events)
    ids = [one["item_id"] for one in of(events, f"{ASR}.completed")]
    for id in ids:
        kinds = [one["type"] for one in events
                 if id in (one["event"].get("item_id"), one["event"].get("item", {}).get("id"))]  # fmt: skip
        assert kinds[:5] == [*TURN, *ADDED]
        assert set(kinds[5:-1]) <= {f"{ASR}.delta"}  # none where nobody said a word after all
        assert kinds[-1] == f"{ASR}.completed"
    assert recall(" ".join(one["transcript"] for one in of(events, f"{ASR}.completed")), JFK) > 0.85
    numbers = [one["event_id"] for one in (found["event"] for found in events) if "event_id" in one]
    assert len(set(numbers)) == len(numbers)
    (created,) = of(events, "session.created")
    assert created["session"]["type"] == "transcription"
    if sdk.language == "python":
        classes = {one["class"] for one in (found["event"] for found in events)}
        assert "ConversationItemInputAudioTranscriptionCompletedEvent" in classes


def test_a_conversation_is_refused_and_an_empty_commit_too(sdk: Sdk, talk: Talk) -> None:
    events = realtime(sdk, talk, [
        ["event", {"type": "response.create", "event_id": "mine"}], ["wait", "error"],
        ["event", {"type": "input_audio_buffer.commit", "event_id": "mine too"}], ["wait", "error", 2],
    ])  # fmt: skip
    first, second = (one["error"] for one in of(events, "error"))
    assert (first["code"], first["event_id"]) == ("unsupported_event", "mine")
    assert (second["code"], second["event_id"]) == ("input_audio_buffer_commit_empty", "mine too")


def test_the_beta_is_spoken(python: Sdk, talk: Talk) -> None:
    settings = {"input_audio_format": "pcm16", "turn_detection": None,
                "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"}}  # fmt: skip
    query = {"model": "gpt-4o-realtime-preview", "extra_query": {"intent": "transcription"}}
    events = realtime(python, talk, [
        ["update", settings], ["wait", "transcription_session.updated"],
        ["send", 0, 5], ["commit"], ["wait", f"{ASR}.completed"],
    ], call="live.beta", connect=query)  # fmt: skip
    assert_no_errors(events)
    assert of(events, "conversation.item.created")
    assert of(events, f"{ASR}.completed")[0]["transcript"]


def test_an_ephemeral_key_opens_with_its_settings(sdk: Sdk, javascript: Sdk, talk: Talk) -> None:
    settings = session(model="tiny.en", prompt="A speech.")
    made = done(
        sdk.call(
            "openai",
            "realtime.client_secrets.create",
            args={"session": settings, "expires_after": {"anchor": "created_at", "seconds": 60}},
        )
    )
    assert made["value"].startswith("ek_")
    assert made["session"]["audio"]["input"]["transcription"]["prompt"] == "A speech."
    steps = [["send", 0, 5], ["commit"], ["wait", f"{ASR}.completed"]]
    for _ in "12":
        events = realtime(javascript, talk, steps, "openai-browser", key=made["value"])
        assert_no_errors(events)
        assert of(events, f"{ASR}.completed")[0]["transcript"]


# LiveKit's plugins.


@pytest.mark.parametrize("vad", [{}, None], ids=["vad", "manual"])
def test_livekit_streams_by_elevenlabs(livekit: Sdk, talk: Talk, vad: Any) -> None:
    args = {
        "server_vad": {"vad_silence_threshold_secs": 2.0} if vad is not None else None,
        "include_timestamps": True,
    }
    heard = done(livekit.call("elevenlabs", "live", file=talk.wav, model="scribe_v2_realtime", args=args))
    assert_streamed(heard)
    assert {one["language"] for one in heard if one["text"]} == {"en"}


def test_livekit_streams_by_openai(livekit: Sdk, talk: Talk) -> None:
    args = {"turn_detection": {"type": "server_vad", "silence_duration_ms": 2000}}
    heard = done(livekit.call("openai", "live", file=talk.wav, model="gpt-4o-transcribe", args=args))
    assert_streamed(heard)
    seconds = [one["seconds"] for one in heard if one["seconds"]]
    assert 5 < sum(seconds) < talk.seconds


def assert_streamed(heard: list[Any]) -> None:
    """Speech began, was told while it went on, and then for good."""
    kinds = [one["type"] for one in heard if one["type"] != "recognition_usage"]
    assert kinds[0] == "start_of_speech"
    assert "interim_transcript" in kinds
    assert recall(" ".join(one["text"] for one in heard if one["type"] == "final_transcript"), JFK) > 0.85
