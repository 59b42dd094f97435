"""What every engine must do that hears live sessions: one check, on utterances made of one recording."""

from __future__ import annotations

import io
import wave
from difflib import SequenceMatcher
from pathlib import Path

import msgspec
from dalston_engine import Transcript

from dalston.conformance.inside import Heard
from dalston.conformance.workbench import Failed, Workbench

RATE, LONGEST_S = 16_000, 12
SHORT_S = 0.05
ALIKE = 0.7
"""The share of words that must be the same whatever was heard beside: sums of floats differ a little."""
BLUR_S = 0.05


def hears(bench: Workbench, model: str, audio: bytes) -> str:
    """Utterances together, alone, in part and in two threads: a transcript for each, and the same text."""
    folder = bench.inputs / "utterances"
    folder.mkdir()
    lengths = _utterances(folder, audio)
    done = bench.hear(model, folder)
    if done.returncode:
        last = next(reversed(done.stderr.strip().splitlines()), "it said nothing")
        raise Failed(f"`listen` ended with {done.returncode}: {last}")
    try:
        heard = msgspec.json.decode(done.stdout, type=Heard)
    except msgspec.DecodeError as error:
        raise Failed(f"`listen` returned no transcripts: {error}") from None
    for transcripts in (heard.together, heard.alone, heard.partly, *heard.twice):
        for seconds, one in zip(lengths, transcripts, strict=True):
            _plausible(one, seconds)
    for how, transcripts in (("alone", heard.alone), *(("in two threads", again) for again in heard.twice)):
        for one, other in zip(heard.together, transcripts, strict=True):
            if SequenceMatcher(None, _text(one).split(), _text(other).split()).ratio() < ALIKE:
                raise Failed(f"an utterance heard {how} has another text than heard beside others")
    if not any(map(_text, heard.together)):
        return f"{len(lengths)} utterances; it heard nobody in the recording, so not much is proven"
    return f"{len(lengths)} utterances together, alone and in two threads"


def _utterances(folder: Path, audio: bytes) -> list[float]:
    """The recording, either half of it, silence, a blink and nothing; their lengths in seconds."""
    with wave.open(io.BytesIO(audio)) as file:
        whole = file.readframes(LONGEST_S * RATE)
    half = len(whole) // 4 * 2
    pieces = [whole, whole[:half], whole[half:], bytes(2 * RATE), whole[: int(2 * SHORT_S * RATE)], b""]
    for n, piece in enumerate(pieces):
        with wave.open(str(folder / f"{n}.wav"), "wb") as out:
            out.setparams((1, 2, RATE, 0, "NONE", ""))
            out.writeframes(piece)
    return [len(piece) / 2 / RATE for piece in pieces]


def _text(one: Transcript) -> str:
    return "".join(segment.text for segment in one.segments).strip()


def _plausible(one: Transcript, seconds: float) -> None:
    if _text(one) and seconds <= SHORT_S:
        raise Failed(f"it heard words in {seconds:.2f} s of audio")
    for spans in (one.segments, one.words or []):
        last = 0.0
        for span in spans:
            if not last <= span.start <= span.end <= seconds + BLUR_S:
                raise Failed(
                    f"a time from {span.start:.2f} to {span.end:.2f} s in an utterance of {seconds:.2f} s; "
                    "they count from its first sample, in order"
                )
            last = span.start
    if one.words and "".join(word.text for word in one.words).strip() != _text(one):
        raise Failed("its words joined are not its segments joined: words keep their leading space")
