"""From heat maps to cells: local maxima, sub-pixel places, one cell where two classes claim a place.

Stands behind the network: heat maps of a tile come in, candidates go to the bridge's journal; the whole
image's candidates come back for `suppress_across_classes`. Every rule here is *local*: whether a pixel is a
peak, or a cell stays, depends on what lies within the radius and on nothing else, neither on the order of the
work nor on where a tile ends. That is what makes tiled results equal untiled ones (greedy variants are not
local).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_AT_ONCE: Final = 512
"""Pixels whose discs are looked at together: neighbours, which the cache holds."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Peaks of the heat maps from the floor on, a struct of n-long arrays, sorted by (row, col, class).

    Attributes:
        pixels: int32 (n, 2), the peak's pixel (row, col) on the model's grid.
        xy: float64 (n, 2), its sub-pixel place (x, y) on the model's grid, pixel (0, 0)'s centre at (0.5,
            0.5).
        class_index: uint8 (n,), index of the cell class.
        scores: float32 (n, cell class), the unclamped heat of every class at the peak's pixel.
    """

    pixels: NDArray[np.int32]
    xy: NDArray[np.float64]
    class_index: NDArray[np.uint8]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.class_index)

    @property
    def score(self) -> NDArray[np.float32]:
        """float32 (n,), the heat of the peak's own class."""
        return self.scores[np.arange(len(self)), self.class_index]

    def take(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> Candidates:
        """Some of them, by a mask or by places.

        >>> Candidates.none(1).take(np.zeros(0, bool)).scores.shape
        (0, 1)
        """
        return Candidates(self.pixels[index], self.xy[index], self.class_index[index], self.scores[index])

    def in_order(self) -> Candidates:
        """The same, sorted by (row, col, class)."""
        return self.take(np.lexsort((self.class_index, self.pixels[:, 1], self.pixels[:, 0])))

    @staticmethod
    def none(classes: int) -> Candidates:
        """No candidate of a model with `classes` cell classes."""
        return Candidates(
            np.zeros((0, 2), np.int32),
            np.zeros((0, 2), np.float64),
            np.zeros(0, np.uint8),
            np.zeros((0, classes), np.float32),
        )

    @staticmethod
    def joined(parts: Iterable[Candidates], classes: int) -> Candidates:
        """Several after each other, sorted.

        >>> len(Candidates.joined([], 2))
        0
        """
        every = [Candidates.none(classes), *parts]
        return Candidates(
            np.concatenate([part.pixels for part in every]),
            np.concatenate([part.xy for part in every]),
            np.concatenate([part.class_index for part in every]),
            np.concatenate([part.scores for part in every]),
        ).in_order()


def peaks(
    heat: NDArray[np.float32], radius_px: float, floor: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pixels that are the maximum of their disc (METHOD, "After the network": non-maximum suppression).

    A pixel p is a peak if and only if its heat is at least `floor` and, for every other pixel q whose centre
    lies within the radius, heat(q) < heat(p), or they are equal and p comes first in row order. So of a
    plateau that fits in the disc the first pixel in row order is the one peak, two peaks are never within the
    radius of each other, and a plateau wider than the disc gives the pixels that have no equal before them in
    their disc.

    Args:
        heat: float32 (row, col), unclamped; -inf where no peak may be.
        radius_px: Radius of the disc in px; less than 1 counts as 1.
        floor: Peaks below are not found.

    Returns:
        Rows and columns of the peaks, in row order.

    >>> heat = np.zeros((5, 5), np.float32); heat[1:3, 1:3] = 0.9
    >>> peaks(heat, 2.0, 0.5)
    (array([1]), array([1]))
    """
    reach, half_side = disc_reach(radius_px), int(max(radius_px, 1.0) / np.sqrt(2))
    if heat.size == 0 or not heat.max() >= floor:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    # A peak is the maximum of every square inside its disc. A square's maximum is cheap, and leaves few pixels.
    found = heat >= cv2.dilate(heat, np.ones((2 * half_side + 1, 2 * half_side + 1), np.uint8))
    found &= heat >= np.float32(floor)
    rows, cols = np.divmod(np.flatnonzero(found), heat.shape[1])
    # Nothing from outside the array takes part: -inf is never higher than a peak.
    padded = cv2.copyMakeBorder(heat, *(reach,) * 4, cv2.BORDER_CONSTANT, value=-np.inf)
    place = (rows + reach) * padded.shape[1] + cols + reach
    before, after = _disc(radius_px, half_side)
    # The pixel to the left alone settles plateaus, of which each pixel is its square's maximum.
    place = place[_highest(padded, place, before[:1], after[:0])]
    place = place[_highest(padded, place, before, after)]
    rows, cols = np.divmod(place, padded.shape[1])
    return rows - reach, cols - reach


def _disc(radius_px: float, half_side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where a disc's pixels lie from its centre: those before it in row order, and those after it.

    The first is the one to the left. Of those after the centre, the ones within the square are left out.

    Returns:
        Two arrays (n, 2), rows and columns.
    """
    reach = disc_reach(radius_px)
    steps = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    steps = steps[(steps**2).sum(axis=1) <= max(radius_px, 1.0) ** 2]
    centre = len(steps) // 2
    after = steps[centre + 1 :]
    return steps[:centre][::-1], after[np.abs(after).max(axis=1) > half_side]


def _highest(
    padded: NDArray[np.float32], place: NDArray[np.intp], before: NDArray[np.intp], after: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Which pixels are higher than all those before them, and no lower than those after."""
    flat, width = padded.ravel(), padded.shape[1]
    steps = np.concatenate([before, after]) @ np.array([width, 1])
    stays = np.empty(len(place), np.bool_)
    for start in range(0, len(place), _AT_ONCE):
        some = place[start : start + _AT_ONCE]
        around, height = flat.take(some[:, None] + steps, mode="clip"), flat[some, None]
        stays[start : start + _AT_ONCE] = (around[:, : len(before)] < height).all(axis=1) & (
            around[:, len(before) :] <= height
        ).all(axis=1)
    return stays


def disc_reach(radius_px: float) -> int:
    """How many pixels beside a pixel `peaks` (and `subpixel`) looks at.

    >>> disc_reach(6.17), disc_reach(0.3)
    (6, 1)
    """
    return max(1, int(radius_px))


def subpixel(
    heat: NDArray[np.float32], rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Where a parabola through a peak and its two neighbours has its top; each axis alone.

    Args:
        heat: float32 (row, col).
        rows: Rows of the peaks.
        cols: Columns of the peaks.

    Returns:
        float64 (n, 2), (x, y) in px of the array, a pixel's centre at + 0.5, at most 0.5 px away from it. At
        the array's edge, beside -inf and on a flat top an axis keeps the centre.

    >>> subpixel(np.array([[0, 1, 1, 0]], np.float32), np.array([0]), np.array([1]))
    array([[2. , 0.5]])
    """
    centre = heat[rows, cols].astype(np.float64)
    offsets = []
    for axis, place in ((1, cols), (0, rows)):
        last = heat.shape[axis] - 1
        step = np.array([axis == 0, axis == 1], np.intp)
        inside = (place > 0) & (place < last)
        lower = heat[np.maximum(rows - step[0], 0), np.maximum(cols - step[1], 0)].astype(np.float64)
        upper = heat[
            np.minimum(rows + step[0], heat.shape[0] - 1), np.minimum(cols + step[1], heat.shape[1] - 1)
        ].astype(np.float64)
        inside &= np.isfinite(lower) & np.isfinite(upper)
        bend = np.where(inside, 2 * centre - lower - upper, 0.0)
        slope = np.where(inside, upper - lower, 0.0)
        shift = np.divide(slope, 2 * bend, out=np.zeros_like(centre), where=bend > 0)
        offsets.append(place + 0.5 + np.clip(shift, -0.5, 0.5))
    return np.stack(offsets, axis=1)


def suppress_across_classes(candidates: Candidates, radius_px: float) -> NDArray[np.bool_]:
    """Which cells stay where cells of different classes lie within one radius of each other.

    A cell goes if and only if a cell of another class within the radius has a higher score, or the same score
    and a lower class index. The rule is local, not greedy: a cell goes also when the one that outdoes it goes
    itself (METHOD, "Across classes"). Distances are between peak pixels, which rounding does not move.

    Args:
        candidates: Those that count as cells: each at or above the threshold of its class.
        radius_px: In px of the model's grid.

    Returns:
        bool (n,), True for those that stay.

    >>> pair = Candidates(np.array([[0, 0], [0, 2]], np.int32), np.zeros((2, 2)), np.array([0, 1], np.uint8),
    ...                   np.array([[0.9, 0.1], [0.2, 0.7]], np.float32))
    >>> suppress_across_classes(pair, 3.0), suppress_across_classes(pair, 1.0)
    (array([ True, False]), array([ True,  True]))
    """
    stays = np.ones(len(candidates), np.bool_)
    if len(candidates) < 2:
        return stays
    pairs = cKDTree(candidates.pixels).query_pairs(radius_px, output_type="ndarray")
    kind = candidates.class_index
    first, second = pairs[kind[pairs[:, 0]] != kind[pairs[:, 1]]].T
    score = candidates.score
    first_wins = (score[first] > score[second]) | (
        (score[first] == score[second]) & (kind[first] < kind[second])
    )
    stays[np.where(first_wins, second, first)] = False
    return stays
