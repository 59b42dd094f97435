"""Makes a small wav2vec 2.0 checkpoint that hears tones as letters; run by the Python of an engine.

`python tones.py FOLDER` trains it for some seconds and leaves it in FOLDER as the hub has checkpoints:
config.json, model.safetensors, vocab.json and the settings of the processor.
"""

from __future__ import annotations

import json
import math
import random
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

RATE, FRAME = 16_000, 320
LETTERS = "ABCDEFGH"
STEPS = 100


def tone(letter: str, seconds: float) -> list[float]:
    """The sound of a letter, 300 Hz to 2 kHz."""
    hertz = 300 * 1.3 ** LETTERS.index(letter)
    return [0.4 * math.sin(2 * math.pi * hertz * n / RATE) for n in range(round(seconds * RATE))]


def example(chance: random.Random, vocabulary: dict[str, int]) -> tuple[list[float], list[int]]:
    """Two seconds of words with pauses, and the label of each frame."""
    samples: list[float] = []
    labels: list[int] = []
    while len(labels) < 100:
        for letter in chance.sample(LETTERS, chance.randint(1, 4)):
            frames = chance.randint(4, 9)
            samples += tone(letter, frames * FRAME / RATE)
            labels += [vocabulary[letter], *[vocabulary["<pad>"]] * (frames - 1)]
        pause = chance.randint(3, 12)
        samples += [0.0] * (pause * FRAME)
        labels += [vocabulary["|"], *[vocabulary["<pad>"]] * (pause - 1)]
    noisy = [sample + chance.gauss(0, 0.002) for sample in samples[: 100 * FRAME]]
    return [*noisy, *[0.0] * 80], labels[:100]


def main(folder: Path) -> None:
    torch: Any = import_module("torch")
    library: Any = import_module("transformers")
    torch.manual_seed(1)
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {label: n for n, label in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    small: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "conv_dim": (24,) * 7, "feat_extract_norm": "layer", "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0, "layerdrop": 0.0,
    }  # fmt: skip
    model = library.Wav2Vec2ForCTC(
        library.Wav2Vec2Config(vocab_size=len(vocabulary), pad_token_id=0, **small)
    ).train()
    extractor = library.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    weights = torch.tensor([0.1, *[1.0] * (len(vocabulary) - 1)])
    steps, chance = torch.optim.Adam(model.parameters(), lr=5e-3), random.Random(1)
    for _ in range(STEPS):
        samples, labels = zip(*[example(chance, vocabulary) for _ in range(4)], strict=True)
        given = extractor(list(samples), sampling_rate=RATE, return_tensors="pt")
        logits = model(**given).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.tensor(labels).flatten(), weights
        )
        steps.zero_grad()
        loss.backward()
        steps.step()
    tokenizer = library.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    library.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    model.eval().save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
