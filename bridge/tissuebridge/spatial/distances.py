"""How far cells are from regions: signed distances, and where the window hides more.

Distances are Euclidean, to the outline, in um; negative inside, as QuPath's `Signed distance to annotation NAME µm`.
A distance is censored where the window's own edge is nearer than what was measured to: beyond that edge there may be
something nearer (Diggle 2013, Statistical Analysis of Spatial and Spatio-Temporal Point Patterns, ch. 4.4,
https://doi.org/10.1201/b15326).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.window import Window


def signed_distance(region: Window, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance of each point to the region's outline, negative inside.

    Args:
        region: A region class: all of its areas together.
        points: float64 (n, 2), um.

    Returns:
        float64 (n,), um.

    >>> import shapely
    >>> region = Window.of(shapely.box(0, 0, 10, 10))
    >>> signed_distance(region, np.array([[5.0, 1.0], [13.0, 14.0]])).tolist()
    [-1.0, 5.0]
    """
    distances = region.border_distance(points)
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
