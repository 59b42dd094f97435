"""Any recording to 16 kHz mono PCM with PyAV (libav), in one pass and flat memory.

Only the containers in `DEMUXERS` are opened, and nothing but the file itself: no playlist, no URL.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import av
from av.audio import AudioFrame
from av.audio.resampler import AudioResampler
from dalston_engine import BadInput, Engine, Media, serve

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpeg,mpegts,ogg,opus,rm,tta,voc,w64,wav,wv"
)
EXACT = {"flac", "wav", "w64", "aiff", "caf", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
"""Containers that state their duration rather than have it estimated."""
RATE = 16_000
BLOCK = 1 << 20
"""Bytes written to disk at once."""
MINIMUM = 0.01
"""Seconds below which nothing counts as decoded."""


class Prepare(Engine):
    """Decodes what can be decoded; a damaged tail costs a warning, not the job."""

    def prepare(self, source: Path, folder: Path) -> Media:
        warnings: list[str] = []
        try:
            container = av.open(
                str(source), options={"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
            )
        except (av.FFmpegError, ValueError) as error:
            raise BadInput(unreadable(source), code="invalid_audio") from error
        target = (folder / "audio.wav").open("wb", buffering=BLOCK)
        with container, target, wave.open(target, "wb") as wav:
            if not container.streams.audio:
                raise BadInput("The file has no audio track.", code="invalid_audio")
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(RATE)
            stream = container.streams.audio[0]
            stream.thread_type = "AUTO"
            total = container.duration / av.time_base if container.duration else None
            for frame in self.resampled(container, stream, warnings):
                wav.writeframesraw(memoryview(frame.planes[0])[: frame.samples * 2])
                if total:
                    self.progress(wav.tell() / RATE / total)
            decoded = wav.tell() / RATE
            if decoded < MINIMUM or (total and decoded < total / 100):
                raise BadInput("No audio could be decoded from the file.", code="invalid_audio")
            if total and container.format.name in EXACT and decoded < total * 0.98 - 0.2:
                warnings.append(f"The recording is cut off: {decoded:.1f} of {total:.1f} s are there.")
            return Media(
                duration=decoded,
                container=container.format.name.split(",")[0],
                codec=stream.codec_context.name,
                sample_rate=stream.codec_context.sample_rate,
                channels=stream.codec_context.channels,
                bit_rate=stream.codec_context.bit_rate or None,
                video=any(not is_cover(video) for video in container.streams.video),
                warnings=warnings,
            )

    def resampled(
        self, container: av.container.InputContainer, stream: av.AudioStream, warnings: list[str]
    ) -> Iterator[AudioFrame]:
        """The stream's frames as 16 kHz mono s16, up to the first that cannot be decoded."""
        resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
        try:
            for frame in container.decode(stream):
                frame.pts = None  # gaps in the source's clock are not filled with silence
                yield from resampler.resample(frame)
        except av.FFmpegError:
            warnings.append("The recording is damaged: what follows the last readable part is missing.")
        yield from resampler.resample(None)


def is_cover(video: av.VideoStream) -> bool:
    """True for the still picture that music files carry as a video stream."""
    return bool(video.disposition & av.stream.Disposition.attached_pic)


def unreadable(source: Path) -> str:
    """Why a file that libav does not open is refused."""
    if source.stat().st_size == 0:
        return "The file is empty."
    return "The file is not audio or video in a known format, or it is damaged."


if __name__ == "__main__":
    serve(Prepare)
