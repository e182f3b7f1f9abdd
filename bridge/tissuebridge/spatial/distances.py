"""How far cells are from regions: signed distances, interfaces between two classes, and where the window hides more.

Distances are Euclidean, to the outline, in um; negative inside, as QuPath's `Signed distance to annotation NAME µm`.
A distance is censored where the window's own edge is nearer than what was measured to: beyond that edge there may be
something nearer (Diggle 2013, Statistical Analysis of Spatial and Spatio-Temporal Point Patterns, ch. 4.4,
https://doi.org/10.1201/b15326).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.spatial.borders import Border
from tissuebridge.spatial.window import Window

_GRID_UM: Final = 1e-3
"""Overlays are snapped to a nanometre, without which those of rough outlines can fail."""

GAP_UM: Final = 2.0
"""Outlines of two regions that run this near to each other are one interface: hands leave gaps."""


def signed_distance(region: Window, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance of each point to the region's outline, negative inside.

    Args:
        region: A region class: all of its areas together.
        points: float64 (n, 2), um.

    Returns:
        float64 (n,), um.

    >>> region = Window.of(shapely.box(0, 0, 10, 10))
    >>> signed_distance(region, np.array([[5.0, 1.0], [13.0, 14.0]])).tolist()
    [-1.0, 5.0]
    """
    distances = region.border_distance(points)
    return np.where(region.contains(points), -distances, distances)


def interface(region: BaseGeometry, others: BaseGeometry, gap_um: float = GAP_UM) -> BaseGeometry:
    """Where a region meets others: the part of its outline that is not glass, slide edge or unknown.

    Args:
        region: The region class, um.
        others: The region classes it may meet, together, um.
        gap_um: How far apart two outlines may run and still meet.

    Returns:
        Lines, um; empty where they do not meet.

    >>> interface(shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10), 0.1).length.__round__()
    10
    """
    met = shapely.intersection(
        shapely.boundary(region), shapely.buffer(others, gap_um, quad_segs=4), grid_size=_GRID_UM
    )
    return shapely.line_merge(met)


def distance_to_interface(
    region: Window, line: BaseGeometry, points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The distance of each point to an interface of the region, negative inside the region.

    Returns:
        float64 (n,), um; infinite (either sign) where there is no interface.
    """
    distances = Border.of(line).distance(points)
    return np.where(region.contains(points), -distances, distances)


def censored(
    window: Window, distances: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which distances may be too long, since the window's edge is nearer than what was measured to.

    Args:
        window: All tissue that was looked at; interfaces lie inside it.
        distances: float64 (n,), um, signed or not.
        points: float64 (n, 2), um.
    """
    return np.asarray(window.border_distance(points) < np.abs(distances), np.bool_)
