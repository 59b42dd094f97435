"""Turns 16-bit WAV files into prepared audio: put your decoder where `decode` is."""

from __future__ import annotations

import array
import wave
from pathlib import Path

from dalston_engine import BadInput, Engine, Media, serve

RATE = 16_000


class MyEngine(Engine):
    """Leaves `audio.wav`, 16 kHz mono 16-bit, in the folder it is given."""

    def prepare(self, source: Path, folder: Path) -> Media:
        try:
            samples, rate, channels = decode(source)
        except (wave.Error, EOFError) as error:
            raise BadInput("The file is no 16-bit WAV file.", code="invalid_audio") from error
        mono = samples[::channels]
        wanted = len(mono) * RATE // rate
        if not wanted:
            raise BadInput("The file has no audio.", code="invalid_audio")
        self.progress(0.5)
        with wave.open(str(folder / "audio.wav"), "wb") as target:
            target.setparams((1, 2, RATE, 0, "NONE", ""))
            target.writeframes(array.array("h", (mono[n * rate // RATE] for n in range(wanted))).tobytes())
        return Media(wanted / RATE, container="wav", codec="pcm_s16le", sample_rate=rate, channels=channels)


def decode(source: Path) -> tuple[array.array[int], int, int]:
    """The samples of a recording, channels interleaved; how many a second; how many channels."""
    with wave.open(str(source), "rb") as file:
        if file.getsampwidth() != 2:
            raise wave.Error("not 16-bit")
        return array.array("h", file.readframes(-1)), file.getframerate(), file.getnchannels()


if __name__ == "__main__":
    serve(MyEngine)
