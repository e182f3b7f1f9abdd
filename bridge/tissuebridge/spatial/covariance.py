"""How much of a window lies in it still when it is moved: C(h) = |W intersected with W moved by h|.

What the translation correction divides by (`edges`). The window is drawn on a raster, each pixel with the share of it
that the window covers, exactly; the sum over pixels of the products with the raster moved by whole pixels comes from a
Fourier transform. Where the two outlines do not meet in a pixel the product is the area in common, and where they do it
is, on average over where they do, that area smoothed over two pixels of side p: C + p^2 / 12 (C_xx + C_yy), of which
the second part is taken off again. Along a ray from 0, C is smooth, and C(0) is the window's area: so it is told over
angle and length, from lengths of two pixels on. Weights of pairs are right to some 1e-6, and to 1e-4 where long edges
slide along themselves; to 1e-3 in windows of several mm with outlines finer than a pixel. C is the geometric
covariogram: Matheron 1975, Random Sets and Integral Geometry, ch. 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from shapely.geometry.base import BaseGeometry

from tissuebridge.spatial.borders import edges_of
from tissuebridge.spatial.coverage import Coverage

_TURN: Final = 0.5
"""Radians by which the window is turned, so that its straight edges do not run along rows of pixels."""

_ANGLES: Final = 721
_LENGTHS: Final = 257
_KNOTS: Final = np.array([0.0, 2.0, 3.0, 4.0])

_PIXELS: Final = 2_000_000
_MOST_PIXELS: Final = 100_000_000
"""Pixels of a window: the first number, unless so many would be smaller or larger than the next two; never more than
the second."""
_SMALLEST: Final = 1 / 256
"""In reaches."""
_LARGEST: Final = 1 / 16
_LARGEST_UM: Final = 2.0
"""In reaches, and in um, whichever is more."""

_AT_ONCE: Final = 4_000_000
"""Pixels transformed together, in strips of rows, so that memory does not grow with the window."""


@dataclass(frozen=True, slots=True, eq=False)
class Covariance:
    """C of a window.

    Attributes:
        table: float64 (angles, lengths), um^2: angles from 0 to pi, and lengths that grow as squares do, to the reach.
        reach_um: The longest offset that is told.
    """

    table: NDArray[np.float64]
    reach_um: float

    @staticmethod
    def of(area: BaseGeometry, reach_um: float) -> Covariance:
        """Of a Polygon or MultiPolygon in um.

        >>> import shapely
        >>> moved = Covariance.of(shapely.box(0, 0, 10, 8), 4.0)
        >>> moved.at(np.array([[2.0, 1.0], [-3.0, 2.0]])).round(1).tolist()
        [56.0, 42.0]
        """
        turn = np.array([[np.cos(_TURN), np.sin(_TURN)], [-np.sin(_TURN), np.cos(_TURN)]])
        ends = edges_of(area).reshape(-1, 2) @ turn
        low, extent = ends.min(axis=0), np.ptp(ends, axis=0)
        pixel_um = _pixel_um(float(extent.prod()), reach_um)
        reach_um = max(reach_um, 4 * pixel_um)
        lags = int(np.ceil(reach_um / pixel_um)) + 2
        common = _common(((ends - low) / pixel_um).reshape(-1, 4), lags) * pixel_um**2
        common -= ndimage.laplace(common) / 12
        length = np.linspace(0, 1, _LENGTHS) ** 2 * (reach_um / pixel_um)
        return Covariance(_polar(common, length, area.area), reach_um)

    def at(self, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """The area in common with the window moved by each offset (n, 2), um^2; (n,)."""
        # It is the same for an offset and its opposite: half a turn is enough.
        angle = np.arctan2(offsets[:, 1], offsets[:, 0]) % np.pi
        length = np.sqrt(np.hypot(offsets[:, 0], offsets[:, 1]) / self.reach_um)
        place = np.stack([angle * ((_ANGLES - 1) / np.pi), length * (_LENGTHS - 1)])
        return np.asarray(ndimage.map_coordinates(self.table, place, order=1, mode="nearest"))


def _polar(common: NDArray[np.float64], length: NDArray[np.float64], area: float) -> NDArray[np.float64]:
    """From a lattice round 0 to angles and lengths, px; up to two pixels by the cubic through 0, 2, 3 and 4."""
    angle = np.linspace(0, np.pi, _ANGLES)[:, None] + _TURN
    near = length < _KNOTS[1]
    along = np.concatenate([_KNOTS[1:], length[~near]])
    middle = len(common) // 2
    places = np.stack([np.sin(angle) * along, np.cos(angle) * along]) + middle
    found = ndimage.map_coordinates(common, places, order=3)
    knots = np.hstack([np.full((_ANGLES, 1), area), found[:, : len(_KNOTS) - 1]])
    cubic = np.vander(length[near], len(_KNOTS)) @ np.linalg.inv(np.vander(_KNOTS))
    return np.hstack([knots @ cubic.T, found[:, len(_KNOTS) - 1 :]])


def _pixel_um(extent_um2: float, reach_um: float) -> float:
    usual, least = np.sqrt(extent_um2 / _PIXELS), np.sqrt(extent_um2 / _MOST_PIXELS)
    largest = max(reach_um * _LARGEST, _LARGEST_UM)
    return float(max(min(usual, largest), reach_um * _SMALLEST, least))


def _common(edges: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    """The sums of products with the raster moved by up to so many rows and columns, both ways: (row, col), px."""
    covered = Coverage.of(edges)
    height, width = covered.shape
    wide = fft.next_fast_len(max(width, lags + 1) + lags, real=True)
    strip = min(max(_AT_ONCE // wide - lags, lags), height)
    shape = fft.next_fast_len(strip + lags), wide
    spectrum: NDArray[np.complex128] | float = 0.0
    for top in range(0, height, strip):
        pixels = covered.rows(top, top + strip + lags, width)
        both = fft.rfft2(pixels, shape)
        spectrum = spectrum + np.conj(fft.rfft2(pixels[:strip], shape)) * both
    every = fft.irfft2(spectrum, shape)
    half = np.roll(every, lags, axis=1)[: lags + 1, : 2 * lags + 1]
    return np.concatenate([half[:0:-1, ::-1], half])
