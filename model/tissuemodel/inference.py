"""A trained network, made ready to be asked: pixels in, fused logits and heat maps out.

Comes in from `checkpoint`; used by the bridge's predictor and by `training` to choose thresholds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tissuemodel.config import ModelConfig
from tissuemodel.fused import FusedNetwork, can_fuse
from tissuemodel.fusion import fuse, fuse_heat, heat_heights, planes
from tissuemodel.labels import ChannelStatistics
from tissuemodel.network import Maps, MultitaskUNet
from tissuemodel.openvino_network import OpenVinoNetwork
from tissuemodel.quantised import input_ranges, quantised


def best_device() -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_bfloat16() -> bool:
    """Whether the CPU computes in bfloat16 itself; else it is imitated, ten times slower than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_int8() -> bool:
    """Whether the CPU multiplies whole numbers of 8 bits faster than floating point numbers."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8", "dot_prod", "i8mm"))


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Zero mean and unit variance by the training set's statistics, or each image's own.

    Args:
        pixels: (B, 3, H, W), 0..255.
        mean: (B, 3) or (1, 3).
        std: Likewise.
    """
    return (pixels - mean[..., None, None]).div_(std[..., None, None])


class Inference:
    """The network with batch norm folded, channels last, on the best device. Not for training.

    Args:
        network: In evaluation mode; is copied.
        config: Its configuration.
        device: Where to compute; None for the best there is.
        precision: "fp32"; "bf16": convolutions in bfloat16, 2.3 times as fast on a CPU that has it; or "int8", by
            OpenVINO alone, once `quantised` was asked.
        engine: "torch", or "openvino": the same on the CPU, compiled (`openvino_network`).

    Raises:
        ImportError: The engine is not installed.
        ValueError: The engine does not compute in this precision.
    """

    def __init__(
        self,
        network: MultitaskUNet,
        config: ModelConfig,
        device: torch.device | None = None,
        precision: str = "fp32",
        engine: str = "torch",
    ) -> None:
        self.config = config
        if precision == "int8" and engine != "openvino":
            raise ValueError("only OpenVINO computes in int8")
        folded = _fold_batch_norm(copy.deepcopy(network).eval())
        self._network: Callable[[Tensor], Maps]
        self._exact = folded if precision == "int8" else None
        if engine == "openvino":
            self.device, self._autocast, self._layout = torch.device("cpu"), False, torch.contiguous_format
            self._network = (
                _refuse if precision == "int8" else OpenVinoNetwork(folded.to(self.device), precision)
            )
        else:
            self.device, self._layout = device or best_device(), torch.channels_last
            self._autocast = precision == "bf16"
            laid_out = folded.to(self.device).to(memory_format=self._layout)
            is_fused = precision == "fp32" and can_fuse(self.device)
            self._network = FusedNetwork(laid_out) if is_fused else laid_out

    def for_image(self, statistics: ChannelStatistics | None) -> Inference:
        """The same network, asked about one image; see `ModelConfig.for_image`."""
        bound = copy.copy(self)
        bound.config = self.config.for_image(statistics)
        return bound

    @torch.inference_mode()
    def quantised(self, pixels: NDArray[np.uint8]) -> Inference:
        """The network in whole numbers of 8 bits, their steps chosen by what it sees in these pixels (`quantised`).

        Args:
            pixels: uint8 (B, H, W, 3), sides multiples of the stride; like those that it will be asked about.

        Raises:
            ValueError: The precision is another, or there are no pixels.
        """
        if self._exact is None:
            raise ValueError("only for a network in int8")
        rounded = quantised(self._exact, input_ranges(self._exact, self._normalised(pixels)))
        bound = copy.copy(self)
        bound._network = OpenVinoNetwork(rounded, "int8")
        return bound

    def _normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
        mean, std = (torch.tensor([values], device=self.device) for values in self.config.statistics)
        return normalise(batch.permute(0, 3, 1, 2).float(), mean, std)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Applies the network.

        Args:
            pixels: uint8 (B, H, W, 3), sides multiples of the stride.

        Returns:
            Logits of the regions (B, class, H, W) and heat maps (B, class, H, W), each fused over the scales where the
            configuration says so; heat that is not fused is unclamped. A task without classes gives an axis of
            length 0.

        Raises:
            ValueError: Each image has its own statistics, and `for_image` was not asked; or `quantised` was not.
        """
        normalised = self._normalised(pixels)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            maps = self._network(normalised.contiguous(memory_format=self._layout))
        empty = normalised.new_zeros((len(normalised), 0, *normalised.shape[-2:]))
        scales = None if self.config.inference.fusion else 1
        # What comes after the network is few numbers a pixel, and decides: in full precision.
        regions = fuse([level.float() for level in maps.regions[:scales]]) if maps.regions else empty
        heat = self._heat([level.float() for level in maps.heat]) if maps.heat else empty
        return planes(regions), planes(heat)

    def _heat(self, levels: list[Tensor]) -> Tensor:
        if not self.config.inference.cell_fusion:
            return levels[0]
        return fuse_heat(levels, heat_heights(len(levels), self.config.targets.heat_pooling))


def _refuse(image: Tensor) -> Maps:
    raise ValueError("a network in int8 has to see pixels first: ask `quantised`")


def _fold_batch_norm(network: MultitaskUNet) -> MultitaskUNet:
    """Merges each batch norm into the convolution before it: the same function, 15 % less time."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network
