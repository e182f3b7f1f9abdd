"""Outlines of a label map's regions: traced along pixel borders, their steps cut, simplified on request.

Under `vectorize`: one block of the map comes in, its regions as rings in px of the block (x, y) go out.
All that is done to a border is done alike to the regions on both of its sides: no gaps, no overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry import Polygon

from tissuemodel.labels import IGNORE_LABEL

CUT: Final = 0.5
"""Corners are cut from the middle of one pixel side to the middle of the next, in px: no centre changes sides, and
no point of a border moves further than 0.36 px."""


@dataclass(frozen=True, slots=True)
class Rings:
    """The rings of n polygons without their closing points, one after the other: as arrays, for work in bulk.

    Attributes:
        xy: float64 (points, 2).
        sizes: int64 (rings,), points of each ring.
        counts: int64 (n,), rings of each polygon; the first is its outside.
    """

    xy: NDArray[np.float64]
    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def of(cls, polygons: NDArray[np.object_]) -> Self:
        """Those of n shapely polygons."""
        _, xy, (ring_ends, polygon_ends) = shapely.to_ragged_array(polygons)
        closing = np.zeros(len(xy), np.bool_)
        closing[ring_ends[1:] - 1] = True
        return cls(xy[~closing], _lengths(ring_ends) - 1, _lengths(polygon_ends))

    @classmethod
    def joined(cls, several: Sequence[Self]) -> Self:
        """All of several, in their order."""
        fields = [[getattr(rings, field) for rings in several] for field in ("xy", "sizes", "counts")]
        return cls(*(np.concatenate(values) for values in fields))

    def polygons(self) -> NDArray[np.object_]:
        """All n as shapely polygons."""
        offsets = np.concatenate([[0], np.cumsum(self.sizes + 1)])
        closing = np.zeros(int(offsets[-1]), np.bool_)
        closing[offsets[1:] - 1] = True
        closed = np.empty((len(closing), 2))
        closed[~closing], closed[closing] = self.xy, self.xy[self.starts]
        polygon_ends = np.concatenate([[0], np.cumsum(self.counts)])
        made = shapely.from_ragged_array(shapely.GeometryType.POLYGON, closed, (offsets, polygon_ends))
        return np.asarray(made)

    @property
    def starts(self) -> NDArray[np.int64]:
        """The index of each ring's first point, int64 (rings,)."""
        return np.asarray(np.cumsum(self.sizes) - self.sizes)

    @property
    def points(self) -> NDArray[np.int64]:
        """Points of each polygon, int64 (n,)."""
        return np.add.reduceat(self.sizes, self._outsides) if len(self) else self.sizes

    @property
    def owners(self) -> NDArray[np.int64]:
        """The polygon of each point, int64 (points,)."""
        return np.repeat(np.arange(len(self)), self.points)

    @property
    def _outsides(self) -> NDArray[np.int64]:
        """The index of each polygon's first ring."""
        return np.asarray(np.cumsum(self.counts) - self.counts)

    def areas(self) -> NDArray[np.float64]:
        """Of the polygons, float64 (n,)."""
        if len(self) == 0:
            return np.zeros(0)
        before, after = self.neighbours()
        twice = self.xy[:, 0] * (self.xy[after, 1] - self.xy[before, 1])
        of_rings = np.abs(np.add.reduceat(twice, self.starts)) / 2
        return np.asarray(2 * of_rings[self._outsides] - np.add.reduceat(of_rings, self._outsides))

    def neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The indices of the point before each and of the one after, round the ring, int64 (points,)."""
        index = np.arange(len(self.xy))
        before, after, firsts = index - 1, index + 1, self.starts
        lasts = firsts + self.sizes - 1
        before[firsts], after[lasts] = lasts, firsts
        return before, after

    def take(self, wanted: NDArray[np.bool_]) -> Self:
        """The polygons that are wanted."""
        return type(self)(
            self.xy[wanted[self.owners]], self.sizes[np.repeat(wanted, self.counts)], self.counts[wanted]
        )

    def keeping(self, kept: NDArray[np.bool_]) -> Self:
        """The rings without the points that are not kept."""
        return type(self)(self.xy[kept], np.add.reduceat(kept, self.starts, dtype=np.int64), self.counts)

    def turns(self) -> NDArray[np.bool_]:
        """Whether the border turns in each point, bool (points,)."""
        before, after = self.neighbours()
        one, other = self.xy - self.xy[before], self.xy[after] - self.xy
        return np.asarray(one[:, 0] * other[:, 1] != one[:, 1] * other[:, 0])

    def without_points_on_axes(self) -> Self:
        """The rings without points in the middle of upright or level lines.

        Points in the middle of slopes stay: without them, the rounding of coordinates would part neighbours.
        """
        before, after = self.neighbours()
        return self.keeping(~((self.xy[before] == self.xy) & (self.xy[after] == self.xy)).any(axis=1))


def trace(labels: NDArray[np.uint8], *, also_ignored: bool = False) -> tuple[Rings, NDArray[np.uint8]]:
    """The connected components of a block along pixel borders, corners only.

    Args:
        labels: uint8 (row, col).
        also_ignored: Give what is `IGNORE_LABEL`, too.

    Returns:
        n polygons and, uint8 (n,), their labels.
    """
    corners: list[tuple[float, float]] = []
    ring_ends, counts, classes = [0], [], []
    wanted = None if also_ignored else labels != IGNORE_LABEL
    for geometry, value in shapes(labels, mask=wanted, connectivity=4):
        rings = geometry["coordinates"]
        for ring in rings:
            corners += ring
            corners.pop()  # the first once more
            ring_ends.append(len(corners))
        counts.append(len(rings))
        classes.append(int(value))
    flat = np.fromiter(chain.from_iterable(corners), np.float64, 2 * len(corners)).reshape(-1, 2)
    return Rings(flat, np.diff(ring_ends), np.array(counts, np.int64)), np.array(classes, np.uint8)


def cut_corners(rings: Rings, labels: NDArray[np.uint8]) -> Rings:
    """The polygons with the steps of their borders cut: a border of steps becomes a slope.

    Corners where three regions meet, or two touch, and those on the block's frame stay. The pixel-centre
    rule gives the same pixels as before, and polygons stay valid.

    Args:
        rings: Of `trace`, in px of the block; more points on the borders than corners are taken as they are.
        labels: The block.
    """
    if len(rings) == 0:
        return rings
    cut = _cut(rings, _stays(rings.xy, labels))
    return cut.keeping(cut.turns())


def simplify(rings: Rings, labels: NDArray[np.uint8], tolerance_px: float) -> Rings:
    """Like `cut_corners`, then with fewer corners; the block's frame stays.

    Args:
        rings: All of the block, also what is ignored.
        labels: The block.
        tolerance_px: Root of the area that a removed corner may have, as `shapely.coverage_simplify` has it.
    """
    # A coverage's neighbours have all points of their common borders in common.
    dense = Rings.of(shapely.segmentize(rings.polygons(), 1.0))
    cut = _cut(dense, _stays(dense.xy, labels))
    corner_stays = (cut.xy % 1 == 0).all(axis=1)  # cut ones are not whole numbers
    cut = cut.keeping(cut.turns() | corner_stays)
    fewer = shapely.coverage_simplify(cut.polygons(), tolerance_px, simplify_boundary=False)
    return Rings.of(fewer).without_points_on_axes()


def on_frame(rings: Rings, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which polygons touch the frame of their block of (rows, columns), bool (n,)."""
    found = np.zeros(len(rings), np.bool_)
    touching = ((rings.xy == 0) | (rings.xy == shape[1::-1])).any(axis=1)
    found[rings.owners[touching]] = True
    return found


