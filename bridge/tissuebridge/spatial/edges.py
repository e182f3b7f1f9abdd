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
from shapely.geometry.base import BaseGeometry

from tissuebridge.spatial.borders import edges_of
from tissuebridge.spatial.covariance import Covariance
from tissuebridge.spatial.window import Window

MAX_WEIGHT: Final = 100.0

_MAX_EDGES: Final = 1000
"""Windows with more edges are simplified for the isotropic correction, until this many are left."""
_AT_ONCE: Final = 2_000_000
"""Pairs of a circle and an edge that are looked at together."""


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
        owner = np.arange(len(near))
        arcs = self._arc_inside(centres[near], owner, np.full(len(near), radius_um))
        areas[near] = radius_um**2 * arcs / 2 + self._chords(centres[near], radius_um)
        return areas

    def _clearance(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.window.is_rectangle:
            return self._to_sides(centres).min(axis=0)
        # A distance beyond 100 um may come out half a micrometre long (`borders`).
        return self.window.border_distance(centres) - 1.0

    @cached_property
    def _covariance(self) -> Covariance:
        return Covariance.of(self.window.area, self.r_max_um)

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        return edges_of(simplified(self.window.area, _MAX_EDGES))

    def _to_sides(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance to a rectangle's left, top, right and bottom, (4, n), um."""
        left, top, right, bottom = self.window.area.bounds
        x, y = centres.T
        return np.stack([x - left, y - top, right - x, bottom - y])

    def _near(
        self, centres: NDArray[np.float64], reach_um: float
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Edges within reach of each centre: (where each centre's list starts (n + 1,), edges)."""
        tree = shapely.STRtree(np.asarray(shapely.linestrings(self._edges.reshape(-1, 2, 2))))
        centre, edge = tree.query(shapely.points(centres), predicate="dwithin", distance=reach_um)
        order = np.argsort(centre, kind="stable")
        counts = np.bincount(centre, minlength=len(centres))
        return np.concatenate([[0], np.cumsum(counts)]), edge[order]

    def _arc_inside(
        self, centres: NDArray[np.float64], owner: NDArray[np.intp], radii: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """How much of each circle lies in the window, radians in [0, 2 pi]."""
        if self.window.is_rectangle:
            return _arc_in_rectangle(self._to_sides(centres)[:, owner] / radii)
        used, place = np.unique(owner, return_inverse=True)
        starts, edges = self._near(centres[used], float(radii.max()))
        many = (starts[1:] - starts[:-1])[place]
        arcs = np.zeros(len(radii))
        bound = np.concatenate([[0], np.cumsum(many)])
        for first, last in _pieces(bound, _AT_ONCE):
            pair = np.repeat(np.arange(first, last), many[first:last])
            offset = np.arange(len(pair)) - (bound[pair] - bound[first])
            edge = self._edges[edges[starts[place[pair]] + offset]]
            centre = centres[used[place[pair]]]
            angles = _turns(edge[:, :2] - centre, edge[:, 2:] - centre, radii[pair])
            arcs[first:last] = np.bincount(pair - first, angles, last - first)
        # Whatever the signed sum is, it is right up to whole turns; a circle cut by nothing is whole.
        arcs = np.mod(arcs, 2 * np.pi)
        return np.where(arcs < 1e-9, 2 * np.pi, arcs)

    def _chords(self, centres: NDArray[np.float64], radius_um: float) -> NDArray[np.float64]:
        """The window's edges' part in the area of each disc, um^2."""
        starts, edges = self._near(centres, radius_um)
        owner = np.repeat(np.arange(len(centres)), starts[1:] - starts[:-1])
        start = self._edges[edges, :2] - centres[owner]
        step = self._edges[edges, 2:] - self._edges[edges, :2]
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


def simplified(outline: BaseGeometry, most: int) -> BaseGeometry:
    """The outline with at most about so many edges, as far as a tolerance of 20 um allows."""
    tolerance_um = 0.25
    while shapely.get_num_coordinates(outline) > most and tolerance_um <= 20:
        outline = shapely.simplify(outline, tolerance_um)
        tolerance_um *= 2
    return outline
