"""Which proposed nuclei are positive for a stain: its mean density in and round each nucleus, against a threshold.

Comes after `wavelet` and `separation`: stain densities and the nuclei's centres come in, numbers, classes and the
histogram for a report go out. Densities are measured tile by tile (`Ring.reach_px` px of context); thresholds belong to
the whole image. Source: METHOD.md, "Semi-automatic annotation".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NEGATIVE: Final = -1
"""The class of nuclei that are positive for no stain."""

_BINS: Final = 64
_CHUNK: Final = 4096
_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Ring:
    """Where round a nucleus a stain is measured: between two circles about its centre; a disc if the inner is 0.

    Attributes:
        inner_um: Radius of the inner circle.
        outer_um: Radius of the outer circle.
        pixel_size_um: Of the density maps.

    Raises:
        ValueError: A size is out of range.
    """

    inner_um: float
    outer_um: float
    pixel_size_um: float

    def __post_init__(self) -> None:
        if not (self.pixel_size_um > 0 and 0 <= self.inner_um < self.outer_um < math.inf):
            raise ValueError(f"the pixel size must be positive and 0 <= inner_um < outer_um; got {self}")

    @staticmethod
    def round_nucleus(diameter_um: float, width_um: float, pixel_size_um: float) -> Ring:
        """Cytoplasm or membrane: a ring of this width outside the nucleus.

        >>> Ring.round_nucleus(6.0, 2.0, 0.5)
        Ring(inner_um=3.0, outer_um=5.0, pixel_size_um=0.5)
        """
        return Ring(diameter_um / 2, diameter_um / 2 + width_um, pixel_size_um)

    @property
    def reach_px(self) -> int:
        """How many pixels beside a centre's pixel are looked at."""
        return max(1, math.floor(self.outer_um / self.pixel_size_um))

    def offsets(self) -> NDArray[np.intp]:
        """(n, 2), (row, col), of its pixels from the pixel of the nucleus's centre; that pixel itself if no other."""
        rows, cols = np.mgrid[-self.reach_px : self.reach_px + 1, -self.reach_px : self.reach_px + 1]
        away = np.hypot(rows, cols) * self.pixel_size_um
        inside = (away >= self.inner_um) & (away <= self.outer_um)
        if not inside.any():
            inside = away == 0
        return np.stack([rows[inside], cols[inside]], axis=1).astype(np.intp)


def densities_round(densities: _Floats, xy: _Floats, ring: Ring) -> NDArray[np.float32]:
    """The mean density of each stain in the ring of each nucleus; what lies outside the array does not count.

    Args:
        densities: (stain, row, col), from `separation.separate`.
        xy: (n, 2), centres (x, y) in px of the array, inside it.
        ring: Where to measure.

    Returns:
        float32 (n, stain).

    Raises:
        ValueError: A centre lies outside the array.

    >>> densities = np.zeros((1, 9, 9)); densities[0, 3:6, 3:6] = 2.0
    >>> densities_round(densities, np.array([[4.5, 4.5], [0.5, 0.5]]), Ring(0.0, 1.0, 1.0)).tolist()
    [[2.0], [0.0]]
    """
    height, width = densities.shape[1:]
    centres = np.floor(np.asarray(xy, np.float64).reshape(-1, 2)[:, ::-1]).astype(np.intp)
    if len(centres) and not ((centres >= 0) & (centres < (height, width))).all():
        raise ValueError(f"centres of nuclei lie outside the densities of {height} x {width} px")
    offsets = ring.offsets()
    means = np.empty((len(centres), len(densities)), np.float32)
    for start in range(0, len(centres), _CHUNK):
        rows, cols = (centres[start : start + _CHUNK, None] + offsets).transpose(2, 0, 1)
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        # A ring may lie outside altogether where a nucleus touches two edges.
        counts = np.maximum(inside.sum(axis=1), 1)
        rows, cols = np.where(inside, rows, 0), np.where(inside, cols, 0)
        for stain, plane in enumerate(densities):
            sums = np.where(inside, plane[rows, cols], 0).sum(axis=1, dtype=np.float64)
            means[start : start + _CHUNK, stain] = sums / counts
    return means


