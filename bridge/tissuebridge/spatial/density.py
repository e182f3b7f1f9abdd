"""Counts and densities, with intervals.

Density is n / A, in cells per mm^2; its interval is the exact one of a Poisson count (Garwood 1936, Biometrika 28,
437, https://doi.org/10.1093/biomet/28.3-4.437): [chi2(a/2; 2n), chi2(1 - a/2; 2n + 2)] / 2A. It says how exactly this
window was counted, not how much patients differ: clustered cells vary more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tissuebridge.spatial.nulls import stratum_of
from tissuebridge.spatial.window import UM2_PER_MM2, Window

LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Density:
    """How many cells of a class lie in an area.

    Attributes:
        cell_class: Whose.
        region: Name of the area.
        count: Cells.
        area_mm2: The area in mm^2.
        per_mm2: Cells per mm^2; None where there is no area.
        low: Lower end of the 95 % interval, per mm^2; None where there is no area.
        high: Its upper end.
    """

    cell_class: str
    region: str
    count: int
    area_mm2: float
    per_mm2: float | None
    low: float | None
    high: float | None


def density(cell_class: str, region: str, count: int, area_um2: float) -> Density:
    """One density.

    Args:
        cell_class: Whose.
        region: Name of the area.
        count: Cells in it.
        area_um2: The area in um^2.

    >>> found = density("CD3", "Stroma", 10, 1e6)
    >>> found.per_mm2, round(found.low, 2), round(found.high, 2)
    (10.0, 4.8, 18.39)
    """
    area_mm2 = area_um2 / UM2_PER_MM2
    if area_mm2 <= 0:
        return Density(cell_class, region, count, 0.0, None, None, None)
    low, high = count_interval(count)
    return Density(cell_class, region, count, area_mm2, count / area_mm2, low / area_mm2, high / area_mm2)


def count_interval(count: int, level: float = LEVEL) -> tuple[float, float]:
    """Between which expected counts a Poisson count lies, at a confidence level.

    >>> [round(end, 3) for end in count_interval(0)]
    [0.0, 3.689]
    """
    tail = (1 - level) / 2
    low = float(stats.chi2.ppf(tail, 2 * count) / 2) if count else 0.0
    return low, float(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2)


def densities(cells: Mapping[str, NDArray[np.float64]], regions: Mapping[str, Window]) -> list[Density]:
    """Every class in every region; a cell on the border of two is counted in the first.

    Args:
        cells: Class to positions, float64 (n, 2), um.
        regions: Region class to its area; without overlap.
    """
    return [
        density(cell_class, region, int((stratum == place).sum()), window.area_um2)
        for cell_class, points in cells.items()
        for stratum in [stratum_of(list(regions.values()), points)]
        for place, (region, window) in enumerate(regions.items())
    ]
