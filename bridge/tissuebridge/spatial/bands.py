"""Level sets: bands of equal distance round a border, their areas in the window, and profiles of density over them.

The area of {u in W : d(u, L) <= r} is added up from squares that are halved where a band's edge or an outline crosses
them, down to a quarter of a micrometre: widening outlines of 10^5 vertices takes minutes and fails. Infiltration curves
are densities per band: Galon et al. 2006, https://doi.org/10.1126/science.1129139; level sets of cell distances:
Lagache et al. 2018, Nature Communications 9, 698, https://doi.org/10.1038/s41467-018-03053-x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import UsageError
from tissuebridge.spatial.borders import Border, edges_of
from tissuebridge.spatial.density import Density, density
from tissuebridge.spatial.neighbours import nearest
from tissuebridge.spatial.window import Window

_FIRST: Final = 64
"""Squares along the longer side, to begin with."""
_SMOOTH_UM: Final = 2.0
"""In squares up to this side, distances are taken to be spread evenly."""
_LAST_UM: Final = 1.0
"""Squares along outlines are not halved below this side, but cut into 16 that count where their middles lie."""
_MOST: Final = 3_000_000
"""Squares looked at together; where there are more, they are not halved again."""


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """Bands of signed distance to a line, and their areas in several strata.

    Attributes:
        edges: float64 (k + 1,), increasing, um; negative inside the region.
        areas: float64 (strata, k), um^2.
    """

    edges: NDArray[np.float64]
    areas: NDArray[np.float64]

    def counts(self, distances: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many of the distances fall into each band, (k,). Bands include their outer edge, away from zero."""
        return np.bincount(self.index(distances) + 1, minlength=len(self.edges) + 1)[1 : len(self.edges)]

    def index(self, distances: NDArray[np.float64]) -> NDArray[np.intp]:
        """The band of each distance; -1 before the first, k after the last."""
        return np.searchsorted(self.edges, distances, "left") - 1


