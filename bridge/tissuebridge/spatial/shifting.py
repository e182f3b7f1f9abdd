"""Coupling when cells cluster or exclude each other: the class is moved as a whole against the structure.

A stratum is a raster of distances to the structure. For a move v, the cells that stay in their stratum are counted in
bands by the distances at their new places, and band k has the area share p_k(v) of the part of the stratum that v maps
into it. T(v) = max over k of sum_s (N_sk - n_s p_sk) / sqrt(sum_s n_s p_sk (1 - p_sk)), with n_s the cells that stayed:
dividing by the standard deviation keeps moves that lose cells comparable (Mrkvicka et al. 2021,
https://doi.org/10.1016/j.spasta.2020.100430). p is the rank of T(0). The class's own clustering is in every T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.bands import Bands
from tissuebridge.spatial.multiple import PValue, monte_carlo_p
from tissuebridge.spatial.nulls import SIMULATIONS, RandomShift, random_vector
from tissuebridge.spatial.window import Window

Distance = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Points float64 (n, 2), um, to signed distances to the structure, um."""

_MAX_PIXELS: Final = 300_000


@dataclass(frozen=True, slots=True, eq=False)
class _Raster:
    """Bands over the window: stratum and band of each pixel, -1 outside."""

    origin: NDArray[np.float64]
    side_um: float
    stratum: NDArray[np.intp]
    band: NDArray[np.intp]


def shift_test(
    strata: Sequence[Window],
    distance: Distance,
    edges: NDArray[np.float64],
    points: NDArray[np.float64],
    radius_um: float,
    *,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> PValue:
    """The maximum-over-bands test of coupling under a random shift.

    Args:
        strata: Region classes, without overlap.
        distance: Signed distances of points to the structure.
        edges: Of the bands, um.
        points: float64 (n, 2), the class's cells, um; those in no stratum are left out.
        radius_um: The longest move: longer than the bands reach, shorter than the strata are wide.
        simulations: Moves.
        seed: The same seed gives the same p.

    Returns:
        p; None with fewer than two cells.
    """
    how = f"{simulations} simulations"
    raster = _raster(strata, distance, edges, float(np.diff(edges).min()) / 2)
    cell_stratum, _ = _at(raster, points)
    points, cell_stratum = points[cell_stratum >= 0], cell_stratum[cell_stratum >= 0]
    if len(points) < 2:
        return PValue(None, RandomShift.name, how)
    random = np.random.default_rng(seed)
    shape = (len(strata), len(edges) + 1)

    def statistic(steps: NDArray[np.intp]) -> float:
        now, band = _at(raster, points + steps * raster.side_um)
        stays = now == cell_stratum
        counts = np.zeros(shape)
        np.add.at(counts, (cell_stratum[stays], band[stays] + 1), 1)
        return _largest_z(counts, _areas(raster, steps, shape))

    moves = [
        np.rint(random_vector(radius_um, random) / raster.side_um).astype(np.intp) for _ in range(simulations)
    ]
    seen = statistic(np.zeros(2, np.intp))
    return PValue(monte_carlo_p(seen, np.array([statistic(move) for move in moves])), RandomShift.name, how)


def _largest_z(counts: NDArray[np.float64], areas: NDArray[np.float64]) -> float:
    """The largest z over bands; the first and the last column are what lies in no band."""
    cells = counts.sum(axis=1, keepdims=True)
    shares = areas / np.maximum(areas.sum(axis=1, keepdims=True), 1)
    expected, variance = (cells * shares).sum(axis=0), (cells * shares * (1 - shares)).sum(axis=0)
    z = (counts.sum(axis=0) - expected) / np.sqrt(np.maximum(variance, 1e-9))
    return float(np.where(variance > 1e-9, z, 0)[1:-1].max())


def _raster(
    strata: Sequence[Window], distance: Distance, edges: NDArray[np.float64], side_um: float
) -> _Raster:
    bounds = np.array([stratum.area.bounds for stratum in strata])
    low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
    side_um = max(side_um, float(np.sqrt((high - low).prod() / _MAX_PIXELS)))
    x, y = (
        np.arange(low[0] + side_um / 2, high[0], side_um),
        np.arange(low[1] + side_um / 2, high[1], side_um),
    )
    places = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    stratum = np.full(len(places), -1, np.intp)
    for index, window in enumerate(strata):
        stratum[window.contains(places)] = index
    band = np.full(len(places), -1, np.intp)
    inside = stratum >= 0
    band[inside] = Bands(edges, np.zeros((0, 0))).index(distance(places[inside]))
    shape = (len(y), len(x))
    return _Raster(low, side_um, stratum.reshape(shape), band.reshape(shape))


def _at(raster: _Raster, points: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Stratum and band at points; stratum -1 outside."""
    col, row = np.floor((points - raster.origin) / raster.side_um).astype(np.intp).T
    height, width = raster.stratum.shape
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    row, col = np.where(inside, row, 0), np.where(inside, col, 0)
    return np.where(inside, raster.stratum[row, col], -1), raster.band[row, col]


def _areas(raster: _Raster, steps: NDArray[np.intp], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Pixels of each stratum and band that a pixel of the same stratum is moved to."""
    (height, width), (dx, dy) = raster.stratum.shape, steps
    if abs(dx) >= width or abs(dy) >= height:
        return np.zeros(shape)
    to = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
    source = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
    stratum = raster.stratum[to]
    stays = (stratum >= 0) & (stratum == raster.stratum[source])
    code = stratum[stays] * shape[1] + raster.band[to][stays] + 1
    return np.bincount(code, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
