"""What dialects ask of engines beyond the words: channels, raw samples, characters, speakers, streams."""

from __future__ import annotations

import array
import asyncio
import json
import math
import subprocess
import time
import wave
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from dalston.local import valkey
from dalston.orchestrator.plan import plan
from dalston.request import TranscribeRequest
from dalston.store.client import connect
from dalston.store.events import Events
from dalston.store.files import Files, JobFile, Source
from dalston.store.fleet import fleet
from dalston.store.jobs import Jobs, new_id
from dalston.store.segments import follow
from tests.e2e.conftest import ROOT, Server
from tests.e2e.test_transcription import assert_well_formed, recall, spoken

LINES = "one two\nthree four\nfive"


def tones(path: Path, channels: int, seconds: float = 1.0, silent: tuple[int, ...] = ()) -> Path:
    """A WAV file with another tone on every channel."""
    samples = array.array("h")
    for n in range(int(16_000 * seconds)):
        for channel in range(channels):
            loud = 0 if channel in silent else 8000
            samples.append(int(loud * math.sin(2 * math.pi * 200 * (channel + 1) * n / 16_000)))
    with wave.open(str(path), "wb") as wav:
        wav.setparams((channels, 2, 16_000, 0, "NONE", ""))
        wav.writeframes(samples.tobytes())
    return path


def manifest(recordings: Path, name: str) -> Any:
    """What is known of a recording."""
    lines = (recordings / "MANIFEST.jsonl").read_text().splitlines()
    return next(m for m in map(json.loads, lines) if m["audio"] == name)


def of(job: Any, channel: int) -> str:
    """The words of a channel."""
    return "".join(word["text"] for word in job["words"] if word["channel"] == channel)


def prepared(recording: Path, folder: Path) -> None:
    """Leave a recording's 16 kHz samples in a folder, as `audio.wav`."""
    prepare = ROOT / "engines" / "prepare"
    command: list[str | Path] = [prepare / ".venv/bin/python", prepare / "engine.py", recording]
    subprocess.run([*command, "--folder", folder], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["dev_stereo_call.flac", "clips/stereo_2utt.wav"])
def test_every_word_comes_out_on_its_own_channel(server: Server, recordings: Path, name: str) -> None:
    truth = manifest(recordings, name)["labels"]["channel_text"]
    job = server.transcribed(recordings / name, model="tiny.en", speaker_detection="per_channel")
    for channel, text in enumerate(truth):
        own = recall(text, of(job, channel))
        other = set(spoken(truth[1 - channel])) - set(spoken(text))
        assert own > 0.8, (channel, own)
        assert len(other & set(spoken(of(job, channel)))) <= len(other) / 20
    stages = [(stage["stage"], stage.get("part")) for stage in job["stages"]]
    assert stages == [("prepare", None), ("transcribe", 0), ("transcribe", 1), ("merge", None)]
    assert {(w["speaker"], w["channel"]) for w in job["words"]} == {("channel_0", 0), ("channel_1", 1)}
    assert {(s["speaker"], s["channel"]) for s in job["segments"]} == {("channel_0", 0), ("channel_1", 1)}
    for items in (job["words"], job["segments"]):
        assert [item["start"] for item in items] == sorted(item["start"] for item in items)
    assert "".join(word["text"] for word in job["words"]).strip() == job["text"]
    assert job["channels"] == [{"channel": n, "language": "en"} | probability(job, n) for n in range(2)]
    assert job["language"] == "en"


def probability(job: Any, channel: int) -> dict[str, float]:
    """What is measured, which an English model does not."""
    told: dict[str, float] = job["channels"][channel]
    return {"language_probability": told["language_probability"]} if "language_probability" in told else {}


