"""The two networks as ONNX graphs, built from their checkpoints' tensors.

Segmentation is pyannote's PyanNet (SincNet filters, four bidirectional LSTM layers): who of up to three
speakers speaks in each frame of 10 s of sound. Embedding is CAM++ up to its last frame-wise layer: what
voice each frame has; pooling over the frames of one speaker is left to the caller.
"""

from __future__ import annotations

import numpy as np
from checkpoint import Weights
from onnx import ModelProto, TensorProto, helper, numpy_helper

OPSET, IR = 17, 8
EPSILON = 1e-5
"""What both networks add to a variance."""
SLOPE = 0.01
"""Of LeakyReLU below 0."""
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of the blocks of CAM++."""


class Graph:
    """Collects nodes; each method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[object] = []
        self.tensors: list[object] = []

    def constant(self, values: np.ndarray, dtype: type = np.float32) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def affine(self, x: str, scale: np.ndarray, shift: np.ndarray) -> str:
        """`x * scale + shift` for each channel of (batch, channel, time)."""
        scaled = self.add("Mul", x, self.constant(scale[:, None]))
        return self.add("Add", scaled, self.constant(shift[:, None]))

    def convolution(self, x: str, weight: np.ndarray, bias: np.ndarray | None = None, **how: object) -> str:
        tensors = [self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.add("Conv", x, *tensors, **how)

    def model(self, inputs: dict[str, list[str | int]], output: str, shape: list[str | int]) -> ModelProto:
        """The finished model with one output, `output`, all of 32-bit floats."""
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "diarization", values, [result], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def sinc_filters(w: Weights) -> np.ndarray:
    """SincNet's 80 band-pass filters (cosine phase, then sine) of 251 samples at 16 kHz."""
    prefix = "sincnet.conv1d.0.filterbank."
    low = 50 + np.abs(w[prefix + "low_hz_"].astype(np.float64))
    high = np.clip(low + 50 + np.abs(w[prefix + "band_hz_"]), 50, 8000)
    time, window = w[prefix + "n_"].astype(np.float64), w[prefix + "window_"].astype(np.float64)
    band = high - low
    even = (np.sin(high * time) - np.sin(low * time)) / (time / 2) * window
    odd = (np.cos(low * time) - np.cos(high * time)) / (time / 2) * window
    cosine = np.concatenate([even, 2 * band, even[:, ::-1]], axis=1)
    sine = np.concatenate([odd, np.zeros_like(band), -odd[:, ::-1]], axis=1)
    return (np.concatenate([cosine, sine]) / (2 * np.concatenate([band, band])))[:, None, :]


def recurrent(graph: Graph, x: str, w: Weights, layer: int) -> str:
    """A bidirectional LSTM layer on (time, batch, feature)."""

    def both(kind: str) -> np.ndarray:
        return np.stack([gates(w[f"lstm.{kind}_l{layer}{way}"]) for way in ("", "_reverse")])

    def gates(rows: np.ndarray) -> np.ndarray:
        """From PyTorch's order of gates (input, forget, cell, output) to ONNX's (i, o, f, c)."""
        i, f, c, o = np.split(rows, 4)
        return np.concatenate([i, o, f, c])

    biases = np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)
    tensors = [graph.constant(each) for each in (both("weight_ih"), both("weight_hh"), biases)]
    hidden = w[f"lstm.weight_hh_l{layer}"].shape[1]
    y = graph.add("LSTM", x, *tensors, hidden_size=hidden, direction="bidirectional")
    y = graph.add("Transpose", y, perm=[0, 2, 1, 3])
    return graph.add("Reshape", y, graph.constant(np.array([0, 0, 2 * hidden]), np.int64))


def segmentation(w: Weights) -> ModelProto:
    """`sound` (batch, 1, samples at 16 kHz, -1 to 1) to `n…` (frame, batch, class): unnormalised."""
    graph = Graph()

    def normalised(x: str, name: str) -> str:
        scale, shift = (graph.constant(w[f"sincnet.{name}.{part}"]) for part in ("weight", "bias"))
        return graph.add("InstanceNormalization", x, scale, shift, epsilon=EPSILON)

    x = normalised("sound", "wav_norm1d")
    for layer in range(3):
        if layer == 0:
            x = graph.add("Abs", graph.convolution(x, sinc_filters(w), strides=[10]))
        else:
            name = f"sincnet.conv1d.{layer}"
            x = graph.convolution(x, w[f"{name}.weight"], w[f"{name}.bias"])
        x = graph.add("MaxPool", x, kernel_shape=[3], strides=[3])
        x = graph.add("LeakyRelu", normalised(x, f"norm1d.{layer}"), alpha=SLOPE)
    x = graph.add("Transpose", x, perm=[2, 0, 1])
    for layer in range(4):
        x = recurrent(graph, x, w, layer)
    for name in ("linear.0", "linear.1", "classifier"):
        x = graph.add("MatMul", x, graph.constant(w[f"{name}.weight"].T))
        x = graph.add("Add", x, graph.constant(w[f"{name}.bias"]))
        if name != "classifier":
            x = graph.add("LeakyRelu", x, alpha=SLOPE)
    return graph.model({"sound": ["batch", 1, "samples"]}, x, ["frame", "batch", 7])