@dataclass(frozen=True, slots=True, eq=False)
class Threshold:
    """Where positive begins for one stain, and the histogram a person judges it by.

    Attributes:
        value: Nuclei above are positive; infinite where there was nothing to tell apart.
        is_given: Whether a person gave it; else it is Otsu's.
        separation: The part of the densities' variance that lies between negative and positive nuclei, 0 to 1. Otsu
            always finds a threshold: of a single hump it cuts 0.64 (normal) to 0.75 (uniform) of the variance, so only
            what is clearly above shows two groups.
        counts: int64 (64,), nuclei a bin.
        edges: float64 (65,), of the bins.
    """

    value: float
    is_given: bool
    separation: float
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


def threshold_of(density: _Floats, given: float | None = None) -> Threshold:
    """The threshold of one stain over all nuclei of an image: Otsu's (doi:10.1109/TSMC.1979.4310076), or the given.

    Args:
        density: (n,), from `densities_round`.
        given: A person's threshold.

    Raises:
        ValueError: A density or the given threshold is not finite.

    >>> found = threshold_of(np.array([0.1, 0.11, 0.12, 0.9, 0.92]))
    >>> 0.12 < found.value < 0.9, round(found.separation, 2)
    (True, 1.0)
    """
    values: NDArray[np.float64] = np.asarray(density, np.float64)
    if not np.isfinite(values).all() or (given is not None and not math.isfinite(given)):
        raise ValueError("densities and thresholds must be finite numbers")
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    # One value alone is a bin of some width, so that the histogram can be drawn.
    counts, edges = np.histogram(values, _BINS, (low, high if high > low else low + 1))
    value = given if given is not None else _otsu(counts, edges)
    return Threshold(value, given is not None, _separation(values, value), counts.astype(np.int64), edges)


def _otsu(counts: NDArray[Any], edges: NDArray[np.float64]) -> float:
    """The edge between bins that leaves most of the variance between the two sides; infinite without two sides."""
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    moment = np.cumsum(counts * centres)[:-1]
    total = float((counts * centres).sum())
    both = below * above
    gap = np.divide(
        (moment * (below + above) - below * total) ** 2, both, out=np.zeros_like(both), where=both > 0
    )
    if not (both > 0).any():
        return math.inf
    # Between two groups every edge is as good: take the middle one.
    best = np.flatnonzero(gap >= gap.max() * (1 - 1e-9))
    return float(edges[1:-1][best].mean())


def _separation(density: NDArray[np.float64], value: float) -> float:
    positive = density > value
    if positive.all() or not positive.any():
        return 0.0
    share = positive.mean()
    gap = density[positive].mean() - density[~positive].mean()
    return float(share * (1 - share) * gap**2 / density.var())


def classify(densities: _Floats, thresholds: Sequence[float]) -> NDArray[np.int16]:
    """The stain each nucleus is positive for: of several the one whose density exceeds its threshold most, as a ratio.

    Args:
        densities: (n, stain), of the stains that mark a class, from `densities_round`.
        thresholds: One a stain; infinite for one that marks none.

    Returns:
        int16 (n,), index of the stain, or `NEGATIVE`.

    Raises:
        ValueError: Thresholds are not as many as stains, or one is not positive.

    >>> classify(np.array([[0.2, 0.1], [0.9, 0.1], [0.9, 0.8]]), [0.5, 0.3]).tolist()
    [-1, 0, 1]
    """
    limits = np.asarray(thresholds, np.float64)
    if densities.ndim != 2 or densities.shape[1] != len(limits):
        raise ValueError(f"densities of {densities.shape} need one threshold a stain; got {len(limits)}")
    if not len(limits) or not (limits > 0).all():
        raise ValueError(f"at least one threshold is needed, and all must be positive; got {limits.tolist()}")
    ratio = densities / limits
    best = ratio.argmax(axis=1)
    return np.where(ratio.max(axis=1) > 1, best, NEGATIVE).astype(np.int16)
