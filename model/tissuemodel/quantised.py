"""A network that computes in whole numbers of 8 bits: what its convolutions see, and their weights, in 256 steps.

Comes in from `inference` with its batch norm folded, goes to `openvino_network`, which finds the steps in the graph and
computes in int8. A number r is S (q - Z), with a whole q, a step S and a zero point Z: Jacob et al. 2018, equation 1,
https://arxiv.org/abs/1712.05877. Weights have a step for each channel (Krishnamoorthi 2018,
https://arxiv.org/abs/1806.08342), what a convolution sees has one, from the range that it has in given images. The
first convolution, which sees colours, and the heads, which decide, stay as they are: they cost little.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from tissuemodel.network import MultitaskUNet

_INPUT_STEPS: Final = 255
_WEIGHT_STEPS: Final = 127

Ranges = Mapping[str, tuple[float, float]]
"""Name of a convolution to the least and the greatest number that it saw."""


@torch.inference_mode()
def input_ranges(network: MultitaskUNet, images: Tensor) -> Ranges:
    """What the network's convolutions see in some images.

    Args:
        network: In evaluation mode.
        images: (B, 3, H, W), normalised, like those that the network will be asked about.

    Raises:
        ValueError: There is no image.
    """
    if not len(images):
        raise ValueError("ranges need at least one image")
    found: dict[str, tuple[float, float]] = {}

    def look(name: str, seen: Tensor) -> None:
        low, high = torch.aminmax(seen)
        # Zero is what padding puts there, and must be exact.
        before = found.get(name, (0.0, 0.0))
        found[name] = (min(before[0], float(low)), max(before[1], float(high)))

    handles = [
        module.register_forward_pre_hook(lambda _, seen, name=name: look(name, seen[0]))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        for image in images:  # one by one: memory
            network(image[None])
    finally:
        for handle in handles:
            handle.remove()
    return found


def quantised(network: MultitaskUNet, ranges: Ranges) -> MultitaskUNet:
    """A copy of the network that rounds what its convolutions see, and their weights.

    Args:
        network: In evaluation mode, its batch norm folded.
        ranges: Of `input_ranges`.
    """
    rounded = copy.deepcopy(network)
    for name, module in list(rounded.named_modules()):
        if isinstance(module, nn.Conv2d) and module.in_channels > 3 and ".heads." not in name:
            parent, _, own = name.rpartition(".")
            setattr(rounded.get_submodule(parent), own, QuantisedConvolution(module, *ranges[name]))
    return rounded


class QuantisedConvolution(nn.Module):
    """A convolution whose input and weights are rounded to 8 bits; (B, in, H, W) -> (B, out, H, W).

    Args:
        convolution: The exact one.
        low: The least number it sees, at most 0.
        high: The greatest, at least 0.
    """

    weight_steps: Tensor
    weight_zeros: Tensor

    def __init__(self, convolution: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.convolution = convolution
        self._step = max((high - low) / _INPUT_STEPS, 1e-8)
        self._zero = round(-low / self._step)
        widest = convolution.weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=1e-8)
        self.register_buffer("weight_steps", widest / _WEIGHT_STEPS)
        self.register_buffer("weight_zeros", torch.zeros(len(widest), dtype=torch.int32))

    def forward(self, features: Tensor) -> Tensor:
        """Applies it."""
        seen = torch.fake_quantize_per_tensor_affine(features, self._step, self._zero, 0, _INPUT_STEPS)
        weight = torch.fake_quantize_per_channel_affine(
            self.convolution.weight, self.weight_steps, self.weight_zeros, 0, -_WEIGHT_STEPS, _WEIGHT_STEPS
        )
        return nn.functional.conv2d(seen, weight, self.convolution.bias, padding=self.convolution.padding)
