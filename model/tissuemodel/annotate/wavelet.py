"""Nuclei proposals without training: spots of a density map by multiscale products of a wavelet transform.

Comes after `separation`: the density of a nuclear stain comes in (or the sum of several, where positive nuclei are
brown and negative ones blue), centres of nuclei go out. Tiled equals untiled: give every tile `SpotOptions.halo_px` px
of context, clipped at the image's own edge, and the noise of the whole image (`noise_levels`, of a slide from a sample
of tiles), and keep the spots whose centres lie in the tile's core.
Source: METHOD.md, "Semi-automatic annotation"; Olivo-Marin 2002, doi:10.1016/S0031-3203(01)00127-3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

DIAMETERS_PX: Final = (4.0, 256.0)
"""Diameters of nuclei, in px, that can be asked for; choose the pixel size so that a nucleus has about 16 px."""

_MAD_OF_NORMAL: Final = 0.6745

_Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpotOptions:
    """What counts as a nucleus.

    Attributes:
        levels: Wavelet levels that are multiplied, in rising order, from 1 on: level j sees details of about 2^j px.
        noise_factor: k: a coefficient counts from k times the noise of its level on. Olivo-Marin's 3 is meant for
            spots that are rare; where nuclei cover much of an image, the median deviation is theirs, not the noise's,
            and 3 found a fifth of them in H&E. Then a low k and a minimum contrast do better.
        min_contrast: How much denser than its surroundings a spot must be on average, in optical density. An absolute
            measure, so that tissue without nuclei stays without.
        min_area_px: Smallest area.
        max_extent_px: Largest width and height; more is no nucleus. It bounds how far a tile must see.
    """

    levels: tuple[int, ...]
    noise_factor: float = 0.5
    min_contrast: float = 0.15
    min_area_px: float = 1.0
    max_extent_px: int = 64

    def __post_init__(self) -> None:
        if not self.levels or list(self.levels) != sorted(set(self.levels)) or self.levels[0] < 1:
            raise ValueError(f"levels must rise and begin at 1 or later; got {self.levels}")
        if self.levels[-1] > 8:
            raise ValueError(
                f"level {self.levels[-1]} sees details of 2^{self.levels[-1]} px; use larger pixels"
            )
        if not (self.noise_factor >= 0 and self.min_contrast >= 0 and self.max_extent_px >= 1):
            raise ValueError(
                f"noise_factor and min_contrast are at least 0, max_extent_px at least 1; got {self}"
            )

    @staticmethod
    def for_diameter(
        diameter_px: float, noise_factor: float = 0.5, min_contrast: float = 0.15
    ) -> SpotOptions:
        """The levels and sizes that fit nuclei of a diameter: three levels, the middle one seeing half of it.

        Args:
            diameter_px: Of a typical nucleus, in px of the density map.
            noise_factor: k.
            min_contrast: In optical density.

        Raises:
            ValueError: The diameter is not within `DIAMETERS_PX`.

        >>> SpotOptions.for_diameter(16.0).levels, SpotOptions.for_diameter(16.0).halo_px
        ((2, 3, 4), 94)
        """
        if not DIAMETERS_PX[0] <= diameter_px <= DIAMETERS_PX[1]:
            raise ValueError(
                f"nuclei of {diameter_px:g} px cannot be looked for, only of {DIAMETERS_PX[0]:g} to "
                f"{DIAMETERS_PX[1]:g} px; use another pixel size"
            )
        top = round(math.log2(diameter_px))
        return SpotOptions(
            levels=tuple(range(max(top - 2, 1), top + 1)),
            noise_factor=noise_factor,
            min_contrast=min_contrast,
            min_area_px=0.1 * math.pi / 4 * diameter_px**2,
            max_extent_px=math.ceil(4 * diameter_px),
        )

    @property
    def reach_px(self) -> int:
        """How many pixels beside a pixel its coefficients depend on."""
        return 2 * ((1 << self.levels[-1]) - 1)

    @property
    def halo_px(self) -> int:
        """How much context a tile needs: all of a spot whose centre is in the core, and the reach."""
        return self.reach_px + self.max_extent_px


@dataclass(frozen=True, slots=True, eq=False)
class Spots:
    """Spots, a struct of n-long arrays, in the order of their boxes' corners (row, col).

    Attributes:
        xy: float64 (n, 2), centres (x, y) in px of the array, weighted by the product; pixel (0, 0)'s centre at (0.5,
            0.5).
        score: float32 (n,), the contrast, in optical density.
        area_px: int64 (n,).
    """

    xy: NDArray[np.float64]
    score: NDArray[np.float32]
    area_px: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.xy)


def wavelet_planes(image: NDArray[np.floating[Any]], levels: int) -> tuple[list[_Plane], _Plane]:
    """The a-trous wavelet transform with the B3-spline [1, 4, 6, 4, 1] / 16, mirrored at the border.

    W_j = A_(j-1) - A_j, where A_0 is the image and A_j is A_(j-1) smoothed with 2^(j-1) - 1 holes between the taps. So
    the image is W_1 + ... + W_J + A_J.

    Args:
        image: (row, col), finite.
        levels: J, from 0 on.

    Returns:
        W_1 to W_J, float32 (row, col) each, and A_J.

    Raises:
        ValueError: Not two-dimensional, without a pixel, or not finite.

    >>> planes, rest = wavelet_planes(np.eye(8), 2)
    >>> bool(np.abs(planes[0] + planes[1] + rest - np.eye(8)).max() < 1e-6)
    True
    """
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"one density map (row, col) is needed; got an array of {image.shape}")
    smooth = image.astype(np.float32)
    if not np.isfinite(smooth).all():
        raise ValueError("the density map has values that are not finite")
    planes = []
    for level in range(1, levels + 1):
        smoother = _spline_along(_spline_along(smooth, 2 ** (level - 1), 0), 2 ** (level - 1), 1)
        planes.append(smooth - smoother)
        smooth = smoother
    return planes, smooth


def _spline_along(values: _Plane, step: int, axis: int) -> _Plane:
    """Smoothed along one axis with taps `step` px apart.

    Slices instead of a library's filter, whose rounding depends on where a pixel lies in the array.
    """
    length = values.shape[axis]
    padding = [(0, 0), (0, 0)]
    padding[axis] = (2 * step, 2 * step)
    padded = np.pad(values, padding, mode="reflect")

    def shifted(steps: int) -> _Plane:
        part = slice(steps * step, steps * step + length)
        return padded[:, part] if axis else padded[part]

    total = shifted(2) * np.float32(6 / 16)
    total += (shifted(1) + shifted(3)) * np.float32(4 / 16)
    total += (shifted(0) + shifted(4)) * np.float32(1 / 16)
    return total


def noise_levels(densities: Iterable[NDArray[np.floating[Any]]], options: SpotOptions) -> tuple[float, ...]:
    """The noise of each level that is multiplied: MAD(W_j) / 0.6745, the median absolute deviation of all pixels.

    Args:
        densities: (row, col) each: the one image, or some tiles of a slide that have tissue.
        options: Which levels.

    Returns:
        One number a level of `SpotOptions.levels`.

    Raises:
        ValueError: No array, or one that `wavelet_planes` refuses.

    >>> noise_levels([np.zeros((9, 9))], SpotOptions((1, 2)))
    (0.0, 0.0)
    """
    values: list[list[_Plane]] = [[] for _ in options.levels]
    for density in densities:
        planes, _ = wavelet_planes(density, options.levels[-1])
        for seen, level in zip(values, options.levels, strict=True):
            seen.append(planes[level - 1].ravel())
    if not values[0]:
        raise ValueError("the noise of no image at all cannot be measured; give at least one density map")
    joined = [np.concatenate(seen) for seen in values]
    return tuple(float(np.median(np.abs(all_ - np.median(all_)))) / _MAD_OF_NORMAL for all_ in joined)


def find_spots(
    density: NDArray[np.floating[Any]], options: SpotOptions, noise: Sequence[float] | None = None
) -> Spots:
    """Spots: connected components of the product of the levels' coefficients that stand out of the noise.

    Args:
        density: (row, col), optical density of what marks nuclei.
        options: Levels, thresholds and sizes.
        noise: From `noise_levels` of the whole image; measured on this array if left out, which is right for an image
            in one piece only.

    Raises:
        ValueError: An array that `wavelet_planes` refuses, or a noise of other length than the levels.

    >>> rows, cols = np.mgrid[:64, :64] + 0.5
    >>> disc = (np.hypot(rows - 30.25, cols - 20.5) < 8).astype(np.float32)
    >>> find_spots(disc, SpotOptions.for_diameter(16.0)).xy.round(1).tolist()
    [[20.5, 30.2]]
    """
    planes, _ = wavelet_planes(density, options.levels[-1])
    chosen = [planes[level - 1] for level in options.levels]
    if noise is None:
        noise = noise_levels([density], options)
    if len(noise) != len(chosen):
        raise ValueError(f"{len(chosen)} levels need as many noises; got {len(noise)}")
    product = np.ones(density.shape, np.float32)
    for plane, sigma in zip(chosen, noise, strict=True):
        product *= np.where(plane >= np.float32(options.noise_factor * sigma), plane, np.float32(0))
    return _components(product, sum(chosen[1:], chosen[0]), options)


def _components(product: _Plane, contrast: _Plane, options: SpotOptions) -> Spots:
    """Connected components (8 neighbours) of a positive product that have the contrast and the size."""
    mask = (product > 0).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    rows, cols = np.nonzero(labels)
    member = labels[rows, cols]
    weights = product[rows, cols].astype(np.float64)
    left, top, width, height, area = stats.astype(np.int64).T
    # Counted from the component's own corner, so that it does not matter where in which tile it lies.
    mass = np.bincount(member, weights, count)
    x = np.bincount(member, weights * (cols - left[member]), count)
    y = np.bincount(member, weights * (rows - top[member]), count)
    score = np.bincount(member, contrast[rows, cols], count) / np.maximum(area, 1)
    fits = (area >= options.min_area_px) & (np.maximum(width, height) <= options.max_extent_px)
    fits &= (score >= options.min_contrast) & (mass > 0)
    fits[0] = False
    found = np.flatnonzero(fits)
    found = found[np.lexsort((left[found], top[found]))]
    centres = [
        corner[found] + _exact(moment[found] / mass[found]) + 0.5 for corner, moment in ((left, x), (top, y))
    ]
    return Spots(np.stack(centres, axis=1), score[found].astype(np.float32), area[found])


def _exact(offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Offsets to 2^-20 px: whole px can then be added without rounding, wherever a tile begins."""
    return np.rint(offset * 2**20) / 2**20
