"""Where a region class meets the other tissue: distances to there, bands round it, and the same with the border moved.

A border that is moved by m um is the level set at m of the signed distance s to where it is, drawn by marching squares
(Lorensen & Cline 1987, https://doi.org/10.1145/37401.37422); what lies up to there is the region's. Where the region
grows, the others give; where it shrinks, the strip between belongs to whichever it met there. At glass and at the
slide's edge no border moves. All areas come from pixels (`tissue_raster`): no outline is widened or cut, which took
minutes with 10^5 corners. Comes in from `tissue`, goes out to `measure` and `image_coupling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from skimage.measure import find_contours

from tissuebridge.spatial.bands import Bands, check_edges
from tissuebridge.spatial.borders import Border, cut_to, edges_of
from tissuebridge.spatial.nulls import stratum_of
from tissuebridge.spatial.tissue_raster import TissueRaster
from tissuebridge.spatial.window import Window

GAP_UM: Final = 2.0
"""Outlines of two regions that run this near to each other are one interface: hands leave gaps."""

_NOTHING_UM2: Final = 1.0
"""Where no more is left of a region, or of all others, after a move, there is nothing to tell."""

_ROUNDING_UM2: Final = 1e-3
"""Of areas added up from many pixels: so much is none."""

_DRAWN_PX: Final = 2.0
"""So far on both sides of a level set, pixels know their distance."""


@dataclass(frozen=True, eq=False)
class Interface:
    """The interface of a region with others where it is, or moved, and the bands round it.

    Attributes:
        strata: The region, then the others, where they are; without overlap.
        met: Where the region meets each of the others, um.
        at_rest: All of these together: one for all moves, which share its trees.
        moved_um: How far the border is moved, outwards if positive.
        line: The border where it is moved to: what distances are measured to.
        bands: Round the line; their areas in each stratum, as the move makes it.
        areas_um2: Of each stratum, likewise.
    """

    strata: Sequence[Window]
    met: Sequence[Border]
    at_rest: Border
    moved_um: float
    line: Border
    bands: Bands
    areas_um2: Sequence[float]

    @staticmethod
    def of(
        strata: Sequence[Window], edges: Sequence[float], moves_um: Sequence[float] = (0.0,)
    ) -> list[Interface]:
        """The interface of the first stratum with the others, for each move.

        Args:
            strata: The region, then the others; without overlap.
            edges: Of the bands, um, increasing, negative inside.
            moves_um: How far the border is moved, outwards if positive.

        Returns:
            As many as moves, or fewer: those that leave nothing of the region or of the others are left out, and all
            where the region meets none.

        Raises:
            UsageError: The edges are not increasing.

        >>> import shapely
        >>> tumor, stroma = Window(shapely.box(0, 0, 50, 100)), Window(shapely.box(50, 0, 100, 100))
        >>> here, moved = Interface.of([tumor, stroma], [-10, 0, 20], [0.0, 5.0])
        >>> here.bands.areas.round(-2).tolist(), [round(area, -2) for area in moved.areas_um2]
        ([[1000.0, 0.0], [0.0, 2000.0]], [5500.0, 4500.0])
        """
        array = check_edges(edges)
        region, *others = (stratum.area for stratum in strata)
        met = meeting_lines(region, others)
        at_rest = Border(np.concatenate([np.zeros((0, 4)), *(line.pieces for line in met)]))
        if not len(at_rest.pieces):
            return []
        gap_um = float(np.diff(np.unique(np.abs([0.0, *array, *moves_um]))).min())
        raster = TissueRaster.of([region, *others], gap_um)
        found = [_moved(raster, strata, met, at_rest, array, by_um) for by_um in moves_um]
        return [one for one in found if min(one.areas_um2[0], sum(one.areas_um2[1:])) > _NOTHING_UM2]

    @property
    def name(self) -> str:
        """The region's."""
        return self.strata[0].name

    def locate(self, points: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Where points lie, as the border is moved.

        Args:
            points: float64 (n, 2), um.

        Returns:
            The stratum of each, int (n,), -1 for none, and its distance to the line, um, negative in the region.
        """
        stratum = stratum_of(self.strata, points)
        if self.moved_um:
            apart = self.at_rest.distance(points)
            signed = np.where(stratum == 0, -apart, apart)
            there = np.where(stratum == 0, 1 + _nearest(self.met, points), stratum)
            stratum = np.where(stratum < 0, -1, np.where(signed <= self.moved_um, 0, there))
        distances = self.line.distance(points)
        return stratum, np.where(stratum == 0, -distances, distances)

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance of each point to the line, negative in the region."""
        return self.locate(points)[1]


def meeting_lines(
    region: BaseGeometry, others: Sequence[BaseGeometry], gap_um: float = GAP_UM
) -> list[Border]:
    """Where a region meets each of the others: the parts of its outline that are not glass, slide edge or unknown.

    The outline is cut into pieces as long as the gap or shorter; each meets the nearest one, if that is near enough.

    Args:
        region: The region class, um.
        others: The region classes it may meet, um; without overlap with it.
        gap_um: How far apart two outlines may run and still meet.

    Returns:
        For each of the others the pieces that meet it; none where they do not.

    >>> import shapely
    >>> [line] = meeting_lines(shapely.box(0, 0, 10, 10), [shapely.box(10, 0, 20, 10)], 0.1)
    >>> round(line.length_um)
    10
    """
    if not others:
        return []
    pieces = cut_to(edges_of(region), gap_um)
    middles = (pieces[:, :2] + pieces[:, 2:]) / 2
    apart = np.array([Border.of(other).distance(middles) for other in others])
    nearest = np.where(apart.min(axis=0) <= gap_um, apart.argmin(axis=0), -1)
    return [Border(pieces[nearest == place]) for place in range(len(others))]


def _nearest(borders: Sequence[Border], points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which of the borders is nearest to each point."""
    if len(borders) == 1:
        return np.zeros(len(points), np.intp)
    return np.asarray(np.argmin([border.distance(points) for border in borders], axis=0), np.intp)


def _moved(
    raster: TissueRaster,
    strata: Sequence[Window],
    met: Sequence[Border],
    at_rest: Border,
    edges: NDArray[np.float64],
    by_um: float,
) -> Interface:
    unsigned = np.unique(np.abs(edges))
    line = _level_set(raster, at_rest, by_um) if by_um else at_rest
    sums = np.zeros((len(strata), len(edges)))
    gained = np.zeros(len(strata))
    for top in raster.tops:
        distance = raster.distances(line, top, unsigned)
        apart = raster.distances(at_rest, top, np.array([abs(by_um)])) if by_um else distance
        some = np.flatnonzero(np.isfinite(distance) | np.isfinite(apart))
        if not len(some):
            continue
        before = raster.shares(top)[:, some] * raster.pixel_um**2
        area = before
        if by_um:
            within = _share_within(abs(by_um), apart[some], raster.pixel_um)
            area = (
                _grown(area, within) if by_um > 0 else _shrunk(area, within, met, raster.middles(top, some))
            )
            gained += (area - before).sum(axis=1)
        for place, edge in enumerate(edges):
            inside, outside = (_share_within(at, distance[some], raster.pixel_um) for at in (-edge, edge))
            sums[0, place] += area[0] @ (1 - inside)
            sums[1:, place] += area[1:] @ outside
    areas = [max(one.area_um2 + more, 0.0) for one, more in zip(strata, gained.tolist(), strict=True)]
    in_bands = np.diff(sums, axis=1)
    in_bands[in_bands < _ROUNDING_UM2] = 0.0
    return Interface(strata, met, at_rest, by_um, line, Bands(edges, in_bands), areas)


def _share_within(limit_um: float, distance: NDArray[np.float64], pixel_um: float) -> NDArray[np.float64]:
    """The share of pixels up to a distance; a pixel's distances are even between half a side less and more."""
    if limit_um <= 0:
        return np.zeros(len(distance))
    return np.clip((limit_um - distance) / pixel_um + 0.5, 0, 1)


def _grown(area: NDArray[np.float64], within: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas (strata, pixels) after the first one has taken from the others what is within the move."""
    others = area[1:] * (1 - within)
    return np.vstack([area.sum(axis=0) - others.sum(axis=0), others])


def _shrunk(
    area: NDArray[np.float64],
    within: NDArray[np.float64],
    met: Sequence[Border],
    middles: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Areas (strata, pixels) after the first one has lost what is within the move to whom it met there."""
    lost = area[0] * within
    pixels = np.flatnonzero(lost)
    moved = area.copy()
    moved[0] -= lost
    moved[1 + _nearest(met, middles[pixels]), pixels] += lost[pixels]
    return moved


def _level_set(raster: TissueRaster, at_rest: Border, level_um: float) -> Border:
    """Where the signed distance to a border is so much, in the tissue."""
    pieces = [np.zeros((0, 4))]
    above: list[NDArray[np.float64]] = []
    asked, exact_um = np.array([abs(level_um)]), _DRAWN_PX * raster.pixel_um
    for top in raster.tops:
        region, *others = raster.shares(top).reshape(-1, raster.rows, raster.width)
        apart = raster.distances(at_rest, top, asked, exact_um).reshape(region.shape)
        signed = np.where(region > 0.5, -1, 1) * np.minimum(apart, 2 * abs(level_um) + exact_um)
        # Between glass and a region's inside lies no border that could move.
        signed[region + np.sum(others, axis=0) < 0.5] = np.nan
        # The last row of the strip before: level sets cross from strip to strip.
        field = np.vstack([*above, signed])
        corner = raster.low + (np.array([0, top - len(above)]) + 0.5) * raster.pixel_um
        for row_col in find_contours(field, level_um, mask=np.isfinite(field)):
            xy = np.asarray(row_col[:, ::-1], np.float64) * raster.pixel_um + corner
            pieces.append(np.hstack([xy[:-1], xy[1:]]))
        above = [signed[-1:]]
    return Border(np.concatenate(pieces))