def test_channels_in_two_languages_keep_both(server: Server, recordings: Path, tmp_path: Path) -> None:
    clips = []
    for language in ("de", "fr"):
        folder = tmp_path / language
        folder.mkdir()
        prepare = ROOT / "engines" / "prepare"
        clip = recordings / "clips" / f"leopard_test_{language}.flac"
        command: list[str | Path] = [
            prepare / ".venv/bin/python",
            prepare / "engine.py",
            clip,
            "--folder",
            folder,
        ]
        subprocess.run(command, check=True, capture_output=True)
        with wave.open(str(folder / "audio.wav")) as wav:
            clips.append(array.array("h", wav.readframes(-1)))
    both = array.array("h")
    for n in range(max(map(len, clips))):
        both.extend(clip[n] if n < len(clip) else 0 for clip in clips)
    with wave.open(str(tmp_path / "both.wav"), "wb") as wav:
        wav.setparams((2, 2, 16_000, 0, "NONE", ""))
        wav.writeframes(both.tobytes())
    job = server.transcribed(tmp_path / "both.wav", model="base", speaker_detection="per_channel")
    assert [channel["language"] for channel in job["channels"]] == ["de", "fr"]
    assert all(0 < channel["language_probability"] <= 1 for channel in job["channels"])
    assert "language" not in job


def test_one_channel_is_an_ordinary_transcript_with_a_channel(server: Server, meeting: Path) -> None:
    whole = server.transcribed(meeting, model="tiny.en", temperature="0")
    job = server.transcribed(meeting, model="tiny.en", temperature="0", speaker_detection="per_channel")
    assert_well_formed(job)
    assert job["text"] == whole["text"]
    assert {word["channel"] for word in job["words"]} == {0}
    assert len(job["channels"]) == 1


@pytest.mark.parametrize("channels", [2, 3, 5, 8])
def test_up_to_eight_channels_are_told_apart(server: Server, tmp_path: Path, channels: int) -> None:
    path = tones(tmp_path / "many.wav", channels)
    job = server.transcribed(path, model="fake", speaker_detection="per_channel")
    assert [channel["channel"] for channel in job["channels"]] == list(range(channels))
    assert job["duration"] == pytest.approx(1.0, abs=0.01)


def test_more_channels_are_refused(server: Server, tmp_path: Path) -> None:
    path = tones(tmp_path / "many.wav", 9)
    answer = server.submit(path, model="fake", speaker_detection="per_channel", wait="true")
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "too_many_channels"


def test_a_silent_channel_costs_next_to_nothing(server: Server, meeting: Path, tmp_path: Path) -> None:
    prepared(meeting, tmp_path)
    with wave.open(str(tmp_path / "audio.wav")) as wav:
        samples = array.array("h", wav.readframes(-1))
    both = array.array("h", (x for sample in samples for x in (sample, 0)))
    with wave.open(str(tmp_path / "half.wav"), "wb") as wav:
        wav.setparams((2, 2, 16_000, 0, "NONE", ""))
        wav.writeframes(both.tobytes())
    job = server.transcribed(tmp_path / "half.wav", model="tiny.en", speaker_detection="per_channel")
    loud, silent = (stage["seconds"] for stage in job["stages"] if stage["stage"] == "transcribe")
    assert silent < loud / 10
    assert {word["channel"] for word in job["words"]} == {0}
    assert job["channels"][1] == {"channel": 1}
    assert job["language"] == "en"


def test_a_model_of_one_language_does_not_translate(server: Server, meeting: Path) -> None:
    answer = server.submit(meeting, model="tiny.en", task="translate", wait="true")
    assert answer.status_code == 422
    assert "translate" in answer.json()["error"]["message"]


def test_german_is_translated(server: Server, recordings: Path) -> None:
    clip = recordings / "clips" / "leopard_test_de.flac"
    spoken_in, english = (
        server.transcribed(clip, model="base", task=task) for task in ("transcribe", "translate")
    )
    assert english["language"] == spoken_in["language"] == "de"
    common = {"the", "of", "and", "to", "a", "in", "is", "i"}
    assert len(common & set(spoken(english["text"]))) > len(common & set(spoken(spoken_in["text"])))


