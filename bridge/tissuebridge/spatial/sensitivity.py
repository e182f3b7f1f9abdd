"""What a higher threshold would leave of every count and density.

Comes in from `tissue`, an image at a time; rows go out once all are known. Objects are the cells that an analysis
wrote: those at or above its threshold, each with its score. So a threshold can only be moved up here; candidates below
it are not among the objects, nor is the threshold: the lowest score of a class in all images stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.objects import PathObject
from tissuebridge.spatial.density import density
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.tissue import TISSUE, Tissue

MOVES: Final = (0.0, 0.05, 0.1, 0.15, 0.2)
"""How far a threshold is moved up; scores of marked cells reach about 1."""

_SCORE: Final = "tissuebridge: score "
"""What the name of a class follows in the measurements of a cell that a network found."""


def scores_of(tissue: Tissue, objects: Sequence[PathObject]) -> dict[str, NDArray[np.float64]]:
    """The score of every cell of a tissue, NaN where it has none (a person's dot).

    It is that of the cell's own class; of a cell whose class has another name now, its highest.

    Args:
        tissue: From `tissue_of`.
        objects: The same that it was made of.

    Returns:
        Class to float64 (n,), in the order of `tissue.cells`.
    """
    return {
        name: np.array([_score(objects[k].measurements, name) for k in places.tolist()], np.float64)
        for name, places in tissue.index.items()
    }


def _score(measurements: Mapping[str, float], cell_class: str) -> float:
    own = measurements.get(_SCORE + cell_class)
    if own is not None:
        return own
    return max((value for name, value in measurements.items() if name.startswith(_SCORE)), default=math.nan)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """The cells of a class in a region of an image: scores float64 (n,), NaN for none."""

    image: str
    cell_class: str
    region: str
    area_um2: float
    scores: NDArray[np.float64]


class Sensitivity:
    """Gathers the scores of all images, then counts at every threshold."""

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def add(self, image: str, tissue: Tissue, scores: Mapping[str, NDArray[np.float64]]) -> None:
        """Takes an image.

        Args:
            image: Its name.
            tissue: What was measured.
            scores: From `scores_of`.
        """
        for name, points in tissue.cells.items():
            window, own = tissue.window, scores[name]
            self._places.append(_Place(image, name, TISSUE, window.area_um2, own))
            # As in the densities: where the only region is the whole image, it is not told twice.
            for region, area in tissue.regions.items() if len(tissue.regions) > 1 else ():
                self._places.append(_Place(image, name, region, area.area_um2, own[area.contains(points)]))

    def rows(self) -> list[Row]:
        """Counts and densities of classes with scores at each threshold, image by image.

        A cell without a score (one that a person added) stays at every threshold.

        Returns:
            Rows with "image", "class", "region", "threshold", "moved", "cells", "area_mm2", "cells_per_mm2", "low",
            "high", "reason".
        """
        lowest: dict[str, float] = {}
        for place in self._places:
            known = place.scores[~np.isnan(place.scores)]
            if len(known):
                lowest[place.cell_class] = min(lowest.get(place.cell_class, math.inf), float(known.min()))
        return [
            _row(place, lowest[place.cell_class], moved)
            for place in self._places
            if place.cell_class in lowest
            for moved in MOVES
        ]


def _row(place: _Place, lowest: float, moved: float) -> Row:
    left = int((~(place.scores < lowest + moved)).sum())
    one = density(place.cell_class, place.region, left, place.area_um2)
    return {
        "image": place.image, "class": place.cell_class, "region": place.region, "threshold": lowest + moved,
        "moved": moved, "cells": left, "area_mm2": one.area_mm2, "cells_per_mm2": one.per_mm2, "low": one.low,
        "high": one.high, "reason": None if one.per_mm2 is not None else "no area",
    }  # fmt: skip
