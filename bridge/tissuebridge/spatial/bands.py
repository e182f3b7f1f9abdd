"""Level sets: bands of equal distance round a border, their areas in the window, and profiles of density over them.

The area of {u in W : d(u, L) <= r} is added up from pixels of 1 to 2 um, each with the share of it that W covers,
exactly, and with the distance of its middle: widening outlines of 10^5 vertices takes minutes and fails. Infiltration
curves are densities per band: Galon et al. 2006, https://doi.org/10.1126/science.1129139; level sets of cell distances:
Lagache et al. 2018, Nature Communications 9, 698, https://doi.org/10.1038/s41467-018-03053-x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import UsageError
from tissuebridge.spatial.borders import Border, edges_of
from tissuebridge.spatial.coverage import Coverage
from tissuebridge.spatial.density import Density, density
from tissuebridge.spatial.neighbours import nearest
from tissuebridge.spatial.window import Window

_PIXELS: Final = 20_000_000
"""Pixels of an image; where these would be smaller than a fifth of the narrowest band or larger than two, ..."""
_FINEST, _FINEST_UM, _COARSEST, _COARSEST_UM = 0.2, 1.0, 0.4, 2.0
"""... or than these lengths, such ones are taken."""
_MOST_PIXELS: Final = 1_000_000_000
"""Never more than so many."""
_AT_ONCE: Final = 4_000_000
"""Pixels held together: strips of rows, so that memory does not grow with the image."""
_FIRST: Final = 64
"""Distances are told first of squares of so many pixels, which are halved where a band's edge crosses them."""


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


def areas_up_to(
    lines: Sequence[Border],
    region: BaseGeometry,
    others: Sequence[BaseGeometry],
    distances: NDArray[np.float64],
    split_um: float = 0.0,
) -> NDArray[np.float64]:
    """The areas of a region and of others up to some distances from where they meet, negative inside the region.

    Args:
        lines: Where the region meets each of the others, um.
        region: Where distances are negative, um.
        others: Where they are positive; without overlap, um.
        distances: float64 (k,), increasing, um.
        split_um: Up to how far from the lines the region's area is told by which of them is nearest; the rest of it
            is told with the first.

    Returns:
        float64 (2, others, k), um^2: the region's by line, and the others'. What is farther than all distances is left
        out of each alike, so that differences are right.

    >>> import shapely
    >>> line = Border.of(shapely.LineString([(50, 0), (50, 100)]))
    >>> tumor, stroma = shapely.box(0, 0, 50, 100), shapely.box(50, 0, 100, 100)
    >>> np.diff(areas_up_to([line], tumor, [stroma], np.array([-10.0, 0, 20]))).round().tolist()
    [[[1000.0, 0.0]], [[0.0, 2000.0]]]
    """
    total = np.zeros((2, len(others), len(distances)))
    line = Border(np.concatenate([line.pieces for line in lines]))
    ends = [edges_of(area) for area in (region, *others)]
    low, extent = _extent(ends)
    if not extent.all() or not len(line.pieces):
        return total
    pixel_um = _pixel_um(extent, distances)
    covered = [Coverage.of((some - np.tile(low, 2)) / pixel_um) for some in ends]
    width, height = (int(side) + 2 for side in extent / pixel_um)
    width = -(-width // _FIRST) * _FIRST
    rows = max(_AT_ONCE // width // _FIRST, 1) * _FIRST
    for top in range(0, height, rows):
        distance = _distances(line, low, pixel_um, (top, rows, width), np.unique(np.abs(distances)))
        near = np.flatnonzero(np.isfinite(distance))
        if not len(near):
            continue
        distance = distance[near]
        inside, *outside = (one.rows(top, top + rows, width).ravel()[near] * pixel_um**2 for one in covered)
        for place, area in enumerate(outside):
            total[1, place] += [_up_to(edge, distance, area, pixel_um) for edge in distances]
        nearest = np.zeros(len(near), np.intp)
        if len(lines) > 1:
            strip = np.flatnonzero((inside > 0) & (distance < split_um + pixel_um))
            middles = (
                np.stack([near[strip] % width, near[strip] // width + top], axis=1) + 0.5
            ) * pixel_um + low
            nearest[strip] = np.argmin([line.distance(middles) for line in lines], axis=0)
        for place in range(len(lines)):
            area = np.where(nearest == place, inside, 0.0)
            total[0, place] += area.sum() - [_up_to(-edge, distance, area, pixel_um) for edge in distances]
    return total


def _up_to(edge: float, distance: NDArray[np.float64], area: NDArray[np.float64], pixel_um: float) -> float:
    """The area of pixels up to a distance; a pixel's distances are even between half a side less and more."""
    return float(area @ np.clip((edge - distance) / pixel_um + 0.5, 0, 1)) if edge > 0 else 0.0


def _distances(
    line: Border,
    low: NDArray[np.float64],
    pixel_um: float,
    where: tuple[int, int, int],
    edges: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Distances of pixels to the line, (pixels,), um; where no edge is within a pixel, any between the same edges.

    Args:
        line: The line.
        low: The corner of pixel 0, um.
        pixel_um: A pixel's side.
        where: First row, rows, columns; the latter multiples of `_FIRST`.
        edges: Unsigned; what is farther than the last is infinite.
    """
    top, rows, width = where
    side = _FIRST
    found = np.full((rows // side, width // side), np.nan)
    while True:
        row, col = np.nonzero(np.isnan(found))
        middles = np.stack([(col + 0.5) * side, (row + 0.5) * side + top], axis=1) * pixel_um + low
        distance, half_um = line.distance(middles), side * pixel_um * np.sqrt(0.5)
        distance[distance - half_um > edges[-1]] = np.inf
        if side == 1:
            found[row, col] = distance
            return found.ravel()
        first, last = (np.searchsorted(edges, distance + by) for by in (-half_um, half_um))
        found[row, col] = np.where(first == last, distance, np.nan)
        found, side = found.repeat(2, axis=0).repeat(2, axis=1), side // 2


def _pixel_um(extent: NDArray[np.float64], edges: NDArray[np.float64]) -> float:
    gap_um = float(np.diff(np.unique(np.abs([0, *edges]))).min())
    finest, coarsest = min(gap_um * _FINEST, _FINEST_UM), min(gap_um * _COARSEST, _COARSEST_UM)
    usual, least = (np.sqrt(extent.prod() / pixels) for pixels in (_PIXELS, _MOST_PIXELS))
    return float(max(np.clip(usual, finest, coarsest), least))


def _extent(ends: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corner of everything, and its width and height, um."""
    xy = np.concatenate([np.zeros((0, 4)), *ends]).reshape(-1, 2)
    return (xy.min(axis=0), np.ptp(xy, axis=0)) if len(xy) else (np.zeros(2), np.zeros(2))


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
