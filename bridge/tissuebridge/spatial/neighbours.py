"""The nearest neighbour of each cell, by pairs of classes.

d_i = min over j of |x_i - y_j|. Of cells nearer to the window's border than d_i, the true neighbour may lie outside:
they are counted as censored. Clark & Evans 1954, https://doi.org/10.2307/1931034; censoring: Baddeley & Gill 1997,
https://doi.org/10.1214/aos/1034276629.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tissuebridge.spatial.window import Window


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Distances from the cells of one class to the nearest of another.

    Attributes:
        cell_class: From whose cells.
        other: To whose cells.
        count: Cells measured from.
        median_um: None where there is nobody to measure to ("not defined").
        quartiles_um: First and third quartile, or None.
        mean_um: Mean, or None.
        censored: Share of cells nearer to the window's border than to their neighbour, or None.
    """

    cell_class: str
    other: str
    count: int
    median_um: float | None
    quartiles_um: tuple[float, float] | None
    mean_um: float | None
    censored: float | None


def nearest(points: NDArray[np.float64], others: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """The distance of each point to the nearest of the others, or of its own kind.

    Args:
        points: float64 (n, 2), um.
        others: float64 (m, 2), um; None: the points themselves, each without itself.

    Returns:
        float64 (n,), um; infinite where there is none.

    >>> nearest(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist()
    [5.0, 5.0]
    """
    targets = points if others is None else others
    k = 2 if others is None else 1
    if len(targets) < k or not len(points):
        return np.full(len(points), np.inf)
    return np.asarray(KDTree(targets).query(points, k=[k])[0][:, 0])


def nearest_neighbours(cells: Mapping[str, NDArray[np.float64]], window: Window) -> list[Neighbours]:
    """Every pair of classes, in both directions, and each class with itself.

    Args:
        cells: Class to positions in the window, float64 (n, 2), um.
        window: Where the cells were looked for.
    """
    edge_um = {name: window.border_distance(points) for name, points in cells.items()}
    return [
        _summary(name, other, nearest(points, None if other == name else cells[other]), edge_um[name])
        for name, points in cells.items()
        for other in cells
    ]


def _summary(
    name: str, other: str, distances: NDArray[np.float64], edge_um: NDArray[np.float64]
) -> Neighbours:
    if not len(distances) or not np.isfinite(distances).all():
        return Neighbours(name, other, len(distances), None, None, None, None)
    low, median, high = np.quantile(distances, (0.25, 0.5, 0.75)).tolist()
    share = float((edge_um < distances).mean())
    return Neighbours(name, other, len(distances), median, (low, high), float(distances.mean()), share)
