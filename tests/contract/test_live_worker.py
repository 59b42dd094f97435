"""A worker of live sessions as gateways meet it: a real engine's process, over its socket."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from dalston_engine import keys
from dalston_engine.live import protocol
from dalston_engine.live.audio import _table
from dalston_engine.live.protocol import Final, Options
from dalston_engine.queue import connect
from scipy.signal import resample
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests import tones
from tests.contract.worker import ROOT, Attached, Worker, worker
from tests.waiting import soon, until

pytestmark = pytest.mark.anyio
CODEC = """
import sys, av, numpy as np
kind, codec, rate = sys.argv[1], sys.argv[2], int(sys.argv[3])
samples = np.frombuffer(sys.stdin.buffer.read(), np.int16).reshape(1, -1)
with av.open(sys.stdout.buffer, "w", format=kind) as out:
    stream = out.add_stream(codec, rate=rate, layout="mono")
    frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
    frame.rate = 16000
    fit = av.AudioResampler(stream.format.name, "mono", rate, frame_size=stream.frame_size or 1024)
    for piece in [*fit.resample(frame), *fit.resample(None)]:
        out.mux(stream.encode(piece))
    out.mux(stream.encode(None))
"""
"""Writes s16le as a file, as it would be streamed."""
HELD_UP = """
import time
from pathlib import Path
from dalston_engine import Audio, Engine, Transcript, serve

class HeldUp(Engine):
    def transcribe(self, audio: Audio) -> Transcript:
        return Transcript([], language="en")

    def listen(self, batch):
        here = Path(__file__).parent
        with (here / "passes").open("a") as passes:
            print(len(batch), file=passes)
        time.sleep(0.4 * len(batch) if (here / "busy").exists() else 0)
        return [Transcript([], language="en") for _ in batch]

