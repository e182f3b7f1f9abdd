"""How much of each stain is in each pixel, and how well that explains the image.

Comes after `stains`: pixels and stain vectors come in, one density map a stain goes out. Every pixel is solved by
itself and in the same arithmetic wherever it lies, so tiles of any size give exactly what the whole image gives.
Source: METHOD.md, "Stain separation"; Vahadane et al. 2016, doi:10.1109/TMI.2016.2529665.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuemodel.annotate.density import check_rgb, density_table, tissue_densities
from tissuemodel.annotate.stains import Stains

SPARSITY: Final = 0.01
"""Default lambda for `separate`. Less than for learning: the vectors are fixed, and lambda is taken off them."""

_BLOCK: Final = 1 << 14
"""Pixels solved at a time: what is computed of them stays in the cache."""

_Plane = NDArray[np.float32]


def separate(pixels: NDArray[np.uint8], stains: Stains, sparsity: float = SPARSITY) -> NDArray[np.float32]:
    """The density of each stain, by non-negative lasso: H that minimises 1/2 ||V - W H||^2 + lambda ||H||_1, H >= 0.

    Args:
        pixels: uint8 (..., 3), of any size.
        stains: The stain vectors W, fixed.
        sparsity: Lambda, at least 0. Of four stains, which three channels cannot tell apart, it chooses the mixture
            of the least total density.

    Returns:
        float32 (stain, ...), natural optical density (QuPath's is this divided by log(10)).

    Raises:
        ValueError: No RGB pixels of 8 bits, or a negative sparsity.

    >>> from tissuemodel.annotate.stains import given_stains
    >>> two = given_stains([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]])
    >>> separate(np.array([[110, 102, 176]], np.uint8), two).round(2)
    array([[1.28], [0.  ]], dtype=float32)
    """
    check_rgb(pixels)
    _check_sparsity(sparsity)
    flat = pixels.reshape(-1, 3)
    table = density_table(stains.white)
    solver = _Solver(stains.vectors, sparsity)
    densities = np.empty((len(stains), len(flat)), np.float32)
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK]
        channels = [table[channel][block[:, channel]] for channel in range(3)]
        densities[:, start : start + _BLOCK] = solver.solve(channels)
    return densities.reshape(len(stains), *pixels.shape[:-1])


class _Solver:
    """Tries every set of stains that may be present: at most 15, each a small linear system for all pixels at once.

    With the set S of stains present the optimum is h = G^-1 b, where G = W_S^T W_S and b = W_S^T v - lambda, and lies
    b . h / 2 below the objective of no stain at all. The best set whose h is nowhere negative is the lasso's solution.
    Never more than three stains are needed: of dependent ones one can be replaced by the others at no greater cost.
    """

    def __init__(self, vectors: NDArray[np.float64], sparsity: float) -> None:
        self._vectors = vectors.astype(np.float32)
        self._sparsity = np.float32(sparsity)
        self._systems = []
        for size in range(1, min(len(vectors), 3) + 1):
            for present in combinations(range(len(vectors)), size):
                gram = vectors[list(present)] @ vectors[list(present)].T
                # Vectors that are nearly in one plane give no system of their own: smaller sets do.
                if np.linalg.cond(gram) < 1e5:
                    self._systems.append((present, np.linalg.inv(gram).astype(np.float32)))

    def solve(self, channels: list[_Plane]) -> NDArray[np.float32]:
        """Densities (stain, n) of n pixels whose optical densities come channel by channel."""
        # Written out instead of a matrix product, whose rounding would depend on the number of pixels.
        seen = [_weighted(weights, channels) - self._sparsity for weights in self._vectors]
        best = np.zeros_like(channels[0])
        found = np.zeros((len(seen), len(best)), np.float32)
        for present, inverse in self._systems:
            parts = [seen[stain] for stain in present]
            amounts = [_weighted(row, parts) for row in inverse]
            gain = _weighted(
                np.ones(len(parts), np.float32), [a * b for a, b in zip(amounts, parts, strict=True)]
            )
            better = gain > best
            for amount in amounts:
                better &= amount >= 0
            np.copyto(best, gain, where=better)
            for stain in range(len(seen)):
                value = amounts[present.index(stain)] if stain in present else np.float32(0)
                np.copyto(found[stain], value, where=better)
        return found


def _weighted(weights: NDArray[np.float32], planes: list[_Plane]) -> _Plane:
    """The weighted sum of some planes."""
    total: _Plane = planes[0] * weights[0]
    for weight, plane in zip(weights[1:], planes[1:], strict=True):
        total += plane * weight
    return total


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """How well some stains explain the tissue of an image.

    How to read it: `relative` is the part of the optical density that no mixture of these stains has. Below about 0.1
    the stains explain the colours but for noise; above about 0.2 some pixels have a colour that no mixture gives: a
    stain is missing, or the vectors are of another laboratory. A small error does **not** show that the split is
    right: three independent vectors can explain every colour between them and four are under-determined, so compare
    sets of equally many stains.

    Attributes:
        relative: sqrt(sum (V - W H)^2 / sum V^2) over the tissue pixels, 0 to 1; 0 without tissue.
        rms: Root mean square of V - W H, in natural optical density.
        by_channel: The same of red, green and blue alone: which light is not explained.
        pixels: Tissue pixels it was measured on.
    """

    relative: float
    rms: float
    by_channel: tuple[float, float, float]
    pixels: int


def reconstruction(pixels: NDArray[np.uint8], stains: Stains, sparsity: float = SPARSITY) -> Reconstruction:
    """How well stains explain the tissue among some pixels.

    Args:
        pixels: uint8 (..., 3); glass and ink are left out.
        stains: The stain vectors.
        sparsity: Lambda, as for `separate`.

    Raises:
        ValueError: No RGB pixels of 8 bits, or a negative sparsity.

    >>> from tissuemodel.annotate.stains import given_stains
    >>> blue = given_stains([[0.65, 0.70, 0.29]])
    >>> reconstruction(np.array([[110, 102, 176]], np.uint8), blue).relative < 0.02
    True
    """
    _check_sparsity(sparsity)
    density = tissue_densities(pixels, stains.white)
    if not len(density):
        return Reconstruction(0.0, 0.0, (0.0, 0.0, 0.0), 0)
    found = _Solver(stains.vectors, sparsity).solve(list(np.ascontiguousarray(density.T)))
    square = (density - found.T @ stains.vectors) ** 2
    red, green, blue = np.sqrt(square.mean(axis=0)).tolist()
    relative = math.sqrt(float(square.sum()) / float((density.astype(np.float64) ** 2).sum()))
    return Reconstruction(relative, math.sqrt(float(square.mean())), (red, green, blue), len(density))


def _check_sparsity(sparsity: float) -> None:
    if not (math.isfinite(sparsity) and sparsity >= 0):
        raise ValueError(f"the sparsity is a finite number from 0 on; got {sparsity}")
