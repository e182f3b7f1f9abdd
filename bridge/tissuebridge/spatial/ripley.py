"""Ripley's K and L, of one class and between two, also where the density varies.

K(r) = |W| / (n (n - 1)) sum over i != j of 1{d_ij <= r} e_ij; between classes n (n - 1) becomes n m. Complete spatial
randomness has K = pi r^2 and L = sqrt(K / pi) = r (Ripley 1977,
https://doi.org/10.1111/j.2517-6161.1977.tb01615.x; Besag 1977 for L). Inhomogeneous:
K(r) = 1 / |W| sum 1{d_ij <= r} e_ij / (l(x_i) l(y_j)) (Baddeley, Moller & Waagepetersen 2000,
https://doi.org/10.1111/1467-9574.00144). The border method takes the mean over those x_i that are at least r inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.edges import Correction, EdgeWeights
from tissuebridge.spatial.pairs import check_radii, pairs_within
from tissuebridge.spatial.window import Window

DEFAULT: Final = Correction.TRANSLATION


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A function of distance.

    Attributes:
        name: "K", "L", "g", ...
        r: float64 (k,), um.
        values: float64 (k,); NaN where it is not defined: too few cells, or none far enough inside.
        random: float64 (k,), what complete randomness has.
    """

    name: str
    r: NDArray[np.float64]
    values: NDArray[np.float64]
    random: NDArray[np.float64]


def ripley_k(
    points: NDArray[np.float64],
    window: Window,
    r: NDArray[np.float64],
    others: NDArray[np.float64] | None = None,
    *,
    correction: Correction = DEFAULT,
    intensity: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    weights: EdgeWeights | None = None,
) -> Curve:
    """K, or cross-K from points to others.

    Args:
        points: float64 (n, 2) in the window, um.
        window: Where.
        r: float64 (k,), increasing radii, um.
        others: float64 (m, 2); None: the points among themselves.
        correction: For the window's edge.
        intensity: Density at each point and at each of the others, cells per um^2, for the inhomogeneous form.
        weights: Of this window and reach, where they are used again (simulations); None makes them.

    Returns:
        K in um^2; NaN with fewer than two points (one and one between classes).

    Raises:
        UsageError: The radii are not increasing or beyond half the window.

    >>> import shapely
    >>> window = Window.of(shapely.box(0, 0, 10, 10))
    >>> ripley_k(np.array([[4.0, 5.0], [6.0, 5.0]]), window, np.array([1.0, 2.0])).values.tolist()
    [0.0, 125.0]
    """
    r = check_radii(r, window)
    m = len(points) - 1 if others is None else len(others)
    if len(points) < 1 or m < 1:
        return Curve("K", r, np.full(len(r), np.nan), np.pi * r**2)
    weights = weights or EdgeWeights(window, float(r[-1]))
    if intensity is None:
        # So chosen that the sums below are those of the formulas: the product of both densities is n m / |W|^2.
        first = np.full(len(points), len(points) / window.area_um2)
        second = np.full(len(points) if others is None else len(others), m / window.area_um2)
        if correction is Correction.BORDER and others is None:
            second[:] = len(points) / window.area_um2
    else:
        first, second = intensity
    if correction is Correction.BORDER:
        values = _border(points, others, weights, r, first, second)
    else:
        sums = np.zeros(len(r) + 1)
        for pairs in pairs_within(points, others, weights, correction):
            share = pairs.weight / (first[pairs.i] * second[pairs.j])
            sums += np.bincount(np.searchsorted(r, pairs.d, "left"), share, len(r) + 1)
        values = np.cumsum(sums)[:-1] / window.area_um2
    return Curve("K", r, values, np.pi * r**2)


def _border(
    points: NDArray[np.float64],
    others: NDArray[np.float64] | None,
    weights: EdgeWeights,
    r: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The mean over points at least r inside; each counts for one over its density."""
    # The first radius at which a point is too near the border to count.
    ends = np.searchsorted(r, weights.window.border_distance(points), "right")
    sums = np.zeros(len(r) + 1)
    for pairs in pairs_within(points, others, weights, Correction.BORDER):
        starts, stops = np.searchsorted(r, pairs.d, "left"), ends[pairs.i]
        share = np.where(starts < stops, 1 / (first[pairs.i] * second[pairs.j]), 0)
        sums += np.bincount(starts, share, len(r) + 1) - np.bincount(stops, share, len(r) + 1)
    counted = np.cumsum(np.bincount(ends, 1 / first, len(r) + 1)[::-1])[::-1][1:]
    return np.asarray(
        np.divide(np.cumsum(sums)[:-1], counted, out=np.full(len(r), np.nan), where=counted > 0)
    )


def as_l(curve: Curve) -> Curve:
    """L = sqrt(K / pi), um; r for complete randomness.

    >>> as_l(Curve("K", np.array([1.0]), np.array([np.pi]), np.array([np.pi]))).values.tolist()
    [1.0]
    """
    return Curve("L", curve.r, np.sqrt(np.maximum(curve.values, 0) / np.pi), curve.r)
