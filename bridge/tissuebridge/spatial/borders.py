"""Exact distances from many points to the outlines of polygons.

Outlines come in as shapely geometries in um, go out as an array of short straight pieces with a tree over their ends.
Of a piece of length l at distance d, an end is nearer than sqrt(d^2 + l^2 / 4): so the k-th nearest end says how near
a piece that was not looked at can be at most, and the answer is known to be right to `TOLERANCE_UM` at the price of a
look-up of points. Farther away than `NEAR_UM`, where a tree would visit a whole rough outline, ends that lie close
together count as one. Reference for the tree: Maneewongvatana & Mount 1999, https://arxiv.org/abs/cs/9901013.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree
from shapely.geometry.base import BaseGeometry

TOLERANCE_UM: Final = 0.005
"""No distance up to `NEAR_UM` is further off than this; most are exact."""

NEAR_UM: Final = 100.0
FAR_TOLERANCE_UM: Final = 0.6
"""Greater distances than `NEAR_UM` are at most this much too long."""

_THINNED_UM: Final = 0.5

_NEIGHBOURS: Final = (1, 4, 16, 64)
"""How many ends of pieces are looked at, in rounds: most points are settled by the first ones."""

_LONGEST_PIECE_UM: Final = 8.0
_MIN_PIECES: Final = 2048
"""Edges are cut into pieces of at most 8 um, or shorter where these would be fewer than 2,048."""

_IN_A_BOX: Final = 16

_AT_ONCE: Final = 200_000
"""Points looked up together, so that memory does not grow with the cells."""


@dataclass(frozen=True, eq=False)
class Border:
    """Straight pieces that a distance is measured to.

    Attributes:
        pieces: float64 (n, 4), x and y of the start and of the end of each, in um; n may be 0.
    """

    pieces: NDArray[np.float64]

    @staticmethod
    def of(geometry: BaseGeometry) -> Border:
        """The outline of polygons (holes too), or lines as they are.

        >>> len(Border.of(shapely.box(0, 0, 2, 1)).pieces)
        4
        """
        return Border(edges_of(geometry))

    @cached_property
    def length_um(self) -> float:
        """The length of all pieces together, in um."""
        return float(np.hypot(*(self.pieces[:, 2:] - self.pieces[:, :2]).T).sum())

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance of each point to the nearest piece.

        Args:
            points: float64 (n, 2), um.

        Returns:
            float64 (n,), um; infinite where there is no border at all.

        >>> Border.of(shapely.box(0, 0, 10, 10)).distance(np.array([[5.0, 2.0], [13.0, 14.0]])).tolist()
        [2.0, 5.0]
        """
        if not len(self.pieces):
            return np.full(len(points), np.inf)
        found, order = np.empty(len(points)), _neighbours_together(points)
        for start in range(0, len(points), _AT_ONCE):
            some = order[start : start + _AT_ONCE]
            found[some] = self._distance(points[some])
        return found

    def _distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        found = self._thinned.query(points, workers=-1)[0]
        left = np.flatnonzero(found < NEAR_UM + FAR_TOLERANCE_UM)
        tree, pieces_at = self._ends
        for k in (min(k, tree.n) for k in _NEIGHBOURS):
            if not len(left):
                return np.asarray(found)
            end_um, near = tree.query(points[left], k=[k] if k == 1 else k, workers=-1)
            pieces = self._cut[pieces_at[near].reshape(len(left), -1)]
            found[left] = np.minimum(found[left], _to_pieces(points[left, None, :], pieces).min(axis=1))
            others_um = np.sqrt(np.maximum(end_um[:, -1] ** 2 - self._half_um**2, 0))
            left = left[(others_um < found[left] - TOLERANCE_UM) & (k < tree.n)]
        if len(left):
            found[left] = self._by_boxes(points[left])
        return np.asarray(found)

    def _by_boxes(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same by a tree of the pieces' boxes: slower, whatever lies how."""
        geometry = shapely.points(points)
        pairs, found = self._boxes.query_nearest(geometry, return_distance=True, all_matches=False)
        distances = np.empty(len(points))
        distances[pairs[0]] = found
        return distances

    @cached_property
    def _cut(self) -> NDArray[np.float64]:
        """The pieces, the long ones cut, so that middles say where pieces are."""
        lengths = np.hypot(*(self.pieces[:, 2:] - self.pieces[:, :2]).T)
        longest_um = max(min(lengths.sum() / _MIN_PIECES, _LONGEST_PIECE_UM), 1e-9)
        times = np.maximum(np.ceil(lengths / longest_um), 1).astype(int)
        index = np.repeat(np.arange(len(times)), times)
        place = np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)
        start, step = self.pieces[index, :2], (self.pieces[:, 2:] - self.pieces[:, :2])[index]
        share = (place / times[index])[:, None]
        next_share = ((place + 1) / times[index])[:, None]
        return np.hstack([start + share * step, start + next_share * step])

    @cached_property
    def _half_um(self) -> float:
        """Half the longest piece, in um."""
        return float(np.hypot(*(self._cut[:, 2:] - self._cut[:, :2]).T).max() / 2)

    @cached_property
    def _ends(self) -> tuple[KDTree, NDArray[np.intp]]:
        """A tree of the pieces' ends, and the pieces that meet at each: (end, as many as meet at most)."""
        ends, end = np.unique(self._cut.reshape(-1, 2), axis=0, return_inverse=True)
        end = end.ravel()
        order = np.argsort(end, kind="stable")
        meeting = np.bincount(end)
        first = np.cumsum(meeting) - meeting
        # Ends where fewer meet name their first piece again.
        place = np.arange(meeting.max())[None, :]
        place = first[:, None] + np.where(place < meeting[:, None], place, 0)
        return KDTree(ends), order[place] // 2

    @cached_property
    def _thinned(self) -> KDTree:
        """A tree of ends no two of which share a box with a diagonal of half a micrometre."""
        ends = self._ends[0].data
        boxes = np.floor(ends / (_THINNED_UM / np.sqrt(2))).astype(np.int64)
        _, first = np.unique(boxes @ [1 << 31, 1], return_index=True)
        return KDTree(ends[first])

    @cached_property
    def _boxes(self) -> shapely.STRtree:
        return shapely.STRtree(np.asarray(shapely.linestrings(self.pieces.reshape(-1, 2, 2))))