def norm(w: Weights, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A trained batch normalisation as the scale and shift it comes to."""
    deviation = np.sqrt(w[f"{name}.running_var"].astype(np.float64) + EPSILON)
    scale = w.get(f"{name}.weight", np.float64(1)) / deviation
    return scale, w.get(f"{name}.bias", np.float64(0)) - w[f"{name}.running_mean"] * scale


def normed_convolution(graph: Graph, x: str, w: Weights, name: str, following: str, **how: object) -> str:
    """A convolution without bias and the batch normalisation after it, as one."""
    scale, shift = norm(w, following)
    weight = w[f"{name}.weight"]
    return graph.convolution(x, weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift, **how)


def residual(graph: Graph, x: str, w: Weights, name: str, stride: int) -> str:
    """A residual block of CAM++'s head on (batch, channel, frequency, time)."""
    y = normed_convolution(graph, x, w, f"{name}.conv1", f"{name}.bn1", strides=[stride, 1], pads=[1] * 4)
    y = graph.add("Relu", y)
    y = normed_convolution(graph, y, w, f"{name}.conv2", f"{name}.bn2", pads=[1] * 4)
    if f"{name}.shortcut.0.weight" in w:
        x = normed_convolution(graph, x, w, f"{name}.shortcut.0", f"{name}.shortcut.1", strides=[stride, 1])
    return graph.add("Relu", graph.add("Add", y, x))


def head(graph: Graph, x: str, w: Weights) -> str:
    """CAM++'s two-dimensional front: (batch, 1, 80, time) to (batch, 320, time)."""
    x = graph.add("Relu", normed_convolution(graph, x, w, "head.conv1", "head.bn1", pads=[1] * 4))
    for layer in ("layer1", "layer2"):
        x = residual(graph, x, w, f"head.{layer}.0", 2)
        x = residual(graph, x, w, f"head.{layer}.1", 1)
    x = normed_convolution(graph, x, w, "head.conv2", "head.bn2", strides=[2, 1], pads=[1] * 4)
    return graph.add("Reshape", graph.add("Relu", x), graph.constant(np.array([0, 320, -1]), np.int64))


def dense_layer(graph: Graph, x: str, w: Weights, name: str, dilation: int) -> str:
    """What a layer of a block adds: 32 channels, each gated by its context (`pooling`, `spreading`)."""
    y = graph.add("Relu", graph.affine(x, *norm(w, f"{name}.nonlinear1.batchnorm")))
    y = normed_convolution(graph, y, w, f"{name}.linear1", f"{name}.nonlinear2.batchnorm")
    y = graph.add("Relu", y)
    cam = f"{name}.cam_layer"
    local = graph.convolution(
        y, w[f"{cam}.linear_local.weight"], pads=[dilation, dilation], dilations=[dilation]
    )
    gate = graph.add("MatMul", y, "pooling")
    gate = graph.convolution(gate, w[f"{cam}.linear1.weight"], w[f"{cam}.linear1.bias"])
    gate = graph.convolution(graph.add("Relu", gate), w[f"{cam}.linear2.weight"], w[f"{cam}.linear2.bias"])
    return graph.add("Mul", local, graph.add("MatMul", graph.add("Sigmoid", gate), "spreading"))


def embedding(w: Weights) -> ModelProto:
    """`features` (batch, 80, time) to (batch, 512, time / 2).

    A layer's context is the mean of all frames and of the frame's own 100: `pooling` (time / 2, part)
    holds the weights of that sum, `spreading` (part, time / 2) gives each frame its part.
    """
    graph = Graph()
    x = head(graph, graph.add("Unsqueeze", "features", graph.constant(np.array([1]), np.int64)), w)
    name = "xvector.tdnn"
    x = normed_convolution(
        graph, x, w, f"{name}.linear", f"{name}.nonlinear.batchnorm", strides=[2], pads=[2, 2]
    )
    x = graph.add("Relu", x)
    for block, (layers, dilation) in enumerate(BLOCKS, 1):
        for layer in range(1, layers + 1):
            added = dense_layer(graph, x, w, f"xvector.block{block}.tdnnd{layer}", dilation)
            x = graph.add("Concat", x, added, axis=1)
        name = f"xvector.transit{block}"
        x = graph.add("Relu", graph.affine(x, *norm(w, f"{name}.nonlinear.batchnorm")))
        if block < len(BLOCKS):
            x = graph.convolution(x, w[f"{name}.linear.weight"])
        else:
            x = normed_convolution(graph, x, w, f"{name}.linear", "xvector.out_nonlinear.batchnorm")
    x = graph.add("Relu", x)
    inputs = {"features": ["batch", 80, "time"], "pooling": ["half", "part"], "spreading": ["part", "half"]}
    return graph.model(inputs, x, ["batch", 512, "half"])