def test_a_seed_makes_chance_repeat_itself(server: Server, meeting: Path) -> None:
    wild = {"model": "tiny.en", "temperature": "1", "word_timestamps": "false"}
    one, two, other = (server.transcribed(meeting, **wild, seed=seed)["text"] for seed in ("7", "7", "8"))
    assert one == two
    assert one != other


def test_voice_detection_and_key_terms_reach_the_model(server: Server, meeting: Path) -> None:
    deaf = {"vad": "true", "vad_threshold": "1.0", "model": "tiny.en"}
    assert server.transcribed(meeting, **deaf)["text"] == ""
    kept = {"vad": "true", "vad_padding_ms": "100", "vad_silence_ms": "500", "model": "tiny.en"}
    assert server.transcribed(meeting, **kept)["text"]
    named = server.transcribed(meeting, model="tiny.en", temperature="0", keyterms="Sera")
    assert "Sera" in named["text"]
    assert "Sera" not in server.transcribed(meeting, model="tiny.en", temperature="0")["text"]


def test_an_option_that_is_a_list_is_sent_once_or_often(server: Server, meeting: Path) -> None:
    for given in (["Dalston"], ["Dalston", "Hackney"]):
        fields: dict[str, Any] = {"model": "fake", "keyterms": given, "wait": "true", "format": "verbose"}
        file = {"file": ("talk.flac", meeting.read_bytes())}
        answer = server.client.post("/v1/audio/transcriptions", data=fields, files=file)
        assert answer.status_code == 200, answer.text
        asked = answer.json()["request"]["options"]["keyterms"]
        assert ([asked] if isinstance(asked, str) else asked) == given
    again = {"model": ["fake", "fake"], "wait": "true"}
    answer = server.client.post("/v1/audio/transcriptions", data=again, files=file)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
    scalar = {"model": "fake", "seconds": ["1", "2"]}
    answer = server.client.post("/v1/audio/transcriptions", data=scalar, files=file)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_option")


