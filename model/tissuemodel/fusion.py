"""Multi-scale fusion: one map a class from the heads at all scales. Stands between `network` and `inference`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MIN_FUSED_HEAT: Final = 1e-3
"""Less heat than this counts as this in a product. A smaller one would make the root so steep there that the
rounding of float32 could be seen in the result; with four scales one that sees nothing leaves at most 0.18."""

_ROWS: Final = 8


def fuse(logits: Sequence[Tensor]) -> Tensor:
    """Multi-scale fusion (MF, section IV-H): what the product of the scales' class probabilities is decided by.

    The paper multiplies probabilities. Their logarithms are logits less a number that is the same for all classes of
    a pixel, and up-sampling is linear: so the up-sampled logits' sum has the product's order of classes, and its
    softmax is the renormalised product. No softmax is computed where only the order counts.

    On a CPU OpenCV up-samples, map by map: 5 times as fast as torch.

    Args:
        logits: float32 (B, class, H / 2^i, W / 2^i), full size first.

    Returns:
        (B, class, H, W), logits, each class's map in one piece.

    >>> fine, coarse = torch.tensor([[[[0.0, 2.0]], [[1.0, 0.0]]]]), torch.tensor([[[[0.5]], [[0.0]]]])
    >>> fuse([fine, coarse]).tolist()
    [[[[0.5, 2.5]], [[1.0, 0.0]]]]
    """
    if logits[0].device.type != "cpu":
        return _fuse_on_device(logits)
    total = planes(logits[0])
    if len(logits) > 1 and np.shares_memory(total, logits[0].numpy()):
        total = total.copy()
    up = np.empty(total.shape[2:], np.float32)
    for level in logits[1:]:
        for fine, coarse in zip(_each(total), _each(planes(level)), strict=True):
            cv2.resize(coarse, up.shape[::-1], dst=up, interpolation=cv2.INTER_LINEAR)
            cv2.add(fine, up, dst=fine)
    return torch.from_numpy(total)


def _each(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return maps.reshape(-1, *maps.shape[2:])


def _fuse_on_device(logits: Sequence[Tensor]) -> Tensor:
    total = logits[0]
    for level in logits[1:]:
        total = total + functional.interpolate(
            level, size=total.shape[-2:], mode="bilinear", align_corners=False
        )
    return total


def planes(maps: Tensor) -> NDArray[np.float32]:
    """Maps with each class in one piece; networks give the classes of a pixel side by side.

    A few rows at a time stay in the cache: 5 times as fast as torch's copy.

    Args:
        maps: float32 (B, class, H, W).

    Returns:
        The same, in C order; the same memory where it was already.
    """
    given: NDArray[np.float32] = maps.cpu().numpy()
    if given.flags.c_contiguous:
        return given
    copied = np.empty(given.shape, np.float32)
    for row in range(0, given.shape[2], _ROWS):
        copied[:, :, row : row + _ROWS] = given[:, :, row : row + _ROWS]
    return copied


def fuse_heat(heat: list[Tensor], heights: Sequence[float]) -> Tensor:
    """Multi-scale fusion of cells (METHOD's option; the paper fuses regions alone): the geometric mean of the scales.

    A mean of logarithms needs positive numbers, and the paper's linear heat maps have others: each map is clamped at
    `MIN_FUSED_HEAT` first. So the fused map is never below it, and peaks are looked for on that map.

    Args:
        heat: (B, class, H / 2^i, W / 2^i), full size first.
        heights: What each scale's heat is divided by: 1 for max pooling; see `heat_heights`.

    Returns:
        (B, class, H, W), at least `MIN_FUSED_HEAT`.

    >>> one = torch.full((1, 1, 4, 4), 0.9)
    >>> round(fuse_heat([one, 0.4 * one[..., ::2, ::2]], [1, 1])[0, 0, 0, 0].item(), 4)
    0.5692
    """
    size = heat[0].shape[-2:]
    total = torch.zeros_like(heat[0], dtype=torch.float32)
    for level, height in zip(heat, heights, strict=True):
        up = functional.interpolate(level.float() / height, size=size, mode="bilinear", align_corners=False)
        total = total + up.clamp(min=MIN_FUSED_HEAT).log()
    return (total / len(heat)).exp()


def heat_heights(scales: int, pooling: Literal["max", "sum"]) -> list[float]:
    """What turns each scale's heat back into the full size's: 4^i for sums of 4^i pixels, which makes them means.

    >>> heat_heights(3, "sum")
    [1.0, 4.0, 16.0]
    """
    return [4.0**level if pooling == "sum" else 1.0 for level in range(scales)]
