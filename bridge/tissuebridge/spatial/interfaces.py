"""Where a region class meets the other tissue: distances to there, bands round it, and the same with the border moved.

A border that is moved by m um is the level set of the signed distance s at m: what lies up to there is the region's.
Where the region grows, the others give; where it shrinks, the strip between belongs to whichever it met there. At glass
and at the slide's edge no border moves. So one look at the tissue gives the areas for all moves, and no outline has to
be widened and cut again. Comes in from `tissue`, goes out to `measure` and `image_coupling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.spatial.bands import Bands, areas_up_to, check_edges
from tissuebridge.spatial.borders import Border, cut_to, edges_of
from tissuebridge.spatial.nulls import stratum_of
from tissuebridge.spatial.window import Window

GAP_UM: Final = 2.0
"""Outlines of two regions that run this near to each other are one interface: hands leave gaps."""

_DECIMALS: Final = 6
"""Of places, um: sums of bands and moves that should be the same are."""


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """Cells at an interface.

    Attributes:
        signed_um: float64 (n,), distances to it, negative in the region.
        own: int (n,), 0 in the region, k + 1 in the k-th of the others, -1 in none.
        met: int (n,), k + 1: which of the others the region meets nearest by.
    """

    signed_um: NDArray[np.float64]
    own: NDArray[np.intp]
    met: NDArray[np.intp]

    def strata(self, moved_um: float = 0.0) -> NDArray[np.intp]:
        """Where each lies when the border is moved; 0, k + 1 or -1."""
        there = np.where(self.own > 0, self.own, self.met)
        return np.where(self.own < 0, -1, np.where(self.signed_um <= moved_um, 0, there))


@dataclass(frozen=True, eq=False)
class Interface:
    """The interface of a region with others, and the bands round it.

    Attributes:
        strata: The region, then the others; without overlap.
        lines: With each of the others, um.
        edges: Of the bands, um, negative inside.
        places: float64 (p,), increasing: distances up to which areas are known, um.
        areas: float64 (2, others, p), um^2: of the region, by which of the others is nearest, and of the others.
    """

    strata: Sequence[Window]
    lines: Sequence[Border]
    edges: NDArray[np.float64]
    places: NDArray[np.float64]
    areas: NDArray[np.float64]

    @staticmethod
    def of(
        strata: Sequence[Window], edges: Sequence[float], moves_um: Sequence[float] = ()
    ) -> Interface | None:
        """The interface of the first stratum with the others; None where it meets none.

        Args:
            strata: The region, then the others; without overlap.
            edges: Of the bands, um, increasing, negative inside.
            moves_um: By how much the border will be moved, beside 0; outwards if positive.

        Raises:
            UsageError: The edges are not increasing.

        >>> import shapely
        >>> tumor, stroma = Window(shapely.box(0, 0, 50, 100)), Window(shapely.box(50, 0, 100, 100))
        >>> met = Interface.of([tumor, stroma], [-10, 0, 20], [5.0])
        >>> met.bands().areas.round().tolist(), met.areas_um2(5.0).round().tolist()
        ([[1016.0, 0.0], [0.0, 2000.0]], [5500.0, 4500.0])
        """
        array = check_edges(edges)
        region, *others = (stratum.area for stratum in strata)
        lines = meeting_lines(region, others)
        if not any(len(line.pieces) for line in lines):
            return None
        moves = np.array([0.0, *moves_um])
        places = np.unique((np.append(array, 0.0)[:, None] + moves).round(_DECIMALS))
        areas = areas_up_to(lines, region, others, places, float(-moves.min()))
        return Interface(strata, lines, array, places, areas)

    @property
    def name(self) -> str:
        """The region's."""
        return self.strata[0].name

    @cached_property
    def line(self) -> Border:
        """With all the others."""
        return Border(np.concatenate([line.pieces for line in self.lines]))

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance of each point to it, negative inside the region.

        Args:
            points: float64 (n, 2), um.
        """
        distances = self.line.distance(points)
        return np.where(self.strata[0].contains(points), -distances, distances)

    def locate(self, points: NDArray[np.float64]) -> Located:
        """How points lie to it."""
        own = stratum_of(self.strata, points)
        distances = self.line.distance(points)
        met = np.ones(len(points), np.intp)
        if len(self.lines) > 1:
            met += np.argmin([line.distance(points) for line in self.lines], axis=0)
        return Located(np.where(own == 0, -distances, distances), own, met)

    def bands(self, moved_um: float = 0.0) -> Bands:
        """Bands round the border where it is or moved, their areas in each stratum (the region first)."""
        inside, outside = np.minimum(self.edges, 0.0), np.maximum(self.edges, 0.0)
        both = self.areas.sum(axis=0)
        sums = [self._at(self.areas.sum(axis=(0, 1)), inside + moved_um)]
        sums += [self._at(area, outside + moved_um) for area in both]
        return Bands(self.edges, np.diff(sums, axis=1))

    def areas_um2(self, moved_um: float = 0.0) -> NDArray[np.float64]:
        """The area of each stratum, the border where it is or moved, um^2."""
        gained = np.diff(self._at(self.areas.sum(axis=0), np.array([0.0, moved_um])))[:, 0]
        gained = np.append(gained.sum(), -gained)
        return np.array(
            [max(one.area_um2 + more, 0.0) for one, more in zip(self.strata, gained, strict=True)]
        )

    def _at(self, areas: NDArray[np.float64], distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Areas (..., p) up to some of the places."""
        return areas[..., np.searchsorted(self.places, distances.round(_DECIMALS))]


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