serve(HeldUp)
"""
"""An engine whose passes take longer for as long as the machine is busy."""
ABOUT = """
[project]
name = "held-up"
version = "1"
[tool.dalston]
id = "held-up"
stage = "transcribe"
listens = true
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def fleet(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all tests that leave it as it is."""
    with connect(valkey) as redis:
        redis.flushall()
        data = tmp_path_factory.mktemp("data")
        with worker(redis, valkey, data, home="faster-whisper", DALSTON_PRELOAD="") as one:  # which has PyAV
            yield one


async def heard(one: Attached, *commands: protocol.Command, content: bytes) -> list[str]:
    """What is said of some audio, to its end."""
    await one.send(content, *commands, protocol.End())
    await one.until(protocol.Ended)
    return [final.text for final in one.all(Final)]


async def test_utterances_become_finals_with_their_times(fleet: Worker) -> None:
    content = tones.said([1, 2, 3], [4, 5], pause=1.0)
    async with fleet.session("fake", options=Options(word_timestamps=True)) as one:
        assert await heard(one, content=content) == ["1 2 3", "4 5"]
    first, second = one.all(Final)
    assert first.start == pytest.approx(1.0, abs=0.1)
    assert first.end == pytest.approx(2.4, abs=0.2)
    assert second.start == pytest.approx(3.5, abs=0.1)
    assert [word.start for word in first.words] == pytest.approx([1.0, 1.5, 2.0], abs=0.05)
    assert first.end <= first.audio_end <= second.start
    assert one.length == len(content) / 32_000
    kinds = (protocol.SpeechStarted, protocol.SpeechEnded)
    assert [type(report) for report in one.told if isinstance(report, kinds)] == [*kinds, *kinds]
    for ended, final in zip(one.all(protocol.SpeechEnded), one.all(Final), strict=True):
        assert one.told.index(ended) < one.told.index(final)
        assert ended.at == final.end


async def test_a_flush_is_answered_after_all_before_it_and_the_speaker_goes_on(fleet: Worker) -> None:
    content = tones.silence(0.5) + tones.spoken([1, 2, 3, 4])
    half = len(tones.silence(0.5)) + 2 * len(tones.word(1))
    async with fleet.session("fake") as one:
        await one.send(content[:half], protocol.Flush("a"))
        flushed = await one.until(protocol.Flushed)
        assert (flushed.id, flushed.audio) == ("a", half / 32_000)
        assert [(final.text, final.cause) for final in one.all(Final)] == [("1 2", "flush")]
        assert await heard(one, content=content[half:]) == ["1 2", "3 4"]
        assert one.all(Final)[-1].cause == "end"


async def test_a_flush_in_silence_is_answered_alone(fleet: Worker) -> None:
    async with fleet.session("fake") as one:
        await one.send(tones.silence(0.7), protocol.Flush("a"), protocol.Flush("b"))
        for id in "ab":
            flushed = await one.until(protocol.Flushed)
            assert (flushed.id, flushed.audio) == (id, 0.7)
        assert not one.all(Final)


async def test_the_end_loses_nothing_of_speech_that_goes_on(fleet: Worker) -> None:
    async with fleet.session("fake") as one:
        assert await heard(one, content=tones.spoken([7])[: 2 * int(0.38 * 16_000)]) == ["7"]


async def test_cleared_audio_is_forgotten(fleet: Worker) -> None:
    async with fleet.session("fake") as one:
        await one.send(tones.silence(0.3) + tones.spoken([1, 2]), protocol.Clear())
        assert (await one.until(protocol.Settled)).audio == pytest.approx(1.3)
        assert await heard(one, content=tones.said([3])) == ["3"]


async def test_a_session_goes_on_elsewhere_from_any_final(fleet: Worker) -> None:
    content = tones.said(range(10, 13), range(20, 62), range(30, 33), [34], pause=0.8)
    async with fleet.session("fake") as one:
        whole = await heard(one, content=content)
    finals = one.all(Final)
    assert {final.cause for final in finals} == {"silence", "length"}
    assert " ".join(whole) == tones.text([*range(10, 13), *range(20, 62), *range(30, 33), 34])
    for n, final in enumerate(finals):
        at = max(final.audio_end - 0.5, 0)
        async with fleet.session("fake", start=at, heard=final.audio_end, epoch=2) as again:
            assert await heard(again, content=content[2 * round(at * 16_000) :]) == whole[n + 1 :]
        assert all(later.start >= final.audio_end for later in again.all(Final))


async def test_partials_grow_and_what_is_stable_stays(fleet: Worker) -> None:
    content = tones.silence(0.5) + tones.spoken(range(20, 30)) + tones.silence(1)
    async with fleet.session("fake") as one:
        for at in range(0, len(content), 6400):  # a partial is asked for whenever the last one is there
            await one.send(content[at : at + 6400])
            while one.told and isinstance(one.told[-1], protocol.SpeechStarted | protocol.Partial):
                try:
                    async with asyncio.timeout(0.02):
                        await one.until(protocol.Partial)
                except TimeoutError:
                    break
            if not one.all(protocol.SpeechStarted) and at > 32_000:
                await one.until(protocol.SpeechStarted)
        assert await heard(one, content=b"") == [tones.text(range(20, 30))]
    partials = one.all(protocol.Partial)
    assert len(partials) >= 5
    for last, now in itertools.pairwise(partials):
        assert now.stable.startswith(last.stable)
        assert now.end > last.end
    assert partials[-1].stable


async def test_no_partials_are_told_to_whoever_wants_none(fleet: Worker) -> None:
    async with fleet.session("fake", options=Options(partials=False)) as one:
        await heard(one, content=tones.said([1, 2, 3, 4]))
        assert not one.all(protocol.Partial)


@pytest.mark.parametrize(
    ("encoding", "rate"),
    [("pcm_s16le", 8_000), ("pcm_s16le", 44_100), ("pcm_f32le", 48_000), ("mulaw", 8_000), ("alaw", 8_000)],
)
async def test_every_encoding_is_heard_at_its_times(fleet: Worker, encoding: str, rate: int) -> None:
    content = encoded(tones.said([1, 2], [93], pause=0.7), encoding, rate)
    async with fleet.session("fake", encoding=encoding, sample_rate=rate) as one:
        await one.audio(content, 1001)
        assert await heard(one, content=b"") == ["1 2", "93"]
    assert [final.start for final in one.all(Final)] == pytest.approx([0.7, 2.4], abs=0.1)
    assert one.length == pytest.approx(3.6, abs=0.001)


async def test_a_flush_moves_no_time(fleet: Worker) -> None:
    content = encoded(tones.said([1, 2], [93], pause=0.7), "pcm_s16le", 44_100)
    async with fleet.session("fake", sample_rate=44_100, options=Options(word_timestamps=True)) as one:
        for n in range(20):  # in the middle of words, too
            await one.send(content[n * 5_001 : (n + 1) * 5_001], protocol.Flush(str(n)))
            flushed = await one.until(protocol.Flushed)
            assert flushed.audio == pytest.approx((n + 1) * 5_001 // 2 / 44_100, abs=1 / 16_000)
        assert (await heard(one, content=content[20 * 5_001 :]))[-1] == "93"
    assert one.all(Final)[-1].words[0].start == pytest.approx(2.4, abs=0.03)
    assert one.length == pytest.approx(3.6, abs=1 / 16_000)


@pytest.mark.parametrize(("kind", "codec", "rate"), [("ogg", "libopus", 48_000), ("webm", "libopus", 48_000),
                                                     ("flac", "flac", 16_000), ("mp3", "libmp3lame", 16_000),
                                                     ("wav", "pcm_s16le", 16_000)])  # fmt: skip
async def test_files_are_heard_as_they_are_written(fleet: Worker, kind: str, codec: str, rate: int) -> None:
    content = written(tones.said([1, 2], [3], pause=0.7), kind, codec, rate)
    async with fleet.session("fake", encoding="container", sample_rate=0) as one:
        await one.audio(content, 1000)
        assert await heard(one, content=b"") == ["1 2", "3"]
    assert one.length == pytest.approx(3.6, abs=0.1)


async def test_a_file_is_heard_before_it_ends(fleet: Worker) -> None:
    content = written(tones.said([1, 2], [3], pause=2), "ogg", "libopus", 48_000)
    async with fleet.session("fake", encoding="container", sample_rate=0) as one:
        await one.audio(content[: len(content) * 3 // 4], 1000)
        assert (await one.until(Final)).text == "1 2"


@pytest.mark.parametrize("content", [b"garbage " * 4000, b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n"])
async def test_what_is_no_file_ends_its_own_session_alone(fleet: Worker, content: bytes) -> None:
    async with (
        fleet.session("fake", encoding="container", sample_rate=0) as bad,
        fleet.session("fake") as good,
    ):
        await bad.send(content, protocol.End())
        failed = await bad.until(protocol.Failed)
        assert (failed.code, failed.status, failed.retryable) == ("undecodable_audio", 422, False)
        assert await heard(good, content=tones.said([5])) == ["5"]


async def test_many_sessions_are_kept_apart(fleet: Worker) -> None:
    async def session(n: int) -> list[str]:
        async with fleet.session("fake") as one:
            return await heard(one, content=tones.said([n], [n, n + 1], pause=0.7))

    told = await asyncio.gather(*[session(n) for n in range(10, 22)])
    assert told == [[f"{n}", f"{n} {n + 1}"] for n in range(10, 22)]


async def test_an_engine_that_fails_ends_the_session_and_no_other(fleet: Worker) -> None:
    async with fleet.session("fake") as bad, fleet.session("fake") as good:
        await bad.send(tones.said([98]))
        failed = await bad.until(protocol.Failed)
        assert (failed.code, failed.retryable) == ("engine_error", True)
        with pytest.raises(ConnectionClosed):
            await bad.socket.recv()
        assert await heard(good, content=tones.said([5])) == ["5"]


OPEN = '{"type":"open","session":"s","epoch":1,"model":'


@pytest.mark.parametrize(
    "message",
    ["{", "[]", '{"type":"flush","id":"a"}', b"audio", OPEN + '"another"}', OPEN + '"fake","sample_rate":1}'],
)
async def test_a_session_must_begin_well(fleet: Worker, message: str | bytes) -> None:
    async with fleet.connected() as socket:
        await socket.send(message)
        failed = protocol.reports.decode(await socket.recv())
        assert isinstance(failed, protocol.Failed)
        assert failed.status in (400, 404, 422)


async def test_only_who_knows_the_secret_is_let_in(fleet: Worker) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with fleet.connected("another"):
            pass
    assert refused.value.response.status_code == 401


async def test_a_worker_tells_of_itself_and_again_when_redis_has_lost_it(fleet: Worker, redis: Any) -> None:
    facts = await soon(lambda: fleet.facts)  # every test begins with an empty server
    assert (facts["engine"], facts["state"], facts["default_model"]) == ("fake", "ready", "fake")
    assert msgspec.json.decode(facts["models"]) == {"fake": ["*"]}
    assert int(facts["capacity"]) >= 1
    assert 0 < redis.ttl(keys.WORKER(worker=fleet.id)) <= 10
    async with fleet.session("fake") as one:
        await one.until(protocol.Opened)
        await soon(lambda: fleet.facts["sessions"] == "1")
    await soon(lambda: fleet.facts["sessions"] == "0")


async def test_what_a_worker_measured_on_a_busy_machine_does_not_stay(
    redis: Any, valkey: str, tmp_path: Path
) -> None:
    home = tmp_path / "held-up"
    home.mkdir()
    (home / "engine.py").write_text(HELD_UP)
    (home / "pyproject.toml").write_text(ABOUT)
    (busy := home / "busy").touch()
    with worker(redis, valkey, tmp_path, str(home), "fake", DALSTON_PRELOAD="") as one:
        passes = home / "passes"
        await soon(lambda: passes.read_text().split().count("8") == 2)  # the first time is over, nearly
        assert one.facts["capacity"] == "1"
        busy.unlink()
        await soon(lambda: int(one.facts["capacity"]) > 10, 30)


async def test_a_worker_that_stops_sends_its_sessions_away(redis: Any, valkey: str, tmp_path: Path) -> None:
    with worker(redis, valkey, tmp_path, DALSTON_LIVE_SESSIONS="3") as one:
        assert one.facts["capacity"] == "3"
        async with one.session("fake") as attached:
            await attached.until(protocol.Opened)
            one.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                await attached.until(protocol.Ended)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        assert await asyncio.to_thread(one.process.wait, 10) == 0
        assert not redis.exists(keys.WORKER(worker=one.id))
        assert redis.zscore(keys.WORKERS(), one.id) is None


async def test_recordings_are_heard_with_a_real_model(redis: Any, valkey: str, tmp_path: Path) -> None:
    with worker(redis, valkey, tmp_path, "faster-whisper", DALSTON_PRELOAD="tiny.en") as one:
        assert msgspec.json.decode(one.facts["models"])["tiny.en"] == ["en"]
        until(lambda: int(one.facts["capacity"]) >= 1)
        async with one.session("tiny.en", options=Options(word_timestamps=True)) as attached:
            await heard(attached, content=tones.said([1, 2, 3]))
            assert attached.all(protocol.SpeechEnded)


def encoded(content: bytes, encoding: str, rate: int) -> bytes:
    """16 kHz s16le in another encoding."""
    samples = np.frombuffer(content, "<i2") / 32_768
    samples = resample(samples, len(samples) * rate // 16_000).clip(-1, 1)
    if encoding == "pcm_s16le":
        return bytes((samples * 32_767).astype("<i2").tobytes())
    if encoding == "pcm_f32le":
        return bytes(samples.astype("<f4").tobytes())
    values = _table(encoding)  # which has a test of its own
    order = np.argsort(values)
    nearest = np.searchsorted(values[order], samples).clip(0, 255)
    return bytes(order[nearest].astype("u1").tobytes())


def written(content: bytes, kind: str, codec: str, rate: int) -> bytes:
    """16 kHz s16le as a file."""
    python = ROOT / "engines" / "faster-whisper" / ".venv" / "bin" / "python"
    command = [str(python), "-c", CODEC, kind, codec, str(rate)]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


STILL = """
import asyncio, io, wave
from dalston_engine.live.children import Decoding

async def main():
    told, decoded = io.BytesIO(), 0
    with wave.open(told, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000 * 12))
    decoding, content = await Decoding.start(), told.getvalue()

    async def read():
        nonlocal decoded
        async for samples in decoding.samples():
            decoded += len(samples)

    reading = asyncio.create_task(read())
    for piece in (content[:320_000], content[320_000:]):
        await decoding.feed(piece)
        await decoding.still()
    print(decoded / 16_000)
    reading.cancel()
    await decoding.stop()

asyncio.run(main())
"""


def test_a_decoder_is_still_when_it_has_decoded_what_came_after_a_silence_too() -> None:
    python = ROOT / "engines" / "faster-whisper" / ".venv" / "bin" / "python"
    done = subprocess.run([python, "-c", STILL], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 11.9