def unite(parts: Sequence[Polygon]) -> Polygon:
    """One polygon of parts that have pieces of grid lines in common.

    Raises:
        ValueError: They do not touch.
    """
    united = shapely.union_all(parts)
    if not isinstance(united, Polygon):
        raise ValueError(f"{len(parts)} parts of a region make a {united.geom_type}: they do not touch")
    found: Polygon = Rings.of(np.array([united], np.object_)).without_points_on_axes().polygons()[0]
    return found


def _lengths(ends: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.asarray(np.diff(ends), np.int64)


def _cut(rings: Rings, stays: NDArray[np.bool_]) -> Rings:
    """The rings with the middles of the pixel sides before and after each corner that does not stay, in its place."""
    before, after = rings.neighbours()
    ahead = rings.xy[after] - rings.xy
    side = np.abs(ahead).sum(axis=1)
    middle_after = rings.xy + CUT * ahead / side[:, None]
    middle_before = rings.xy - (CUT * ahead / side[:, None])[before]
    # On a side of one pixel, the middle after a corner is the one before the next.
    is_new = ~stays & (stays | (side != 1.0))[before]
    points = np.stack([middle_before, rings.xy, middle_after], axis=1)
    used = np.stack([is_new, stays, ~stays], axis=1)
    return Rings(points[used], np.add.reduceat(used.sum(axis=1), rings.starts), rings.counts)


def _stays(corners: NDArray[np.float64], labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether more than two sides of pixels meet in a corner, or it lies on the block's frame."""
    col, row = corners.astype(np.int64).T
    height, width = labels.shape
    on_frame = (row == 0) | (row == height) | (col == 0) | (col == width)
    below, right = np.minimum(row, height - 1), np.minimum(col, width - 1)
    above, left = np.maximum(row - 1, 0), np.maximum(col - 1, 0)
    # The four pixels round the corner, in circular order.
    around = [labels[above, left], labels[above, right], labels[below, right], labels[below, left]]
    sides = sum((around[k] != around[k - 1]).astype(np.int8) for k in range(4))
    return np.asarray(on_frame | (sides > 2))