class Store:
    """A process beside the server that submits and follows jobs, as the gateway does."""

    def __init__(self, server: Server) -> None:
        self.redis = connect(valkey.url(server.data))
        self.files = Files(server.data)
        self.jobs = Jobs(self.redis, self.files, Events(self.redis), 3600)

    async def __aenter__(self) -> Self:
        self.hearing = asyncio.create_task(self.jobs.events.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hearing.cancel()
        await asyncio.gather(self.hearing, return_exceptions=True)
        await self.redis.aclose()

    async def submitted(self, source: bytes, **wanted: Any) -> str:
        """A job at work."""
        job, request = new_id(), TranscribeRequest(**wanted)
        (self.files.create(job) / "source").write_bytes(source)
        made = plan(job, request, await fleet(self.redis))
        assert isinstance(made, list), made
        file = JobFile(
            job, "local", time.time(), Source(1, ""), msgspec.Raw(msgspec.json.encode(request)), made
        )
        self.files.accept(file)
        await self.jobs.submit(file)
        return job

    async def ended(self, job: str) -> tuple[str, Any]:
        """Its state, and its transcript or its error."""
        found = await self.jobs.wait(job, 60)
        transcript = self.files.transcript(job)
        return found.state, msgspec.json.decode(transcript) if transcript else found.error


@pytest.mark.anyio
async def test_the_first_segment_is_heard_before_the_job_ends(server: Server, meeting: Path) -> None:
    async with Store(server) as store:
        script = {"text": LINES, "pause": "1.0"}
        job = await store.submitted(meeting.read_bytes(), model="fake", stream=True, options=script)
        states = []
        texts = []
        async for segment in follow(store.jobs, job):
            texts.append(segment.text)
            states.append((await store.jobs.get(job)).state)
        state, transcript = await store.ended(job)
    assert state == "completed"
    assert states == ["running"] * 3
    assert texts == [" one two", " three four", " five"]
    assert "".join(texts).strip() == transcript["text"]


@pytest.mark.anyio
async def test_an_engine_that_dies_is_heard_on_without_repeats(server: Server, meeting: Path) -> None:
    async with Store(server) as store:
        script = {"text": "one\ntwo\nthree\nfour", "pause": "0.5"}
        job = await store.submitted(meeting.read_bytes(), model="fake", stream=True, options=script)
        texts = []
        async for segment in follow(store.jobs, job):
            texts.append(segment.text)
            if len(texts) == 2:
                server.child("fake").kill()
        found = await store.jobs.get(job)
    assert texts == [" one", " two", " three", " four"]
    assert [stage.attempt for stage in found.stages] == [1, 2, 1]


@pytest.mark.anyio
async def test_a_real_model_is_heard_as_it_decodes(server: Server, meeting: Path) -> None:
    async with Store(server) as store:
        job = await store.submitted(meeting.read_bytes(), model="tiny.en", stream=True)
        following = follow(store.jobs, job)
        first = await anext(following, None)
        assert first, await store.ended(job)
        progress = (await store.jobs.get(job)).progress
        texts = [first.text, *[segment.text async for segment in following]]
        _, transcript = await store.ended(job)
    assert progress < 1
    assert "".join(texts).strip() == transcript["text"]
    assert [segment["text"] for segment in transcript["segments"]] == texts


@pytest.mark.anyio
async def test_nobody_follows_so_nothing_is_sent(server: Server, meeting: Path) -> None:
    async with Store(server) as store:
        job = await store.submitted(meeting.read_bytes(), model="fake", options={"text": LINES})
        assert [segment async for segment in follow(store.jobs, job)] == []
        assert (await store.ended(job))[0] == "completed"


@pytest.mark.anyio
async def test_raw_samples_are_the_recording_itself(server: Server, meeting: Path, tmp_path: Path) -> None:
    prepared(meeting, tmp_path)
    with wave.open(str(tmp_path / "audio.wav")) as wav:
        samples = wav.readframes(-1)
    raw: dict[str, Any] = {
        "model": "tiny.en",
        "source_format": "pcm_s16le_16k",
        "options": {"temperature": 0},
    }
    async with Store(server) as store:
        _, whole = await store.ended(await store.submitted(samples, **raw))
        _, odd = await store.ended(await store.submitted(samples + b"x", **raw))
        _, empty = await store.ended(await store.submitted(b"", **raw))
        _, split = await store.ended(await store.submitted(samples, **raw, speaker_detection="per_channel"))
    assert whole["duration"] == len(samples) / 32_000
    assert whole["text"] == server.transcribed(meeting, model="tiny.en", temperature="0")["text"]
    assert (odd.code, odd.status) == ("invalid_audio", 422)
    assert "odd number of bytes" in odd.message
    assert empty.code == "invalid_audio"
    assert (split["text"], split["channels"][0]["channel"]) == (whole["text"], 0)


@pytest.mark.anyio
async def test_characters_come_with_their_times(server: Server, meeting: Path) -> None:
    async with Store(server) as store:
        job = await store.submitted(
            meeting.read_bytes(), model="fake", characters=True, options={"text": LINES}
        )
        _, transcript = await store.ended(job)
    for word in transcript["words"]:
        assert "".join(one["text"] for one in word["characters"]) == word["text"]
        times = [one["start"] for one in word["characters"]]
        assert times == sorted(times)
        assert word["start"] <= times[0] < word["characters"][-1]["end"] <= word["end"] + 1e-9


def test_a_scripted_engine_tells_speakers_by_itself(server: Server, meeting: Path) -> None:
    job = server.transcribed(meeting, model="fake", text=LINES, speaker_detection="diarize")
    assert [segment["speaker"] for segment in job["segments"]] == ["speaker_0", "speaker_1", "speaker_0"]
    assert [word["speaker"] for word in job["words"]] == ["speaker_0"] * 2 + ["speaker_1"] * 2 + ["speaker_0"]
    assert [stage["stage"] for stage in job["stages"]] == ["prepare", "transcribe", "merge"]
