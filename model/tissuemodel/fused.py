"""The network for a CPU with what follows a convolution done inside it: rectifiers, sums, concatenations.

Comes in from `inference` with its batch norm folded. Each of these reads and writes whole maps for next to no
arithmetic: inside oneDNN's convolutions, as TorchInductor puts them, they cost nothing. A convolution of two maps side
by side is the sum of one of each, so that they need not be copied together. The same function but for rounding.
"""

from __future__ import annotations

import platform
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tissuemodel.blocks import DoubleConvolution, UpStep
from tissuemodel.network import MultitaskUNet

_X86: Final = ("x86_64", "amd64")


def can_fuse(device: torch.device) -> bool:
    """Whether torch has these convolutions here: on x86 processors, with oneDNN."""
    has_both = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and hasattr(
        torch.ops.mkldnn, "_convolution_pointwise_"
    )
    is_x86 = device.type == "cpu" and platform.machine().lower() in _X86
    return is_x86 and has_both and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def fused(network: MultitaskUNet) -> MultitaskUNet:
    """Replaces the parts of a folded network by fused ones, in place; for inference in float32 only."""
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, DoubleConvolution):
                setattr(parent, name, _DoubleConvolution(part))
            elif isinstance(part, UpStep):
                setattr(parent, name, _UpStep(part))
    return network


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """A 3x3 convolution; "relu" or "none" after it."""
    found: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, (1, 1), (1, 1), (1, 1), 1, activation, [], ""
    )
    return found


def _add_convolved(x: Tensor, weight: Tensor, to: Tensor) -> Tensor:
    """Adds a 3x3 convolution to a tensor in place, then the rectifier."""
    found: Tensor = torch.ops.mkldnn._convolution_pointwise_(
        to, x, weight, None, (1, 1), (1, 1), (1, 1), 1, "add", 1.0, "relu", [], ""
    )
    return found


class _DoubleConvolution(nn.Module):
    def __init__(self, part: DoubleConvolution) -> None:
        super().__init__()
        self.first, self.second = _convolutions(part)

    def forward(self, x: Tensor) -> Tensor:
        here = _convolved(x, self.first.weight, self.first.bias, "relu")
        return _convolved(here, self.second.weight, self.second.bias, "relu")


class _UpStep(nn.Module):
    """Keeps the weights of the skip's half and of the other half apart."""

    def __init__(self, part: UpStep) -> None:
        super().__init__()
        self.reduce = part.reduce
        merge, self.second = _convolutions(part.merge)
        weights = torch.tensor_split(merge.weight.detach(), 2, dim=1)
        self.skip, self.below = (
            nn.Parameter(half.contiguous(memory_format=torch.channels_last), requires_grad=False)
            for half in weights
        )
        self.bias = merge.bias

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        up = functional.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
        reduced = _convolved(up, self.reduce.weight, self.reduce.bias, "none")
        both = _add_convolved(reduced, self.below, _convolved(skip, self.skip, self.bias, "none"))
        return _convolved(both, self.second.weight, self.second.bias, "relu")


def _convolutions(part: DoubleConvolution) -> tuple[nn.Conv2d, nn.Conv2d]:
    first, second = (module for module in part if isinstance(module, nn.Conv2d))
    return first, second
