"""The density of a class as a smooth function, for inhomogeneous statistics.

l(u) = sum over i of k(u - x_i) / e(x_i), with a Gaussian k and e(x) the part of k round x that lies in the window, so
that the density's integral is n exactly (Jones 1993, https://doi.org/10.1007/BF00147776; Diggle 1985,
https://doi.org/10.2307/2347366). At the cells themselves their own part is left out: else every cell stands on a
hill. Computed on a raster of an eighth of the bandwidth.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tissuebridge.errors import UsageError
from tissuebridge.spatial.window import Window

_PER_BANDWIDTH: Final = 8
_MAX_PIXELS: Final = 4_000_000


def intensity(
    points: NDArray[np.float64],
    window: Window,
    bandwidth_um: float,
    at: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The smoothed density at places of the window.

    Args:
        points: float64 (n, 2), of the class, in the window, um.
        window: Where.
        bandwidth_um: Standard deviation of the kernel, um.
        at: float64 (m, 2), places, um; None: at the points, each without its own part.

    Returns:
        Cells per um^2, float64 (m,); more than 0 (at least a thousandth of the mean).

    Raises:
        UsageError: The bandwidth is not positive, or far too fine for the window.
    """
    left, top, right, bottom = window.area.bounds
    side = bandwidth_um / _PER_BANDWIDTH
    if not bandwidth_um > 0 or bandwidth_um < finest_bandwidth(window):
        raise UsageError(
            f"a bandwidth of {bandwidth_um:g} um is too fine for {window.name}; take more, such as 100 um"
        )
    x, y = np.arange(left, right + side, side), np.arange(top, bottom + side, side)
    places = np.stack(np.meshgrid(x, y), -1)
    covered = window.contains(places.reshape(-1, 2)).reshape(places.shape[:2])
    kept = np.maximum(ndimage.gaussian_filter(covered.astype(float), _PER_BANDWIDTH, mode="constant"), 1e-3)
    origin = np.array([left, top])
    weight = 1 / _at(kept, (points - origin) / side)
    heap = _deposited(weight, (points - origin) / side, covered.shape)
    smooth = ndimage.gaussian_filter(heap, _PER_BANDWIDTH, mode="constant") / side**2
    values = _at(smooth, ((points if at is None else at) - origin) / side)
    if at is None:
        values = values - weight / (2 * np.pi * bandwidth_um**2)
    return np.maximum(values, 1e-3 * len(points) / window.area_um2)


def finest_bandwidth(window: Window) -> float:
    """The finest bandwidth that a window's raster has room for, um.

    >>> import shapely
    >>> finest_bandwidth(Window.of(shapely.box(0, 0, 2000, 2000)))
    8.0
    """
    left, top, right, bottom = window.area.bounds
    return float(_PER_BANDWIDTH * np.sqrt((right - left) * (bottom - top) / _MAX_PIXELS))


def _at(raster: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear between the raster's points; places are (x, y) in its steps."""
    return np.asarray(ndimage.map_coordinates(raster, places[:, ::-1].T, order=1, mode="nearest"))


def _deposited(
    weight: NDArray[np.float64], places: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """The points' weights, each shared among the four nearest points of a raster."""
    heap = np.zeros((shape[0] + 1, shape[1] + 1))
    low = np.floor(places).astype(int)
    part = places - low
    for dx in (0, 1):
        for dy in (0, 1):
            share = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
            np.add.at(heap, (low[:, 1] + dy, low[:, 0] + dx), weight * share)
    return heap[: shape[0], : shape[1]]