def check_edges(edges: Sequence[float]) -> NDArray[np.float64]:
    """The edges of bands as an array.

    Raises:
        UsageError: Fewer than two, not finite or not increasing.
    """
    array = np.asarray(edges, np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
        raise UsageError(
            f"bands {list(edges)}: give at least two increasing distances in um, such as 0 10 20 50"
        )
    return array


def bands_of(
    region: BaseGeometry, line: BaseGeometry, strata: Sequence[BaseGeometry], edges: Sequence[float]
) -> Bands:
    """Bands round a line (an outline or an interface) of a region, and their areas.

    Args:
        region: What counts as inside (negative distances), um.
        line: What distances are measured to, um.
        strata: Parts of the window, without overlap, um.
        edges: Of the bands, increasing, um, negative inside.

    Raises:
        UsageError: The edges are not increasing.

    >>> region, window = shapely.box(0, 0, 50, 100), shapely.box(0, 0, 100, 100)
    >>> line = shapely.LineString([(50, 0), (50, 100)])
    >>> bands_of(region, line, [window], [-10, 0, 20]).areas.round().tolist()
    [[1000.0, 2000.0]]
    """
    array = check_edges(edges)
    return Bands(array, np.diff(_cumulated(region, Border.of(line), strata, array), axis=1))


def _cumulated(
    region: BaseGeometry, line: Border, strata: Sequence[BaseGeometry], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The area of each stratum with a distance up to each edge and from the first one, (strata, k + 1), um^2.

    Squares are halved until each lies in one band, one stratum and on one side: or is so small that it does not matter.
    """
    outlines = Border(np.concatenate([edges_of(one) for one in (region, *strata)]))
    low, high = _extent(strata)
    side = float((high - low).max()) / _FIRST
    squares = _lattice(low, high, side)
    total = np.zeros((len(strata), len(edges)))
    while len(squares):
        half_um = side * np.sqrt(0.5)
        distance = line.distance(squares)
        # What lies beyond all bands is of no interest.
        kept = distance - half_um < np.abs(edges).max()
        squares, distance = squares[kept], distance[kept]
        is_whole = outlines.distance(squares) > half_um
        signed = np.where(_within(region, squares), -distance, distance)
        in_one = np.searchsorted(edges, signed - half_um) == np.searchsorted(edges, signed + half_um)
        done = is_whole & (in_one | (side <= _SMOOTH_UM))
        total += _spread(squares[done], signed[done], side, strata, edges)
        if side <= _LAST_UM or len(squares) > _MOST:
            pieces = _halved(_halved(squares[~done], side), side / 2)
            distance = np.repeat(distance[~done], 16)
            signed = np.where(_within(region, pieces), -distance, distance)
            return total + _spread(pieces, signed, side / 4, strata, edges)
        squares, side = _halved(squares[~done], side), side / 2
    return total


def _spread(
    squares: NDArray[np.float64],
    signed: NDArray[np.float64],
    side: float,
    strata: Sequence[BaseGeometry],
    edges: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The squares' areas up to each edge; a square's distances are even between half a side less and more."""
    found = np.zeros((len(strata), len(edges)))
    for row, stratum in enumerate(strata):
        here = signed[_within(stratum, squares)]
        for column, edge in enumerate(edges):
            found[row, column] = np.clip((edge - here) / side + 0.5, 0, 1).sum() * side**2
    return found


def _extent(geometries: Sequence[BaseGeometry]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bounds = np.array([geometry.bounds for geometry in geometries if not geometry.is_empty]).reshape(-1, 4)
    if not len(bounds):
        return np.zeros(2), np.zeros(2)
    return bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)


def _lattice(low: NDArray[np.float64], high: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    if side <= 0:
        return np.zeros((0, 2))
    x, y = (np.arange(a + side / 2, b + side / 2, side) for a, b in zip(low, high, strict=True))
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _halved(squares: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    steps = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * side / 4
    return (squares[:, None] + steps).reshape(-1, 2)


def _within(geometry: BaseGeometry, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    shapely.prepare(geometry)
    return np.asarray(shapely.contains_xy(geometry, points[:, 0], points[:, 1]), np.bool_)


def profile(
    cell_class: str, name: str, bands: Bands, distances: NDArray[np.float64]
) -> list[tuple[float, float, Density]]:
    """An infiltration curve: the density in each band, over all strata together.

    Args:
        cell_class: Whose.
        name: What distances are measured to.
        bands: Edges and areas.
        distances: float64 (n,), signed, um; of cells of the window.

    Returns:
        (from, to, density) of each band, um and per mm^2.
    """
    areas, counts = bands.areas.sum(axis=0), bands.counts(distances)
    return [
        (float(low), float(high), density(cell_class, name, int(count), float(area)))
        for (low, high), count, area in zip(pairwise(bands.edges), counts, areas, strict=True)
    ]


def bands_round_cells(
    others: NDArray[np.float64], strata: Sequence[Window], edges: Sequence[float], places: int = 400_000
) -> Bands:
    """Bands round the cells of a class, by the distance to the nearest of them.

    Their areas are counted on a lattice, since a union of many discs is no faster exactly.

    Args:
        others: float64 (m, 2), um; at least one.
        strata: Parts of the window, without overlap.
        edges: Of the bands, increasing, none negative, um.
        places: About how many places of the lattice in all strata together.

    Raises:
        UsageError: The edges are not increasing, or one is negative.
    """
    array = check_edges(edges)
    if array[0] < 0:
        raise UsageError(f"bands round cells start at 0 um, not at {array[0]:g}: a cell has no inside here")
    spacing_um = float(np.sqrt(sum(stratum.area_um2 for stratum in strata) / places))
    areas = np.zeros((len(strata), len(array) - 1))
    for row, stratum in enumerate(strata):
        lattice = stratum.lattice(spacing_um).points
        counted = Bands(array, areas[:1]).counts(nearest(lattice, others))
        areas[row] = counted * (stratum.area_um2 / max(len(lattice), 1))
    return Bands(array, areas)
