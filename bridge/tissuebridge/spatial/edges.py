"""Edge corrections: what a pair of cells counts for, since the window hides others like it.

For a pair at distance d with the offset h = y - x, in a window W:

- translation (Ohser 1983, https://doi.org/10.1080/02331888308801687): e = |W| / |W intersected with W moved by h|. In
  rectangles a product; in polygons from a table over angle and length (`covariance`);
- isotropic (Ripley 1977, https://doi.org/10.1111/j.2517-6161.1977.tb01615.x): e = 1 / (share of the circle round x
  through y that lies in W), exact in any polygon. An edge that leaves the disc is where the circle, counter-clockwise,
  enters the window, and one that comes into the disc is where it leaves it, so the arc inside is a signed sum of
  angles. In rectangles a closed form (Goreaud & Pelissier 1999, https://doi.org/10.2307/3237072).

Weights are cut at 100, as spatstat does: one pair must not decide a function.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.spatial.borders import edges_of
from tissuebridge.spatial.covariance import Covariance
from tissuebridge.spatial.window import Window

MAX_WEIGHT: Final = 100.0

_AT_ONCE: Final = 200_000
"""Circles that are looked at together, a centre as so many more as may have edges near, so that memory stays small."""
_EDGES_NEAR: Final = 100
_SLACK_UM: Final = 1e-6
"""Edges that come so near to a circle are asked whether they cut it: more than what rounding moves it by."""


class Correction(StrEnum):
    """How the window's edge is corrected for."""

    BORDER = "border"
    TRANSLATION = "translation"
    ISOTROPIC = "isotropic"


