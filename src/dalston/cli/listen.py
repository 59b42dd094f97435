"""`dalston listen`: the microphone through a live session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from dalston_engine.errors import DalstonError

from dalston.cli.output import say
from dalston.cli.stream import PIECE_S, Wish, hear

RATE = 16_000


async def listen(device: str | None, wish: Wish, data: str | None) -> None:
    """Show what is said into a microphone until Ctrl-C; raises DalstonError when there is none to be had."""
    library = _library()
    rate = _rate(library, _device(device))
    microphone = _heard(library, _device(device), rate)
    await hear(microphone, {"encoding": "pcm_s16le", "sample_rate": rate}, wish, data)


def _library() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise DalstonError(
            "The microphone needs a library that is not installed: pip install 'dalston[microphone]'."
        ) from None
    except OSError:
        raise DalstonError(
            "The microphone needs PortAudio, which is not installed: `apt install libportaudio2` on Debian "
            "and Ubuntu, `dnf install portaudio` on Fedora."
        ) from None
    return sounddevice


def _device(name: str | None) -> str | int | None:
    """A device by its number, or by a part of its name."""
    return int(name) if name and name.isdecimal() else name


def _rate(library: Any, device: str | int | None) -> int:
    """The samples a second that the device takes: 16,000 if it can, else what it likes best."""
    try:
        library.check_input_settings(device=device, channels=1, dtype="int16", samplerate=RATE)
        return RATE
    except (library.PortAudioError, ValueError):
        pass
    try:
        return int(library.query_devices(device, "input")["default_samplerate"])
    except (library.PortAudioError, ValueError) as error:
        known = ", ".join(
            f"{n} ({one['name']})"
            for n, one in enumerate(library.query_devices())
            if one["max_input_channels"]
        )
        raise DalstonError(
            f"There is no such microphone. There are: {known}."
            if known
            else "This machine has no microphone."
        ) from error


async def _heard(library: Any, device: str | int | None, rate: int) -> AsyncIterator[bytes]:
    """Samples as they are recorded."""
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[bytes]()

    def heard(content: Any, _frames: int, _time: Any, _status: Any) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, bytes(content))

    try:
        stream = library.RawInputStream(
            samplerate=rate, blocksize=round(rate * PIECE_S), device=device, channels=1, dtype="int16",
            callback=heard,
        )  # fmt: skip
        with stream:
            say("Listening; Ctrl-C ends.")
            while True:
                yield await pieces.get()
    except library.PortAudioError as error:
        raise DalstonError(f"The microphone cannot be used ({error}).") from None
