"""The process that runs libav: reads orders from stdin, one JSON a line, and reports on stdout.

It is apart from the engine, so that a file that crashes, hangs or bloats libav ends this process and
nothing else. libav is given the open file by its number and may open nothing: the only protocol is
`fd`, the only containers are `DEMUXERS`, and no decoder but those of audio is ever started.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import sys
import time
import wave
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import av
import msgspec
from av.audio import AudioFrame
from av.audio.resampler import AudioResampler
from dalston_engine import Media
from dalston_engine.errors import BadInput, ErrorRecord
from dalston_engine.process import follow_parent
from engine import Limits, Order, Report

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpeg,mpegts,ogg,opus,rm,tta,voc,w64,wav,wv"
)
BY_NAME = {".gsm": "gsm"}
"""Containers that nothing in the file tells, only its name."""
EXACT = {"flac", "wav", "w64", "aiff", "caf", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
"""Containers that state their duration rather than have it estimated."""
RATE = 16_000
RATES = range(1_000, 1_600_001)
"""Sample rates that recordings have, in hertz; the highest ones are those of studios."""
BLOCK = 1 << 20
"""Bytes written to disk at once."""
SPEAKERS = 8
"""How many channels are transcribed each by itself at most."""
MINIMUM = 0.01
"""Seconds below which nothing counts as decoded."""
FLOATS = {"flt": (4, "f"), "dbl": (8, "d")}
LOUDEST = 1e30
"""What is beyond it is no sample; neither is what is no number. Full scale is 1."""
KB = 1024
REPORT_S = 0.1
"""How often progress is reported at most."""
FAILURES = (av.FFmpegError, ValueError)
"""All that libav and PyAV raise for a file."""


class Decoding:
    """One recording on its way to 16 kHz mono."""

    def __init__(self, limits: Limits, order: Order) -> None:
        self.limits, self.order = limits, order
        self.outputs, self.wavs = contextlib.ExitStack(), list[wave.Wave_write]()
        self.warnings: list[str] = []
        self.damaged = 0
        self.mended = False
        self.reported = -math.inf

    def run(self) -> Media:
        """Decode into the target; raises BadInput, or OSError for what the disk does."""
        with open(self.order.source, "rb") as source, self.outputs:
            if not os.fstat(source.fileno()).st_size:
                raise BadInput("The file is empty.", code="invalid_audio")
            if self.order.raw:
                return self.copy(source)
            with self.opened(source.fileno()) as container:
                return self.decode(container)

    def copy(self, source: BinaryIO) -> Media:
        """Take headerless samples as they are."""
        size = os.fstat(source.fileno()).st_size
        if size % 2:
            raise BadInput(
                "The file is not raw 16-bit audio: it has an odd number of bytes. Send s16le samples, "
                "16 kHz, mono, or a file with a header without saying how to read it.",
                code="invalid_audio",
            )
        self.check_duration(size / 2 / RATE)
        (wav,) = self.write_to(1)
        while block := source.read(BLOCK):
            wav.writeframesraw(block)
            self.report(wav.tell() * 2 / size)
        return Media(wav.tell() / RATE, "raw", "pcm_s16le", RATE, 1, **self.split)

    def opened(self, descriptor: int) -> av.container.InputContainer:
        """The recording as libav sees it."""
        options = {"fd": str(descriptor), "protocol_whitelist": "fd", "format_whitelist": DEMUXERS}
        try:
            return av.open(
                "fd:",
                format=BY_NAME.get(Path(self.order.source).suffix),
                options=options | {"codec_whitelist": AUDIO},
            )
        except MemoryError:
            raise BadInput(
                "The file has more streams, or needs more memory, than is allowed; is it damaged?",
                code="invalid_audio",
            ) from None
        except FAILURES:
            raise BadInput(
                "The file is not audio or video in a known format, or it is damaged.", code="invalid_audio"
            ) from None

    def write_to(self, channels: int) -> list[wave.Wave_write]:
        """The files of the recording, or of each of its channels."""
        names = [f"audio-{n}.wav" for n in range(channels)] if self.order.channels else ["audio.wav"]
        for name in names[len(self.wavs) :]:
            file = self.outputs.enter_context(open(f"{self.order.folder}/{name}", "wb", BLOCK))  # noqa: SIM115
            wav = self.outputs.enter_context(wave.open(file, "wb"))  # noqa: SIM115
            wav.setparams((1, 2, RATE, 0, "NONE", ""))
            self.wavs.append(wav)
        return self.wavs

    def write(self, frame: AudioFrame) -> None:
        """Put a frame where its channels go."""
        channels = frame.layout.nb_channels
        samples = memoryview(frame.planes[0])[: frame.samples * channels * 2]
        wavs = self.write_to(channels)
        if channels == 1:
            return wavs[0].writeframesraw(samples)
        mixed = array("h", bytes(samples))
        for n, wav in enumerate(wavs):
            wav.writeframesraw(mixed[n::channels])
        return None

    @property
    def split(self) -> dict[str, Any]:
        """What the channels were made of."""
        return {"parts": len(self.wavs), "split": "channels"} if self.order.channels else {}

    def decode(self, container: av.container.InputContainer) -> Media:
        """Write all that can be decoded, and say what it was."""
        stream = next((one for one in container.streams.audio if one.codec_context), None)
        if stream is None:
            raise BadInput("The file has no audio track that can be read.", code="invalid_audio")
        stream.thread_type = "AUTO"
        exact = container.format.name in EXACT
        total = container.duration / av.time_base if container.duration else 0.0
        self.check_duration(total if exact else 0.0)
        decoded = 0.0
        for frame in self.resampled(container, stream):
            self.write(frame)
            decoded = self.wavs[0].tell() / RATE
            self.check_duration(decoded)
            self.report(decoded / total if total else 0.0)
        if decoded < MINIMUM or decoded < total / 100:
            raise BadInput("No audio could be decoded from the file.", code="invalid_audio")
        if self.damaged:
            self.warnings.append(f"The recording is damaged: parts of it are missing ({self.damaged}).")
        if self.mended:
            self.warnings.append("Some samples of the recording are no numbers; they count as silence.")
        if exact and decoded < total * 0.98 - 0.2:
            self.warnings.append(f"The recording is cut off: {decoded:.1f} of {total:.1f} s are there.")
        return Media(
            duration=decoded,
            container=container.format.name.split(",")[0],
            codec=stream.codec_context.name,
            sample_rate=stream.codec_context.sample_rate,
            channels=stream.codec_context.channels,
            bit_rate=stream.codec_context.bit_rate or None,
            video=any(not is_cover(video) for video in container.streams.video),
            warnings=self.warnings,
            **self.split,
        )

    def resampled(
        self, container: av.container.InputContainer, stream: av.AudioStream
    ) -> Iterator[AudioFrame]:
        """The stream's frames as 16 kHz s16, mono or with the channels of the first frame.

        The sound may change its shape on the way.
        """
        resampler, shape, kind = None, None, {"format": "s16", "layout": "mono", "rate": RATE}
        for frame in self.frames(container, stream):
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if now != shape:
                self.check_shape(frame)
                if self.order.channels and not shape:
                    kind["layout"] = frame.layout.name
                if resampler:
                    yield from resampler.resample(None)
                resampler, shape = AudioResampler(**kind), now
            self.mend(frame)
            frame.pts = None  # gaps in the source's clock are not filled with silence
            try:
                yield from resampler.resample(frame)
            except MemoryError:
                raise
            except FAILURES:
                raise BadInput(
                    f"The recording's {frame.layout.nb_channels} channels at {frame.sample_rate} Hz "
                    "cannot be mixed to one; send fewer channels.",
                    code="unsupported_audio",
                ) from None
        if resampler:
            yield from resampler.resample(None)

    def mend(self, frame: AudioFrame) -> None:
        """Make silence of samples that are no numbers: resampled they would be as loud as can be."""
        width, kind = FLOATS.get(frame.format.name, (0, ""))
        if not width:
            return
        plane, content = frame.planes[0], bytes(frame.planes[0])
        highest = content[width - 1 :: width]
        if b"\x7f" not in highest and b"\xff" not in highest:  # the bytes of all exponents near the last
            return
        samples = array(kind, (x if abs(x) < LOUDEST else 0.0 for x in array(kind, content)))
        if samples.tobytes() != content:
            plane.update(samples.tobytes())
            self.mended = True

    def frames(self, container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[AudioFrame]:
        """All frames that can be decoded; a packet that cannot be costs itself alone."""
        for packet in self.packets(container, stream):
            try:
                yield from stream.codec_context.decode(None) if packet is None else packet.decode()
            except MemoryError:
                raise
            except FAILURES:
                self.damaged += 1

    def packets(
        self, container: av.container.InputContainer, stream: av.AudioStream
    ) -> Iterator[av.Packet | None]:
        """The stream's packets; None when the container breaks off, so that its last frames come out."""
        try:
            yield from container.demux(stream)
        except MemoryError:
            raise
        except (*FAILURES, IndexError):  # the latter for packets of a track that was not there at first
            self.warnings.append("The recording is damaged: its end is missing.")
            yield None

    def check_duration(self, seconds: float) -> None:
        """Raise BadInput for more than is allowed."""
        if seconds > self.limits.duration:
            raise BadInput(
                f"The recording is longer than {self.limits.duration} s, the most that this server takes: "
                "split it, or have the operator raise DALSTON_PREPARE_MAX_DURATION.",
                code="too_long",
            )

    def check_shape(self, frame: AudioFrame) -> None:
        """Raise BadInput for sound of a shape that is not allowed."""
        if not 0 < frame.layout.nb_channels <= self.limits.channels:
            raise BadInput(
                f"The recording has {frame.layout.nb_channels} channels; this server takes up to "
                f"{self.limits.channels} (DALSTON_PREPARE_MAX_CHANNELS).",
                code="too_many_channels",
            )
        if self.order.channels and frame.layout.nb_channels > SPEAKERS:
            raise BadInput(
                f"The recording has {frame.layout.nb_channels} channels; up to {SPEAKERS} are told apart. "
                "Send fewer of them.",
                code="too_many_channels",
            )
        if frame.sample_rate not in RATES:
            raise BadInput(
                f"The recording's sample rate is {frame.sample_rate} Hz; what is read is {RATES.start} to "
                f"{RATES.stop - 1} Hz.",
                code="unsupported_audio",
            )

    def report(self, fraction: float) -> None:
        """Tell the engine, now and then, how much is done; it may end this process for an answer."""
        if time.monotonic() - self.reported > REPORT_S:
            self.reported = time.monotonic()
            say(Report(progress=fraction))


