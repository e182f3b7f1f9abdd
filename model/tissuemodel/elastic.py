"""Elastic deformation of a crop: a smooth random field moves image, labels, areas and points together.

Called by `augment` with a window that has a margin of real pixels, so that nothing needs to be invented at the crop's
border. Arrays in, arrays out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tissuemodel.labels import IGNORE_LABEL, Example

STEEPEST: Final = 0.24
"""No coefficient exceeds this part of the spacing: the displacement's slopes then stay below 1 (see `ElasticField`)."""

_FIELD_OVER_COEFFICIENTS: Final = 151 / 315
"""Standard deviation of a bicubic spline over that of its independent coefficients, averaged over all places."""
_NEAR_ENOUGH_PX: Final = 1e-3
_MOST_ROUNDS: Final = 200


@dataclass(frozen=True, slots=True)
class ElasticField:
    """Where each place of a deformed square comes from: a displacement that is a uniform bicubic B-spline.

    A spline's partial derivatives are at most twice its largest coefficient over the spacing, so with coefficients
    within `STEEPEST` of the spacing a row of the Jacobian sums to at most 4 x 0.24 = 0.96: place + displacement is one
    to one, nothing folds, and the inverse is found by fixed-point iteration.

    Attributes:
        side: Of the square, in px.
        spacing: Distance of the spline's knots, in px.
        phase: (x, y), where in the knots' raster the square begins, in px, 0 to `spacing`.
        coefficients: float32 (x | y, knot row, knot column), in px.
    """

    side: int
    spacing: float
    phase: tuple[float, float]
    coefficients: NDArray[np.float32]

    @staticmethod
    def drawn(side: int, deviation_px: float, spacing_px: float, rng: np.random.Generator) -> ElasticField:
        """A random field.

        Args:
            side: Of the square, in px.
            deviation_px: Standard deviation of the displacement in x and in y; at most a fifteenth of the
                spacing can be had without folding, and more is cut to that.
            spacing_px: Distance of the knots.
            rng: Source of randomness.
        """
        # Uniform coefficients: bounded, and a place's displacement is a sum of sixteen, which is near to normal.
        largest = min(math.sqrt(3) * deviation_px / _FIELD_OVER_COEFFICIENTS, STEEPEST * spacing_px)
        knots = math.floor(side / spacing_px + 1) + 4
        phase_x, phase_y = rng.uniform(0, spacing_px, 2).tolist()
        coefficients = rng.uniform(-largest, largest, (2, knots, knots)).astype(np.float32)
        return ElasticField(side, spacing_px, (phase_x, phase_y), coefficients)

    @property
    def margin(self) -> int:
        """How far outside the square it looks, in px: no displacement exceeds the largest coefficient."""
        # Two more for the reach of the cubic interpolation.
        return math.ceil(float(np.abs(self.coefficients).max())) + 2

    def displacement(self, places: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """How far from each place (n, 2), (x, y), its content comes; outside the square as at its border."""
        inside = np.clip(places, 0, self.side)
        along_x, along_y = self._weights(inside[:, 0], 0), self._weights(inside[:, 1], 1)
        moves = [(_product(along_y, plane) * along_x).sum(axis=1) for plane in self.coefficients]
        return np.stack(moves, axis=1)

    def moved(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where the content of source points (n, 2), (x, y) in px of the undeformed square, goes: the inverse."""
        places: NDArray[np.floating[Any]] = points.astype(np.float64)
        for _ in range(_MOST_ROUNDS):
            nearer = points - self.displacement(places)
            change = float(np.abs(nearer - places).max(initial=0.0))
            places = nearer
            if change < _NEAR_ENOUGH_PX:
                break
        return places.astype(np.float32)

    def sources(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each pixel's centre comes from: x and y, each float32 (row, col), in px of the undeformed square."""
        centres = np.arange(self.side) + 0.5
        along_x, along_y = self._weights(centres, 0), self._weights(centres, 1)
        x, y = (_product(_product(along_y, plane), along_x.T) for plane in self.coefficients)
        x += centres.astype(np.float32)
        y += centres.astype(np.float32)[:, None]
        return x, y

    def _weights(self, places: NDArray[np.floating[Any]], axis: int) -> NDArray[np.float32]:
        """Of each knot for each place along x (0) or y (1): (place, knot), the cubic B-spline."""
        knots = np.arange(-1, self.coefficients.shape[1] - 1)
        away = np.abs(((places + self.phase[axis]) / self.spacing)[:, None] - knots)
        far, near = np.maximum(2 - away, 0), np.maximum(1 - away, 0)
        # Written out, since numpy's power is ten times slower.
        weights: NDArray[np.floating[Any]] = far * far * far / 6 - near * near * near * (2 / 3)
        return weights.astype(np.float32)


def _product(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """A matrix product on this thread alone.

    After numpy's own, the threads of its BLAS library spin for some 60 ms, which they take from the training step.
    """
    product: NDArray[np.float32] = cv2.gemm(a, b, 1.0, None, 0.0)
    return product


def deform(window: Example, field: ElasticField, pad: tuple[int, int, int]) -> Example:
    """The deformed inner square of a window.

    Args:
        window: Square, with `field.margin` px more than the field's square on every side.
        field: The displacement.
        pad: RGB value of what lies outside the window.

    Returns:
        An example of the field's side; its points are at sub-pixel position still.

    Raises:
        ValueError: The window has not this margin.
    """
    margin = field.margin
    if window.image.shape[:2] != (field.side + 2 * margin,) * 2:
        raise ValueError(
            f"{window.name}: a window of {window.image.shape[:2]} px must be {field.side} px and {margin} px more "
            "on every side"
        )
    x, y = field.sources()
    # OpenCV counts from the centre of the first pixel.
    x += margin - 0.5
    y += margin - 0.5

    def nearest(values: NDArray[Any], outside: int) -> NDArray[Any]:
        gone: NDArray[Any] = cv2.remap(values, x, y, cv2.INTER_NEAREST, None, cv2.BORDER_CONSTANT, outside)
        return gone

    moved = field.moved(np.concatenate([window.points, window.negatives]) - np.float32(margin))
    # Cubic, since linear interpolation would blur what the network sees sharp when it is used.
    image = cv2.remap(window.image, x, y, cv2.INTER_CUBIC, None, cv2.BORDER_CONSTANT, pad)
    return replace(
        window,
        image=image,
        regions=nearest(window.regions, IGNORE_LABEL),
        complete=nearest(window.complete, 0),
        ignored=nearest(window.ignored.view(np.uint8), 1).view(np.bool_),
        points=moved[: len(window.points)],
        negatives=moved[len(window.points) :],
    )
