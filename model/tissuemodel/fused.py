"""The network for a CPU: what follows a convolution is done inside it, and all of that on a few rows at a time.

Comes in from `inference` with its batch norm folded. Rectifiers, sums and concatenations read and write whole maps for
next to no arithmetic: inside oneDNN's convolutions, as TorchInductor puts them, they cost nothing. A convolution of two
maps side by side is the sum of one of each, so that they need not be copied together. Between two convolutions stand
only as many rows as the cache holds (`_bands`), and of the large maps the skips alone are ever whole: half of the
memory, which a system is slow to make ready. The same function but for rounding.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tissuemodel.blocks import Decoder, DoubleConvolution, Encoder, UpStep
from tissuemodel.network import Maps, MultitaskUNet

_X86: Final = ("x86_64", "amd64")

_VALID_IN_ROWS: Final = ((0, 1), (1, 1), (1, 1), 1)
"""Padding, stride, dilation and groups of each convolution: zeros beyond the columns; rows bring their neighbours."""

_BAND_BYTES: Final = 2**24
"""Of the largest map between two convolutions: some such pieces stay in the cache, and the system's allocator hands
them out again without asking the system."""

_LEAST_ROWS: Final = 16
"""Fewer rows would spend too much on those that two bands both compute."""


def can_fuse(device: torch.device) -> bool:
    """Whether torch has these convolutions here: on x86 processors, with oneDNN."""
    has_both = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and hasattr(
        torch.ops.mkldnn, "_convolution_pointwise_"
    )
    is_x86 = device.type == "cpu" and platform.machine().lower() in _X86
    return is_x86 and has_both and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class FusedNetwork:
    """A network in float32 whose operations are fused.

    Args:
        network: In evaluation mode, its batch norm folded, channels last, on a CPU that `can_fuse`.
    """

    def __init__(self, network: MultitaskUNet) -> None:
        self._whole = network
        self._encoder = _Encoder(network.encoder)
        self._regions = None if network.regions is None else _Decoder(network.regions)
        self._cells = None if network.cells is None else _Decoder(network.cells)

    def __call__(self, image: Tensor) -> Maps:
        """Applies the network; see `MultitaskUNet.forward`."""
        self._whole.check_sides(image)
        features = self._encoder(image)
        regions = [] if self._regions is None else self._regions(features)
        heat = [] if self._cells is None else self._cells(features)
        return Maps(regions, self._whole.activated(heat))


class _Encoder:
    def __init__(self, part: Encoder) -> None:
        self._stages = [
            _DoubleConvolution(stage) for stage in part.stages if isinstance(stage, DoubleConvolution)
        ]
        self._pool = part.pool

    def __call__(self, image: Tensor) -> list[Tensor]:
        features, here = list[Tensor](), image
        for stage in self._stages:
            is_last = len(features) + 1 == len(self._stages)
            height, width = here.shape[2:]
            found = _empty(here, stage.channels, height, width)
            halved = _empty(here, stage.channels, height // 2, width // 2)
            for item, top, bottom in _bands(found, stage.channels):
                rows = stage(_Rows.of(here, item), top, bottom)
                found[item, :, top:bottom] = rows[0]
                if not is_last:
                    halved[item, :, top // 2 : bottom // 2] = self._pool(rows)[0]
            features.append(found)
            here = halved
        return features


class _DoubleConvolution:
    def __init__(self, part: DoubleConvolution) -> None:
        self._first, self._second = _convolutions(part)
        self.channels = len(self._second.weight)

    def __call__(self, x: _Rows, top: int, bottom: int) -> Tensor:
        """Rows from `top` to `bottom` of what comes out; (1, C, rows, W)."""
        between = _convolved(x, self._first, top - 1, bottom + 1, "relu")
        return _convolved(between, self._second, top, bottom, "relu").values


class _Decoder:
    def __init__(self, part: Decoder) -> None:
        self._steps = [_UpStep(step) for step in part.steps if isinstance(step, UpStep)]
        self._heads = [head for head in part.heads if isinstance(head, nn.Conv2d)]

    def __call__(self, features: Sequence[Tensor]) -> list[Tensor]:
        below, outputs = features[-1], list[Tensor]()
        for step, head, skip in zip(self._steps, self._heads, reversed(features[:-1]), strict=True):
            is_last = len(outputs) + 1 == len(self._steps)
            height, width = skip.shape[2:]
            output = skip.new_empty((len(skip), head.out_channels, height, width))
            here = None if is_last else _empty(skip, skip.shape[1], height, width)
            for item, top, bottom in _bands(skip, below.shape[1]):
                rows = step(_Rows.of(below, item), _Rows.of(skip, item), top, bottom)
                output[item, :, top:bottom] = head(rows)[0]
                if here is not None:
                    here[item, :, top:bottom] = rows[0]
            outputs.append(output)
            below = below if here is None else here
        return outputs[::-1]


class _UpStep:
    """Keeps the weights of the skip's half and of the other half apart."""

    def __init__(self, part: UpStep) -> None:
        self._reduce = _Kernel.of(part.reduce)
        merge, self._second = _convolutions(part.merge)
        self._skip, self._below = merge.halves()

    def __call__(self, below: _Rows, skip: _Rows, top: int, bottom: int) -> Tensor:
        """Rows from `top` to `bottom`, both even, of what comes out; (1, C, rows, W)."""
        # Of these rows, up-sampled, the outermost is wrong, but where the map ends; it is not asked for.
        coarse = below.part(top // 2 - 2, bottom // 2 + 2)
        up = functional.interpolate(coarse.values, scale_factor=2, mode="bilinear", align_corners=False)
        fine = _Rows(up, 2 * coarse.top, skip.height)
        reduced = _convolved(fine, self._reduce, top - 2, bottom + 2, "none")
        merged = _convolved(skip, self._skip, top - 1, bottom + 1, "none")
        _add_convolved(reduced, self._below, merged)
        return _convolved(merged, self._second, top, bottom, "relu").values


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows of one image's map.

    Attributes:
        values: (1, C, rows, W).
        top: Which row of the map is the first.
        height: How many the map has.
    """

    values: Tensor
    top: int
    height: int

    @classmethod
    def of(cls, maps: Tensor, item: int) -> _Rows:
        return cls(maps[item : item + 1], 0, maps.shape[2])

    @property
    def bottom(self) -> int:
        return self.top + self.values.shape[2]

    def part(self, top: int, bottom: int) -> _Rows:
        """Those rows from `top` to `bottom` that the map has."""
        top, bottom = max(top, 0), min(bottom, self.height)
        return _Rows(self.values[:, :, top - self.top : bottom - self.top], top, self.height)

    def between(self, top: int, bottom: int) -> Tensor:
        """The rows from `top` to `bottom`, zeros where the map has none."""
        inside = self.part(top, bottom)
        above, under = inside.top - top, bottom - inside.bottom
        return functional.pad(inside.values, (0, 0, above, under)) if above or under else inside.values


def _convolved(x: _Rows, by: _Kernel, top: int, bottom: int, activation: str) -> _Rows:
    """Those rows from `top` to `bottom` that the map has of its 3x3 convolution; "relu" or "none" after it."""
    top, bottom = max(top, 0), min(bottom, x.height)
    seen = x.between(top - 1, bottom + 1)
    found = torch.ops.mkldnn._convolution_pointwise(
        seen, by.weight, by.bias, *_VALID_IN_ROWS, activation, [], ""
    )
    return _Rows(found, top, x.height)


def _add_convolved(x: _Rows, by: _Kernel, to: _Rows) -> None:
    """Adds a 3x3 convolution of a map to rows of another in place, then the rectifier."""
    seen = x.between(to.top - 1, to.bottom + 1)
    torch.ops.mkldnn._convolution_pointwise_(
        to.values, seen, by.weight, by.bias, *_VALID_IN_ROWS, "add", 1.0, "relu", [], ""
    )


@dataclass(frozen=True, slots=True)
class _Kernel:
    """What a 3x3 convolution multiplies by.

    Attributes:
        weight: (out, in, 3, 3), channels last.
        bias: (out,), or none.
    """

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> _Kernel:
        return cls(convolution.weight, convolution.bias)

    def halves(self) -> tuple[_Kernel, _Kernel]:
        """That of two maps side by side as one of each, whose sum it is."""
        first, second = torch.tensor_split(self.weight.detach(), 2, dim=1)
        return (
            _Kernel(first.contiguous(memory_format=torch.channels_last), self.bias),
            _Kernel(second.contiguous(memory_format=torch.channels_last), None),
        )


def _convolutions(part: DoubleConvolution) -> tuple[_Kernel, _Kernel]:
    first, second = (_Kernel.of(module) for module in part if isinstance(module, nn.Conv2d))
    return first, second


def _empty(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Maps of so many channels, channels last."""
    return like.new_empty((len(like), height, width, channels)).permute(0, 3, 1, 2)


def _bands(maps: Tensor, channels: int) -> Iterator[tuple[int, int, int]]:
    """(image, top, bottom) of bands of rows of maps (B, C, H, W).

    Args:
        maps: Of even height, or not halved and not doubled.
        channels: Of the largest map that is made in between, at this size.
    """
    rows = max(_LEAST_ROWS, _BAND_BYTES // (4 * channels * maps.shape[3]) // 2 * 2)
    for item in range(len(maps)):
        for top in range(0, maps.shape[2], rows):
            yield item, top, min(top + rows, maps.shape[2])