def is_cover(video: av.VideoStream) -> bool:
    """True for the still picture that music files carry as a video stream."""
    return bool(video.disposition & av.stream.Disposition.attached_pic)


def audio_decoders() -> str:
    """The names of libav's decoders of audio."""
    return ",".join(name for name in sorted(av.codecs_available) if decodes_audio(name))


def decodes_audio(name: str) -> bool:
    """True for a decoder of audio."""
    try:
        return bool(av.Codec(name, "r").type == "audio")
    except ValueError:  # an encoder
        return False


def say(report: Report) -> None:
    """One line to the engine."""
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def carry_out(limits: Limits, order: Order) -> Report:
    """Decode one recording within its limits."""
    spent = int(time.process_time()) + 1 + limits.seconds
    resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))
    try:
        return Report(media=Decoding(limits, order).run())
    except BadInput as error:
        return Report(refused=error.record)
    except MemoryError:
        return Report(
            refused=ErrorRecord("too_costly", "The recording needs more memory than is allowed.", 422)
        )
    except OSError as error:
        return Report(errno=error.errno)


def main() -> None:
    follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine, which closes stdin
    limits = msgspec.json.decode(sys.argv[1], type=Limits)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
    for line in sys.stdin.buffer:
        say(carry_out(limits, msgspec.json.decode(line, type=Order)))
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KB > limits.memory / 2:
            return  # the next recording is not to suffer for this one


AUDIO = audio_decoders()

if __name__ == "__main__":
    main()
