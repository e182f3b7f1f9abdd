"""Pixels over tissue: which share of each every region covers, and how far it is from a border.

What lies up to a distance of a border is added up from pixels of 1 to 2 um, each with the share that a region covers,
exactly, and with the distance of its middle. Strips of rows are looked at one after the other, so that memory does not
grow with the tissue; where no distance that is asked for is near, one look serves a square of many pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.spatial.borders import Border, edges_of
from tissuebridge.spatial.coverage import Coverage

_PIXELS: Final = 20_000_000
"""Pixels of an image; where these would be smaller than a fifth of the gap or larger than two, ..."""
_FINEST, _FINEST_UM, _COARSEST, _COARSEST_UM = 0.2, 1.0, 0.4, 2.0
"""... or than these lengths, such ones are taken."""
_MOST_PIXELS: Final = 1_000_000_000
"""Never more than so many."""
_AT_ONCE: Final = 2_000_000
"""Pixels held together."""
_FIRST: Final = 64
"""Distances are told first of squares of so many pixels, which are halved where they have to be."""


@dataclass(frozen=True, slots=True, eq=False)
class TissueRaster:
    """Pixels over regions, in strips of rows.

    Attributes:
        low: float64 (2,), the corner of the first pixel, um.
        pixel_um: A pixel's side.
        width: Columns.
        rows: Of a strip.
        tops: First rows of all strips.
        covered: Of each region.
    """

    low: NDArray[np.float64]
    pixel_um: float
    width: int
    rows: int
    tops: Sequence[int]
    covered: Sequence[Coverage]

    @staticmethod
    def of(regions: Sequence[BaseGeometry], gap_um: float) -> TissueRaster:
        """Over regions that have an area.

        Args:
            regions: Polygons and MultiPolygons, um.
            gap_um: The smallest difference of two distances that is asked for.
        """
        edges = [edges_of(region) for region in regions]
        xy = np.concatenate(edges).reshape(-1, 2)
        low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
        finest, coarsest = min(gap_um * _FINEST, _FINEST_UM), min(gap_um * _COARSEST, _COARSEST_UM)
        usual, least = (np.sqrt(extent.prod() / pixels) for pixels in (_PIXELS, _MOST_PIXELS))
        pixel_um = float(max(np.clip(usual, finest, coarsest), least))
        width, height = (int(side) + 2 for side in extent / pixel_um)
        width = -(-width // _FIRST) * _FIRST
        rows = max(_AT_ONCE // width // _FIRST, 1) * _FIRST
        covered = [Coverage.of((one - np.tile(low, 2)) / pixel_um) for one in edges]
        return TissueRaster(low, pixel_um, width, rows, range(0, height, rows), covered)

    def shares(self, top: int) -> NDArray[np.float64]:
        """The share of each pixel of a strip that each region covers, float64 (regions, pixels)."""
        return np.array([one.rows(top, top + self.rows, self.width).ravel() for one in self.covered])

    def middles(self, top: int, pixels: NDArray[np.intp]) -> NDArray[np.float64]:
        """The middles of some of the pixels of a strip, float64 (n, 2), um."""
        places = np.stack([pixels % self.width, pixels // self.width + top], axis=1)
        return (places + 0.5) * self.pixel_um + self.low

    def distances(
        self, border: Border, top: int, asked: NDArray[np.float64], exact_um: float = 0.0
    ) -> NDArray[np.float64]:
        """How far the middles of a strip's pixels are from a border, float64 (pixels,), um.

        Args:
            border: The border.
            top: The strip.
            asked: float64 (k,), increasing, none negative, um: what will be asked is which distances are below these.
                Farther away from all of them than a pixel and `exact_um`, any distance between the same two is told;
                beyond the last, infinity.
            exact_um: So near to each of them, distances are right.
        """
        side = _FIRST
        found = np.full((self.rows // side, self.width // side), np.nan)
        while True:
            row, col = np.nonzero(np.isnan(found))
            middles = (
                np.stack([(col + 0.5) * side, (row + 0.5) * side + top], axis=1) * self.pixel_um + self.low
            )
            distance, half_um = border.distance(middles), side * self.pixel_um * np.sqrt(0.5) + exact_um
            distance[distance - half_um > asked[-1]] = np.inf
            if side == 1:
                found[row, col] = distance
                return found.ravel()
            first, last = (np.searchsorted(asked, distance + by) for by in (-half_um, half_um))
            found[row, col] = np.where(first == last, distance, np.nan)
            found, side = found.repeat(2, axis=0).repeat(2, axis=1), side // 2
