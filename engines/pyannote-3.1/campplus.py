"""CAM++, a network that turns speech into a vector of 192 numbers by which voices are told apart.

The layers are named as in the published checkpoint of 3D-Speaker. For the architecture see Wang et al.,
"CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking" (2023).
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from pyannote.audio import Model
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance.kaldi import fbank

MELS, WIDTH, GROWTH, DIMENSION = 80, 128, 32, 192
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each dense block."""
CONTEXT = 100
"""Frames that share a local context."""
SHORTEST = 10
"""Frames of 10 ms from which on a voice is described."""


def chain(**layers: nn.Module) -> nn.Sequential:
    """Layers one after the other, by name."""
    return nn.Sequential(OrderedDict(layers))


def norm(channels: int) -> nn.Sequential:
    return chain(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU())


def narrow(channels: int, into: int) -> nn.Conv1d:
    return nn.Conv1d(channels, into, 1, bias=False)


class Residual(nn.Module):
    """Two convolutions over time and frequency, of which `stride` thins out the latter."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(GROWTH, GROWTH, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(GROWTH)
        self.conv2 = nn.Conv2d(GROWTH, GROWTH, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(GROWTH)
        thin = (nn.Conv2d(GROWTH, GROWTH, 1, (stride, 1), bias=False), nn.BatchNorm2d(GROWTH))
        self.shortcut = nn.Sequential(*thin if stride > 1 else ())

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))


class Head(nn.Module):
    """Features [batch, mels, time] to [batch, 320, time]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, GROWTH, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(GROWTH)
        self.layer1 = nn.Sequential(Residual(2), Residual(1))
        self.layer2 = nn.Sequential(Residual(2), Residual(1))
        self.conv2 = nn.Conv2d(GROWTH, GROWTH, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(GROWTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(x[:, None])))))
        return functional.relu(self.bn2(self.conv2(x))).flatten(1, 2)


class Masked(nn.Module):
    """A convolution whose channels are weighed by what is heard around and in all."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(WIDTH, GROWTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(WIDTH, WIDTH // 2, 1)
        self.linear2 = nn.Conv1d(WIDTH // 2, GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        around = functional.avg_pool1d(x, CONTEXT, CONTEXT, ceil_mode=True)
        around = around.repeat_interleave(CONTEXT, -1)[..., : x.shape[-1]]
        context = functional.relu(self.linear1(around + x.mean(-1, keepdim=True)))
        return self.linear_local(x) * torch.sigmoid(self.linear2(context))


class Dense(nn.Module):
    """Adds GROWTH channels to those it is given."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1, self.linear1 = norm(channels), narrow(channels, WIDTH)
        self.nonlinear2, self.cam_layer = norm(WIDTH), Masked(dilation)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))), 1)


class Statistics(nn.Module):
    """Mean and deviation over time."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.mean(-1), x.std(-1)), -1)[..., None]


def xvector() -> nn.Sequential:
    """[batch, 320, time] to [batch, 192, 1]."""
    first = nn.Conv1d(GROWTH * MELS // 8, WIDTH, 5, 2, 2, bias=False)
    layers: dict[str, nn.Module] = {"tdnn": chain(linear=first, nonlinear=norm(WIDTH))}
    channels = WIDTH
    for number, (depth, dilation) in enumerate(BLOCKS, 1):
        dense = {f"tdnnd{n + 1}": Dense(channels + n * GROWTH, dilation) for n in range(depth)}
        channels += depth * GROWTH
        layers[f"block{number}"] = chain(**dense)
        layers[f"transit{number}"] = chain(nonlinear=norm(channels), linear=narrow(channels, channels // 2))
        channels //= 2
    unscaled = chain(batchnorm=nn.BatchNorm1d(DIMENSION, affine=False))
    last = chain(linear=narrow(2 * channels, DIMENSION), nonlinear=unscaled)
    return chain(**layers, out_nonlinear=norm(channels), stats=Statistics(), dense=last)


class CampPlus(Model):
    """The network as a model of voices for pyannote.audio; frames without weight are left out."""

    dimension = DIMENSION

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        self.head, self.xvector = Head(), xvector()
        self.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Vectors [batch, 192] of waveforms [batch, 1, samples]; not numbers where too little is left."""
        features = torch.stack([fbank(waveform * 32768, num_mel_bins=MELS) for waveform in waveforms])
        if weights is None:
            weights = features.new_ones(features.shape[:2])
        kept = functional.interpolate(weights[:, None], size=features.shape[1], mode="nearest")[:, 0] > 0.5
        return torch.stack([self.vector(f[k]) for f, k in zip(features, kept, strict=True)])

    def vector(self, features: Tensor) -> Tensor:
        """One vector of features [frames, mels]."""
        if len(features) < SHORTEST:
            return features.new_full((DIMENSION,), torch.nan)
        centred = (features - features.mean(0)).T[None]
        return self.xvector(self.head(centred))[0, :, 0]
