"""Level sets: bands of equal distance round a border, their areas in the window, and profiles of density over them.

Round interfaces areas are added up from pixels (`interfaces`): widening outlines of 10^5 vertices takes minutes and
fails. Infiltration curves are densities per band: Galon et al. 2006, https://doi.org/10.1126/science.1129139; level
sets of cell distances: Lagache et al. 2018, Nature Communications 9, 698, https://doi.org/10.1038/s41467-018-03053-x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import UsageError
from tissuebridge.spatial.density import Density, density
from tissuebridge.spatial.neighbours import nearest
from tissuebridge.spatial.window import Window


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
