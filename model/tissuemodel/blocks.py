"""The network's parts: double convolution, encoder, one decoder per task. Wired together in `network`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class DoubleConvolution(nn.Sequential):
    """Twice: 3x3 convolution, batch norm, ReLU. (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


class Encoder(nn.Module):
    """The shared encoder: a double convolution at each width, halved in between by 2x2 max pooling."""

    def __init__(self, channels_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(DoubleConvolution(a, b) for a, b in pairwise((channels_in, *widths)))
        self.pool: nn.Module = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> the features at 1, 1/2, 1/4, ... of the size."""
        features = [self.stages[0](image)]
        for stage in list(self.stages)[1:]:
            features.append(stage(self.pool(features[-1])))
        return features


class UpStep(nn.Module):
    """Bilinear up-sampling, a 3x3 convolution to the skip's width, concatenation, double convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.merge = DoubleConvolution(2 * channels_out, channels_out)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """(B, in, H/2, W/2) and (B, out, H, W) -> (B, out, H, W)."""
        up = functional.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
        merged: Tensor = self.merge(torch.cat([skip, self.reduce(up)], dim=1))
        return merged


class Decoder(nn.Module):
    """One task's decoder, with a 1x1 head at each of its scales (deep supervision)."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(UpStep(below, here) for here, below in reversed(list(pairwise(widths))))
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in reversed(widths[:-1]))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's features -> (B, classes, H / 2^i, W / 2^i) for i = 0, 1, ..., full size first."""
        here, outputs = features[-1], []
        for step, head, skip in zip(self.steps, self.heads, reversed(features[:-1]), strict=True):
            here = step(here, skip)
            outputs.append(head(here))
        return outputs[::-1]
