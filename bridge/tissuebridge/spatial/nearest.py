"""Distributions of nearest distances: G and cross-G from cells, F from anywhere in the window.

G(r) = P(d <= r) for the distance d from a cell to the nearest other (or the nearest of another class); F(r) the same
from a random place, the empty space. Complete spatial randomness of density l has G = F = 1 - exp(-l pi r^2). With b
the distance to the window's border, beyond which the neighbour may hide (Baddeley & Gill 1997,
https://doi.org/10.1214/aos/1034276629):

- border (reduced sample): #{b >= r, d <= r} / #{b >= r}; never wrong on average, but not always increasing;
- Kaplan-Meier: 1 - product over distances s <= r of (1 - #{d = s <= b} / #{d >= s, b >= s}); needs fewer cells;
- Hanisch (1984, https://doi.org/10.1080/02331888408801788): cells with d <= b, each over |W| eroded by its d.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.neighbours import nearest
from tissuebridge.spatial.pairs import check_radii
from tissuebridge.spatial.ripley import Curve
from tissuebridge.spatial.window import Window

PLACES: Final = 20_000
"""Places of a lattice in the window that empty space is measured from."""


class Estimator(StrEnum):
    """How distances that the window's border hides are dealt with."""

    BORDER = "border"
    KAPLAN_MEIER = "Kaplan-Meier"
    HANISCH = "Hanisch"


def nearest_g(
    points: NDArray[np.float64],
    window: Window,
    r: NDArray[np.float64],
    others: NDArray[np.float64] | None = None,
    estimator: Estimator = Estimator.KAPLAN_MEIER,
) -> Curve:
    """G, or cross-G from points to the nearest of the others.

    Args:
        points: float64 (n, 2) in the window, um.
        window: Where.
        r: float64 (k,), increasing radii, um.
        others: float64 (m, 2); None: the points among themselves.
        estimator: For the window's border.

    Returns:
        G, a share; NaN where it is not defined: nobody to measure to, or no cell left inside.

    Raises:
        UsageError: The radii are not increasing or beyond half the window.
    """
    r = check_radii(r, window)
    targets = points if others is None else others
    expected = 1 - np.exp(-len(targets) / window.area_um2 * np.pi * r**2)
    distances = nearest(points, others)
    if not len(distances) or np.isinf(distances).all():
        return Curve("G", r, np.full(len(r), np.nan), expected)
    return Curve(
        "G", r, distribution(distances, window.border_distance(points), window, r, estimator), expected
    )


def empty_space_f(
    points: NDArray[np.float64],
    window: Window,
    r: NDArray[np.float64],
    estimator: Estimator = Estimator.KAPLAN_MEIER,
    places: int = PLACES,
) -> Curve:
    """F, from the places of a lattice in the window.

    Args:
        points: float64 (n, 2) in the window, um.
        window: Where.
        r: float64 (k,), increasing radii, um.
        estimator: Border or Kaplan-Meier.
        places: About how many places; the error of a share is below 1 / sqrt(places).

    Returns:
        F, a share; NaN without points.

    Raises:
        UsageError: The radii are not increasing or beyond half the window.
    """
    r = check_radii(r, window)
    expected = 1 - np.exp(-len(points) / window.area_um2 * np.pi * r**2)
    if not len(points):
        return Curve("F", r, np.full(len(r), np.nan), expected)
    lattice = window.lattice(float(np.sqrt(window.area_um2 / places)))
    distances = nearest(lattice.points, points)
    return Curve("F", r, distribution(distances, lattice.border_um, window, r, estimator), expected)


def distribution(
    distances: NDArray[np.float64],
    border_um: NDArray[np.float64],
    window: Window,
    r: NDArray[np.float64],
    estimator: Estimator,
) -> NDArray[np.float64]:
    """The distribution of distances, some of which the border censors.

    Args:
        distances: float64 (n,), to the nearest, um.
        border_um: float64 (n,), to the window's border, um.
        window: Where.
        r: float64 (k,), um.
        estimator: How.

    Returns:
        float64 (k,), shares; NaN where nothing is left to estimate from.
    """
    if estimator is Estimator.KAPLAN_MEIER:
        return _kaplan_meier(distances, border_um, r)
    if estimator is Estimator.HANISCH:
        return _hanisch(distances, border_um, window, r)
    inside = len(border_um) - np.searchsorted(np.sort(border_um), r, "left")
    # A cell counts from its distance to its border.
    seen = distances <= border_um
    hits = np.searchsorted(np.sort(distances[seen]), r, "right")
    gone = np.searchsorted(np.sort(border_um[seen]), r, "left")
    return np.asarray(np.divide(hits - gone, inside, out=np.full(len(r), np.nan), where=inside > 0))


def _kaplan_meier(
    distances: NDArray[np.float64], border_um: NDArray[np.float64], r: NDArray[np.float64]
) -> NDArray[np.float64]:
    last = np.sort(np.minimum(distances, border_um))
    times, deaths = np.unique(distances[distances <= border_um], return_counts=True)
    at_risk = len(last) - np.searchsorted(last, times, "left")
    survival = np.concatenate([[1.0], np.cumprod(1 - deaths / at_risk)])
    values = 1 - survival[np.searchsorted(times, r, "right")]
    # Beyond the last cell that is followed, nothing is known unless all had their neighbour by then.
    return np.where((r > last[-1]) & (values < 1), np.nan, values)


def _hanisch(
    distances: NDArray[np.float64], border_um: NDArray[np.float64], window: Window, r: NDArray[np.float64]
) -> NDArray[np.float64]:
    seen = np.sort(distances[distances <= border_um])
    if not len(seen):
        return np.full(len(r), np.nan)
    # The eroded area is smooth in the distance: exact at 64 of them, linear between.
    knots = np.linspace(0, seen[-1], 64)
    share = 1 / np.maximum(np.interp(seen, knots, [window.eroded(float(knot)).area for knot in knots]), 1e-9)
    total = np.concatenate([[0.0], np.cumsum(share)])
    return np.asarray(total[np.searchsorted(seen, r, "right")] / total[-1])
