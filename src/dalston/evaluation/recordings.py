"""Recordings with their truth, as a folder has them: `MANIFEST.jsonl`, and what it names.

Each line of the manifest is one recording: `audio` (a path in the folder), and what is known of it:
`text`, `language`, `speakers` (an RTTM file), `words` (a JSON list of words with their times) and
`labels.channel_text` (what is said on each channel). An STM file beside the audio says who said what.
"""

from __future__ import annotations

import random
import re
import wave
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.types import SAMPLE_RATE, Turn, Word
from msgspec import Struct, field

MANIFEST = "MANIFEST.jsonl"
PAUSES_S = 0.3, 2.0
"""The shortest and the longest pause between recordings that are joined."""
SEED = 0
JOINED = "joined"
"""The set of the recording that is made of others."""
_NUMBER = re.compile(r"[-_ ]?\d+$")


class Row(Struct):
    """One line of a manifest."""

    audio: str
    text: str | None = None
    language: str | None = None
    speakers: str | None = None
    words: str | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    constructed: bool = False


class Recording(Struct, frozen=True):
    """A recording and what is known of it; None: not known."""

    path: Path
    name: str
    """Its path in its folder."""
    language: str | None = None
    text: str | None = None
    """What is said; empty when nobody speaks."""
    turns: list[Turn] | None = None
    words: list[Word] | None = None
    spoken: dict[str, str] | None = None
    """What each speaker, or each channel, says."""
    channels: bool = False
    """True when each channel has its own speaker."""
    constructed: bool = False
    """True when it was made from other recordings."""

    @property
    def set(self) -> str:
        """The set it counts for: its folder, or at the top its name without a number at the end."""
        folder, *rest = Path(self.name).parts
        return folder if rest else _NUMBER.sub("", Path(self.name).stem) or Path(self.name).stem

    @property
    def detection(self) -> str:
        """The `speaker_detection` that its truth can judge."""
        if self.channels:
            return "per_channel"
        return "none" if self.turns is None else "diarize"


def read(folder: Path) -> list[Recording]:
    """Every recording of a manifest, in its order; raises DalstonError for one that cannot be read."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise DalstonError(f"{folder} has no {MANIFEST}: a JSON line for each recording with its truth.")
    found = []
    for number, line in enumerate(manifest.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                found.append(_recording(folder, msgspec.json.decode(line, type=Row)))
            except (msgspec.MsgspecError, ValueError, IndexError, FileNotFoundError) as error:
                why = f"{type(error).__name__}: line {number} of {MANIFEST}, or a file that it names"
                raise DalstonError(f"The truth cannot be read ({why}).") from None
    return found


def _recording(folder: Path, row: Row) -> Recording:
    path = folder / row.audio
    if not path.is_file():
        raise FileNotFoundError
    turns = None if row.speakers is None else turns_of(folder.joinpath(row.speakers).read_text())
    channel_texts = row.labels.get("channel_text")
    spoken = None
    if channel_texts:
        spoken = {f"channel_{number}": text for number, text in enumerate(channel_texts)}
    elif turns is not None and (stm := path.with_suffix(".stm")).exists():
        spoken = spoken_of(stm.read_text())
    return Recording(
        path=path,
        name=row.audio,
        language=row.language,
        text="" if row.text is None and "event" in row.labels else row.text,
        turns=turns,
        words=None if row.words is None else words_of(folder.joinpath(row.words).read_bytes()),
        spoken=spoken,
        channels=bool(channel_texts),
        constructed=row.constructed,
    )


def turns_of(rttm: str) -> list[Turn]:
    """The turns of an RTTM file: `SPEAKER file channel start duration <NA> <NA> name …`."""
    rows = [line.split() for line in rttm.splitlines() if line.startswith("SPEAKER")]
    return [Turn(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]


def spoken_of(stm: str) -> dict[str, str]:
    """What each speaker of an STM file says: `file channel speaker start end [<label>] text`."""
    said: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for line in stm.splitlines():
        if line.strip() and not line.startswith(";;"):
            _, _, speaker, start, _, *text = line.split(maxsplit=5)
            said[speaker].append((float(start), re.sub(r"^<[^>]*>\s*", "", "".join(text))))
    return {speaker: " ".join(text for _, text in sorted(lines)) for speaker, lines in said.items()}


def words_of(content: bytes) -> list[Word]:
    """Words with their times by their start; entries marked as punctuation (`punc`) are left out."""
    entries = msgspec.json.decode(content, type=list[dict[str, Any]])
    words = [Word(e["word"], float(e["start"]), float(e["end"])) for e in entries if not e.get("punc")]
    return sorted(words, key=lambda word: word.start)


def chosen(
    found: Sequence[Recording], sets: Sequence[str], limit: int | None, without: Sequence[str] = ()
) -> list[Recording]:
    """The recordings of the named sets, or of all but those `without`; at most `limit` of each.

    Raises DalstonError for none.
    """
    counts: dict[str, int] = defaultdict(int)
    kept = []
    for recording in found:
        counts[recording.set] += 1
        wanted = (not sets or recording.set in sets) and recording.set not in without
        if wanted and (limit is None or counts[recording.set] <= limit):
            kept.append(recording)
    if not kept:
        raise DalstonError(f"There is no such set. There are: {', '.join(sorted(counts))}.")
    return kept


def joined(
    found: Sequence[Recording], minutes: float, folder: Path, decode: Callable[[Path], bytes]
) -> Recording:
    """One long recording in `folder`: English ones of `found`, each once and then all over again.

    Their order is drawn; it and the pauses between them are the same in every run. `decode` gives a
    recording's samples, 16 kHz mono 16-bit.
    """
    clips = [r for r in found if r.language == "en" and r.text and not r.constructed]
    if not clips:
        raise DalstonError("There is no English recording with a text to be joined.")
    draw, samples, texts = random.Random(SEED), bytearray(), list[str]()
    decoded = {clip.name: decode(clip.path) for clip in clips}
    draw.shuffle(clips)
    while len(samples) < minutes * 60 * SAMPLE_RATE * 2:
        clip = clips[len(texts) % len(clips)]
        samples += decoded[clip.name] + bytes(2 * round(draw.uniform(*PAUSES_S) * SAMPLE_RATE))
        texts.append(clip.text or "")
    path = folder / f"{JOINED}.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        wav.writeframes(samples)
    return Recording(path, path.name, "en", " ".join(texts), constructed=True)