@dataclass(frozen=True, eq=False)
class EdgeWeights:
    """Weights of pairs in a window.

    Attributes:
        window: Where.
        r_max_um: The largest distance that is asked for.
    """

    window: Window
    r_max_um: float

    def translation(self, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """The translation correction of pairs.

        Args:
            offsets: float64 (n, 2), um, none longer than `r_max_um`.

        Returns:
            float64 (n,), at least 1.

        >>> weights = EdgeWeights(Window.of(shapely.box(0, 0, 10, 10)), 5)
        >>> weights.translation(np.array([[5.0, 0.0], [-2.0, 2.0]])).round(4).tolist()
        [2.0, 1.5625]
        """
        if self.window.is_rectangle:
            left, top, right, bottom = self.window.area.bounds
            common = np.maximum(np.array([right - left, bottom - top]) - np.abs(offsets), 0).prod(axis=1)
        else:
            common = self._covariance.at(offsets)
        area = self.window.area_um2
        return np.asarray(np.clip(area / np.maximum(common, area / MAX_WEIGHT), 1, MAX_WEIGHT))

    def isotropic(
        self, centres: NDArray[np.float64], owner: NDArray[np.intp], distances: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The isotropic correction of pairs.

        Args:
            centres: float64 (n, 2), the points that circles are drawn round, um.
            owner: int (m,), the centre of each pair.
            distances: float64 (m,), um, none longer than `r_max_um`.

        Returns:
            float64 (m,), at least 1.
        """
        weights = np.ones(len(distances))
        cut = np.flatnonzero(distances > self._clearance(centres)[owner])
        if len(cut):
            share = self._arc_inside(centres, owner[cut], distances[cut]) / (2 * np.pi)
            weights[cut] = np.clip(1 / np.maximum(share, 1 / MAX_WEIGHT), 1, MAX_WEIGHT)
        return weights

    def disc_areas(self, centres: NDArray[np.float64], radius_um: float) -> NDArray[np.float64]:
        """The area of a disc round each centre that lies in the window, exact (Green's theorem).

        Returns:
            float64 (n,), um^2.

        >>> weights = EdgeWeights(Window.of(shapely.box(0, 0, 10, 10)), 5)
        >>> (weights.disc_areas(np.array([[5.0, 5.0], [0.0, 5.0]]), 4.0) / np.pi).round(4).tolist()
        [16.0, 8.0]
        """
        areas = np.full(len(centres), np.pi * radius_um**2)
        near = np.flatnonzero(self._clearance(centres) < radius_um)
        if not len(near):
            return areas
        for first, last in _pieces(np.arange(len(near) + 1) * _EDGES_NEAR, _AT_ONCE):
            some = near[first:last]
            arcs = self._arc_inside(centres[some], np.arange(len(some)), np.full(len(some), radius_um))
            areas[some] = radius_um**2 * arcs / 2 + self._chords(centres[some], radius_um)
        return areas

    def _clearance(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.window.is_rectangle:
            return np.asarray(self._to_sides(centres).min(axis=0))
        # A distance beyond 100 um may come out half a micrometre long (`borders`).
        return self.window.border_distance(centres) - 1.0

    @cached_property
    def _covariance(self) -> Covariance:
        return Covariance.of(self.window.area, self.r_max_um)

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        return edges_of(self.window.area)

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(np.asarray(shapely.linestrings(self._edges.reshape(-1, 2, 2))))

    def _to_sides(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance to a rectangle's left, top, right and bottom, (4, n), um."""
        left, top, right, bottom = self.window.area.bounds
        x, y = centres.T
        return np.stack([x - left, y - top, right - x, bottom - y])

    def _near(
        self, centres: NDArray[np.float64], reach_um: float
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Edges round each centre, at least those within reach: (centre (n,), edges relative to it (n, 4))."""
        centre, edge = self._tree.query(shapely.box(*(centres - reach_um).T, *(centres + reach_um).T))
        return centre, self._edges[edge] - np.tile(centres, 2)[centre]

    def _arc_inside(
        self, centres: NDArray[np.float64], owner: NDArray[np.intp], radii: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """How much of each circle lies in the window, radians in [0, 2 pi]."""
        if self.window.is_rectangle:
            return _arc_in_rectangle(self._to_sides(centres)[:, owner] / radii)
        order = np.lexsort((radii, owner))
        used, counts = np.unique(owner, return_counts=True)
        bound = np.concatenate([[0], np.cumsum(counts)])
        arcs = np.zeros(len(radii))
        for first, last in _pieces(bound + _EDGES_NEAR * np.arange(len(bound)), _AT_ONCE):
            circles = order[bound[first] : bound[last]]
            place = np.repeat(np.arange(last - first), counts[first:last])
            arcs[circles] = self._turned(centres[used[first:last]], place, radii[circles])
        # Whatever the signed sum is, it is right up to whole turns; a circle cut by nothing is whole.
        arcs = np.mod(arcs, 2 * np.pi)
        return np.where(arcs < 1e-9, 2 * np.pi, arcs)

    def _turned(
        self, centres: NDArray[np.float64], place: NDArray[np.intp], radii: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The signed sum of angles of each circle; circles in the order of their centres, then of their radii."""
        reach_um = float(radii.max())
        centre, edges = self._near(centres, reach_um)
        start, end = edges[:, :2], edges[:, 2:]
        nearest, farthest = _span(start, end)
        # An edge cuts a run of its centre's circles, which is few of them where edges are short.
        apart_um = 2 * reach_um + 1
        keys, key = apart_um * place + radii, apart_um * centre
        first = np.searchsorted(keys, key + nearest - _SLACK_UM)
        last = np.searchsorted(keys, key + np.minimum(farthest, reach_um) + _SLACK_UM)
        cuts = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(cuts)), cuts)
        circle = np.arange(len(edge)) - np.repeat(np.cumsum(cuts) - cuts - first, cuts)
        angles = _turns(start[edge], end[edge], radii[circle])
        return np.asarray(np.bincount(circle, angles, len(radii)), np.float64)

    def _chords(self, centres: NDArray[np.float64], radius_um: float) -> NDArray[np.float64]:
        """The window's edges' part in the area of each disc, um^2."""
        owner, edges = self._near(centres, radius_um)
        start, step = edges[:, :2], edges[:, 2:] - edges[:, :2]
        low, high, is_cut = _roots(start, step, np.full(len(owner), radius_um))
        low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
        twice = np.where(is_cut, (high - low) * (start[:, 0] * step[:, 1] - start[:, 1] * step[:, 0]), 0)
        return np.asarray(np.bincount(owner, twice / 2, len(centres)), np.float64)


def _arc_in_rectangle(sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each circle lies in a rectangle, radians in [0, 2 pi].

    Beyond a side at distance a lie 2 acos(a / r); beyond two that meet acos(a / r) + acos(b / r) - pi / 2, if the
    circle reaches round their corner, and would be taken away twice.

    Args:
        sides: float64 (4, n), the distance to each side round the rectangle over the circle's radius, none negative.
    """
    half = np.arccos(np.minimum(sides, 1))
    corners = np.maximum(half + np.roll(half, 1, axis=0) - np.pi / 2, 0)
    return np.asarray(np.maximum(2 * np.pi - 2 * half.sum(axis=0) + corners.sum(axis=0), 0))


def _roots(
    start: NDArray[np.float64], step: NDArray[np.float64], radii: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Where lines cross circles round the origin: shares of the step, and whether they do."""
    a, b = (step * step).sum(1), (start * step).sum(1)
    under = b * b - a * ((start * start).sum(1) - radii**2)
    root = np.sqrt(np.maximum(under, 0))
    return (-b - root) / a, (-b + root) / a, under > 0


def _span(
    start: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the nearest and the farthest place of each edge are from the origin."""
    step = end - start
    along = np.clip(-(start * step).sum(1) / (step * step).sum(1), 0, 1)
    foot = start + along[:, None] * step
    return np.hypot(*foot.T), np.maximum(np.hypot(*start.T), np.hypot(*end.T))


def _turns(
    start: NDArray[np.float64], end: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each edge adds to the arc inside: angles where the circle leaves the window less those where it enters.

    Whether an edge crosses is decided by its ends alone where they lie on different sides, so that two edges that
    share an end never disagree.
    """
    starts_in = (start * start).sum(1) <= radii**2
    ends_in = (end * end).sum(1) <= radii**2
    step = end - start
    low, high, is_cut = _roots(start, step, radii)
    through = ~starts_in & ~ends_in & is_cut & (low > 0) & (high < 1)
    into, out = (~starts_in & ends_in) | through, (starts_in & ~ends_in) | through
    return np.where(into, _angle(start, step, low), 0) - np.where(out, _angle(start, step, high), 0)


def _angle(
    start: NDArray[np.float64], step: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    place = start + np.clip(share, 0, 1)[:, None] * step
    return np.asarray(np.arctan2(place[:, 1], place[:, 0]))


def _pieces(bound: NDArray[np.intp], most: int) -> list[tuple[int, int]]:
    """Cuts a list of lists into runs of at most `most` entries together, but at least one list."""
    pieces, first = [], 0
    while first < len(bound) - 1:
        last = int(np.searchsorted(bound, bound[first] + most, "right")) - 1
        last = max(last, first + 1)
        pieces.append((first, last))
        first = last
    return pieces
