"""Whisper's weights from CTranslate2's format into the library's own model, bit for bit.

A CTranslate2 model is `config.json` and `model.bin`. The latter holds, all little-endian: its format's
version and the model's name and revision, the number of variables, and for each its name, its shape and
its raw values. It keeps query, key and value (in attention across: key and value) as one matrix.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from whisper.model import ModelDimensions, Whisper

HEAD_SIZE = 64
"""Every Whisper model has attention heads of this width."""
FLOATS = {0: torch.float32, 4: torch.float16}
"""The types that lose nothing; the others are quantised."""
Variables = dict[str, Tensor]


def load(folder: Path) -> Whisper:
    """The model in `folder`; raises ValueError if its weights are quantised."""
    with (folder / "model.bin").open("rb") as file:
        variables = read(file)
    weights = renamed(variables)
    model = Whisper(_dimensions(weights))
    model.load_state_dict(weights)
    _set_alignment_heads(model, json.loads((folder / "config.json").read_bytes())["alignment_heads"])
    return model


def read(file: BinaryIO) -> Variables:
    """Every variable by its name."""

    def number(kind: str) -> int:
        return int(struct.unpack("<" + kind, file.read(struct.calcsize("<" + kind)))[0])

    def text() -> str:
        return file.read(number("H")).rstrip(b"\0").decode()

    variables = {}
    _version, _model, _revision = number("I"), text(), number("I")
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        values = bytearray(file.read(size))
        if kind in FLOATS:
            variables[name] = torch.frombuffer(values, dtype=FLOATS[kind]).reshape(shape)
        elif shape:
            raise ValueError(f"{name} is quantised; take float16 or float32 weights")
    return variables


def renamed(variables: Variables) -> Variables:
    """The same weights under the library's names."""
    weights = {"encoder.positional_embedding": variables["encoder/position_encodings/encodings"],
               "decoder.positional_embedding": variables["decoder/position_encodings/encodings"],
               "decoder.token_embedding.weight": variables["decoder/embeddings/weight"]}  # fmt: skip
    for side, norm in (("encoder", "ln_post"), ("decoder", "ln")):
        weights |= _norm(variables, f"{side}/layer_norm", f"{side}.{norm}")
        for index in range(_layers(variables, side)):
            weights |= _block(variables, f"{side}/layer_{index}", f"{side}.blocks.{index}")
    for name in ("conv1", "conv2"):
        weights |= _linear(variables, f"encoder/{name}", f"encoder.{name}")
    return weights


def _layers(variables: Variables, side: str) -> int:
    return sum(
        name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/weight") for name in variables
    )


def _block(variables: Variables, source: str, target: str) -> Variables:
    weights = _linear(variables, f"{source}/ffn/linear_0", f"{target}.mlp.0")
    weights |= _linear(variables, f"{source}/ffn/linear_1", f"{target}.mlp.2")
    weights |= _norm(variables, f"{source}/ffn/layer_norm", f"{target}.mlp_ln")
    weights |= _attention(variables, f"{source}/self_attention", f"{target}.attn", ["query", "key", "value"])
    if f"{source}/attention/linear_0/weight" in variables:
        own = ["query"], ["key", "value"]
        weights |= _attention(variables, f"{source}/attention", f"{target}.cross_attn", *own)
    return weights


def _attention(variables: Variables, source: str, target: str, *joined: list[str]) -> Variables:
    """Each list names the parts of one matrix; the output's follows them. Keys have no bias."""
    weights = _norm(variables, f"{source}/layer_norm", f"{target}_ln")
    for index, parts in enumerate([*joined, ["out"]]):
        for kind, whole in _linear(variables, f"{source}/linear_{index}", "").items():
            pieces = zip(parts, whole.chunk(len(parts)), strict=True)
            weights |= {f"{target}.{part}{kind}": piece for part, piece in pieces}
    weights.pop(f"{target}.key.bias")
    return weights


def _linear(variables: Variables, source: str, target: str) -> Variables:
    return {f"{target}.{kind}": variables[f"{source}/{kind}"] for kind in ("weight", "bias")}


def _norm(variables: Variables, source: str, target: str) -> Variables:
    return {f"{target}.weight": variables[f"{source}/gamma"], f"{target}.bias": variables[f"{source}/beta"]}


def _dimensions(weights: Variables) -> ModelDimensions:
    vocabulary, width = weights["decoder.token_embedding.weight"].shape
    return ModelDimensions(
        n_mels=weights["encoder.conv1.weight"].shape[1],
        n_audio_ctx=len(weights["encoder.positional_embedding"]),
        n_audio_state=width,
        n_audio_head=width // HEAD_SIZE,
        n_audio_layer=sum(name.startswith("encoder") and name.endswith("mlp.0.bias") for name in weights),
        n_vocab=vocabulary,
        n_text_ctx=len(weights["decoder.positional_embedding"]),
        n_text_state=width,
        n_text_head=width // HEAD_SIZE,
        n_text_layer=sum(name.startswith("decoder") and name.endswith("mlp.0.bias") for name in weights),
    )


def _set_alignment_heads(model: Whisper, heads: list[tuple[int, int]]) -> None:
    """The heads of the decoder, by layer and place, whose attention follows the words in time."""
    mask = torch.zeros(model.dims.n_text_layer, model.dims.n_text_head, dtype=torch.bool)
    for layer, head in heads:
        mask[layer, head] = True
    model.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
