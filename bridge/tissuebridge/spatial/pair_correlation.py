"""The pair correlation g: how much denser cells are at a distance r from a cell than by chance.

g(r) = |W| / (n (n - 1)) sum over i != j of k_h(r - d_ij) e_ij / (2 pi r), with Epanechnikov's kernel of half width h =
0.15 / sqrt(n / |W|) (Stoyan & Stoyan 1994, Fractals, Random Shapes and Point Fields). 1 for complete randomness, below
for repulsion, above for attraction. The inhomogeneous form divides by the densities at both points (Baddeley, Moller &
Waagepetersen 2000, https://doi.org/10.1111/1467-9574.00144). Below h the kernel reaches past zero, and g is too small.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import UsageError
from tissuebridge.spatial.edges import Correction, EdgeWeights
from tissuebridge.spatial.pairs import check_radii, pairs_within
from tissuebridge.spatial.ripley import Curve
from tissuebridge.spatial.window import Window

_STOYAN: Final = 0.15


def pair_correlation(
    points: NDArray[np.float64],
    window: Window,
    r: NDArray[np.float64],
    others: NDArray[np.float64] | None = None,
    *,
    correction: Correction = Correction.TRANSLATION,
    half_width_um: float | None = None,
    intensity: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    weights: EdgeWeights | None = None,
) -> Curve:
    """g, or cross-g from points to others.

    Args:
        points: float64 (n, 2) in the window, um.
        window: Where.
        r: float64 (k,), increasing radii, more than 0, um.
        others: float64 (m, 2); None: the points among themselves.
        correction: Translation or isotropic; there is no border form.
        half_width_um: Of the kernel; None: Stoyan's rule, by the others' density.
        intensity: Density at each point and at each of the others, cells per um^2, for the inhomogeneous form.
        weights: Of this window, reaching to the last radius and the half width; None makes them.

    Returns:
        g, without unit; NaN with fewer than two points (one and one between classes).

    Raises:
        UsageError: The border correction, a radius of 0, or radii not increasing or beyond half the window.
    """
    r = check_radii(r, window)
    if correction is Correction.BORDER or r[0] <= 0:
        raise UsageError(
            "g needs radii above 0, and the translation or isotropic correction; see ripley_k for others"
        )
    m = len(points) - 1 if others is None else len(others)
    if len(points) < 1 or m < 1:
        return Curve("g", r, np.full(len(r), np.nan), np.ones(len(r)))
    h = half_width_um or stoyan_half_width(len(points if others is None else others), window)
    weights = weights or EdgeWeights(window, float(r[-1]) + h)
    scale = window.area_um2**2 / (len(points) * m)
    breaks = np.unique(np.concatenate([r - h, r + h]))
    moments = np.zeros((3, len(breaks) + 1))
    for pairs in pairs_within(points, others, weights, correction):
        share = pairs.weight * scale
        if intensity is not None:
            share = pairs.weight / (intensity[0][pairs.i] * intensity[1][pairs.j])
        bin_ = np.searchsorted(breaks, pairs.d, "left")
        for power, moment in enumerate(moments):
            moment += np.bincount(bin_, share * pairs.d**power, len(breaks) + 1)
    values = _smoothed(np.cumsum(moments, axis=1), breaks, r, h) / (2 * np.pi * r * window.area_um2)
    return Curve("g", r, values, np.ones(len(r)))


def stoyan_half_width(n: int, window: Window) -> float:
    """Half the width of the kernel by Stoyan's rule, um.

    >>> import shapely
    >>> round(stoyan_half_width(100, Window.of(shapely.box(0, 0, 100, 100))), 6)
    1.5
    """
    return float(_STOYAN / np.sqrt(n / window.area_um2))


def _smoothed(
    sums: NDArray[np.float64], breaks: NDArray[np.float64], r: NDArray[np.float64], h: float
) -> NDArray[np.float64]:
    """Epanechnikov's kernel is a parabola: its sum follows from sums of 1, d and d^2 between r - h and r + h."""
    low, high = np.searchsorted(breaks, r - h), np.searchsorted(breaks, r + h)
    zero, one, two = sums[:, high] - sums[:, low]
    inside = zero * (h**2 - r**2) + 2 * r * one - two
    return np.asarray(0.75 * inside / h**3)