def _neighbours_together(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """An order of points in which neighbours follow each other: a tree then finds what it needs in the cache.

    Rows of boxes, every other backwards; half the time of a look-up of points in random order.
    """
    if len(points) == 0:
        return np.zeros(0, np.intp)
    corner, extent = points.min(axis=0), np.ptp(points, axis=0)
    side = max(float(np.sqrt(extent.prod() * _IN_A_BOX / len(points))), float(extent.max()) / 2**20, 1e-9)
    col, row = np.floor((points - corner) / side).astype(np.int64).T
    width = int(col.max()) + 1
    return np.argsort(row * width + np.where(row % 2, width - 1 - col, col), kind="stable")


def edges_of(geometry: BaseGeometry) -> NDArray[np.float64]:
    """The edges of polygons or lines.

    Of polygons, exteriors run counter-clockwise and holes clockwise: the inside is always on the left.

    Returns:
        float64 (n, 4), x and y of start and end, um. Edges without length are left out.

    >>> edges_of(shapely.LineString([(0, 0), (3, 4)])).tolist()
    [[0.0, 0.0, 3.0, 4.0]]
    """
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        geometry = shapely.boundary(shapely.orient_polygons(geometry))
    lines = [line for line in _lines(geometry) if not line.is_empty]
    if not lines:
        return np.zeros((0, 4))
    xy, line = shapely.get_coordinates(np.array(lines, object), return_index=True)
    within = line[1:] == line[:-1]
    edges = np.hstack([xy[:-1], xy[1:]])[within]
    return np.asarray(edges[(edges[:, :2] != edges[:, 2:]).any(axis=1)], np.float64)


def _lines(geometry: BaseGeometry) -> list[BaseGeometry]:
    parts = [geometry]
    while any(part.geom_type.startswith(("Multi", "Geometry")) for part in parts):
        parts = [inner for part in parts for inner in shapely.get_parts(part)]
    return [part for part in parts if part.geom_type in ("LineString", "LinearRing")]


def _to_pieces(points: NDArray[np.float64], pieces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances of points (n, 1, 2) to pieces (n, k, 4), (n, k)."""
    start, step = pieces[..., :2], pieces[..., 2:] - pieces[..., :2]
    offset = points - start
    share = np.clip((offset * step).sum(-1) / np.maximum((step * step).sum(-1), 1e-300), 0, 1)
    rest = offset - share[..., None] * step
    return np.asarray(np.hypot(rest[..., 0], rest[..., 1]))
