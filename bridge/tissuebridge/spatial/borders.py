"""Exact distances from many points to the outlines of polygons.

Outlines come in as shapely geometries in um, go out as an array of short straight pieces with a tree over their ends.
Of a piece of length l at distance d, an end is nearer than sqrt(d^2 + l^2 / 4): so the k-th nearest end says how near
a piece that was not looked at is at most, and the answer is known to be right to `TOLERANCE_UM` at the price of a
look-up of points. Farther away than `NEAR_UM`, where a tree would visit a whole rough or round outline, the nearest end
is that of a simplified outline (Douglas & Peucker 1973, https://doi.org/10.3138/FM57-6770-U75U-7727), of which no place
is farther from the outline than the simplification's tolerance, nor the other way round. Reference for the tree:
Maneewongvatana & Mount 1999, https://arxiv.org/abs/cs/9901013.
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
FAR_TOLERANCE_UM: Final = 0.5
"""Greater distances than `NEAR_UM` are at most this much too long or too short."""

_SIMPLIFIED_UM: Final = 0.4
"""For greater distances the border is simplified by so much: of a rough or round one few ends are left."""

_TURNED: Final = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
"""A tree halves space along the axes, and takes 3 times as long where the border runs along them too."""

_NEIGHBOURS: Final = (4, 16, 64)
"""How many ends of pieces are looked at, in rounds: most points are settled by the first ones."""

_LONGEST_PIECE_UM: Final = 8.0
_MIN_PIECES: Final = 2048
"""Edges are cut into pieces of at most 8 um, or shorter where these would be fewer than 2,048."""

_TIMES_THE_MEAN: Final = 2.0
"""Nor is a piece longer than so many times the mean edge."""

_AT_ONCE: Final = 200_000
"""Points looked up together, so that memory does not grow with the cells."""
_FEW: Final = 10_000


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
        found = np.full(len(points), np.inf)
        if not len(self.pieces):
            return found
        order = _neighbours_together(points)
        for start in range(0, len(points), _AT_ONCE):
            some = order[start : start + _AT_ONCE]
            found[some] = self._distance(points[some])
        return found

    def _distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        found, done, left = np.full(len(points), np.inf), 0, np.arange(len(points))
        # A piece that is nearer has an end within reach; so nothing up to NEAR_UM is told with the far tolerance.
        reach_um = float(np.hypot(NEAR_UM + FAR_TOLERANCE_UM, self._half_um))
        for k in (min(k, self._ends.n) for k in _NEIGHBOURS):
            ranks = range(done + 1, k + 1)
            end_um, end = self._ends.query(
                points[left], ranks, distance_upper_bound=reach_um, workers=_workers(len(left))
            )
            others_um = np.sqrt(np.maximum(end_um**2 - self._half_um**2, 0))
            for column in range(k - done):
                # Only ends within reach: the others are at infinity.
                rows = np.flatnonzero(others_um[:, column] < found[left] - TOLERANCE_UM)
                some = left[rows]
                found[some] = np.minimum(found[some], self._to_ends(points[some], end[rows, column]))
            left, done = left[others_um[:, -1] < found[left] - TOLERANCE_UM], k
            if not len(left) or done == self._ends.n:
                break
        else:
            found[left] = self._by_boxes(points[left])
        if len(far := np.flatnonzero(np.isinf(found))):
            found[far] = self._far.query(points[far] @ _TURNED, workers=_workers(len(far)))[0]
        return found

    def _to_ends(self, points: NDArray[np.float64], ends: NDArray[np.intp]) -> NDArray[np.float64]:
        """The distance of each point to the nearest of the pieces that meet at an end, (n,)."""
        first, meeting, pieces = self._meeting
        found = _to_pieces(points, self._cut[pieces[first[ends]]])
        for place in range(1, int(meeting[ends].max(initial=0))):
            more = np.flatnonzero(meeting[ends] > place)
            piece = self._cut[pieces[first[ends[more]] + place]]
            found[more] = np.minimum(found[more], _to_pieces(points[more], piece))
        return found

    def _by_boxes(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same by a tree of the pieces' boxes: slower, whatever lies how."""
        geometry = shapely.points(points)
        pairs, found = self._boxes.query_nearest(geometry, return_distance=True, all_matches=False)
        distances = np.empty(len(points))
        distances[pairs[0]] = found
        return distances

    @cached_property
    def _cut(self) -> NDArray[np.float64]:
        """The pieces, the long ones cut, so that ends say where pieces are.

        A rough outline has a few long ones: uncut, each of the many ends that are hardly farther than the nearest would
        have to be looked at.
        """
        usual_um = _TIMES_THE_MEAN * self.length_um / max(len(self.pieces), 1)
        return cut_to(self.pieces, min(self.length_um / _MIN_PIECES, usual_um, _LONGEST_PIECE_UM))

    @cached_property
    def _half_um(self) -> float:
        """Half the longest piece, in um."""
        return float(np.hypot(*(self._cut[:, 2:] - self._cut[:, :2]).T).max() / 2)

    @cached_property
    def _unique(self) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """The places where pieces end, (n, 2), and which of them each end of a piece is."""
        return _distinct(self._cut.reshape(-1, 2))

    @cached_property
    def _ends(self) -> KDTree:
        return _tree(self._unique[0])

    @cached_property
    def _meeting(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Which pieces meet at each end: where its list starts, how long it is, and all lists."""
        end = self._unique[1]
        meeting = np.bincount(end)
        return np.cumsum(meeting) - meeting, meeting, np.argsort(end, kind="stable") // 2

    @cached_property
    def _far(self) -> KDTree:
        """A tree of the ends of fewer pieces, which run along the border; turned, see `_TURNED`."""
        is_last = np.append((self.pieces[1:, :2] != self.pieces[:-1, 2:]).any(axis=1), True)
        # Of each run of pieces: where they start, and where the last one ends.
        kept = np.stack([np.ones_like(is_last), is_last], axis=1).ravel()
        run = np.repeat(np.cumsum(is_last) - is_last, 2)
        lines = shapely.linestrings(self.pieces.reshape(-1, 2)[kept], indices=run[kept])
        simple = shapely.simplify(lines, _SIMPLIFIED_UM, preserve_topology=False)
        xy, line = shapely.get_coordinates(simple, return_index=True)
        cut = cut_to(np.hstack([xy[:-1], xy[1:]])[line[1:] == line[:-1]], _LONGEST_PIECE_UM)
        return _tree(_distinct(cut.reshape(-1, 2))[0] @ _TURNED)

    @cached_property
    def _boxes(self) -> shapely.STRtree:
        return shapely.STRtree(np.asarray(shapely.linestrings(self.pieces.reshape(-1, 2, 2))))


def cut_to(pieces: NDArray[np.float64], longest_um: float) -> NDArray[np.float64]:
    """The pieces (n, 4), those that are longer than so much cut into equal parts."""
    lengths = np.hypot(*(pieces[:, 2:] - pieces[:, :2]).T)
    times = np.maximum(np.ceil(lengths / max(longest_um, 1e-9)), 1).astype(int)
    index = np.repeat(np.arange(len(times)), times)
    place = np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)
    start, step = pieces[index, :2], (pieces[:, 2:] - pieces[:, :2])[index]
    share = (place / times[index])[:, None]
    next_share = ((place + 1) / times[index])[:, None]
    return np.hstack([start + share * step, start + next_share * step])


def _tree(points: NDArray[np.float64]) -> KDTree:
    """A tree whose nodes halve space: along an outline far points then find their nearest in a tenth of the time."""
    return KDTree(points, balanced_tree=False, compact_nodes=False)


def _workers(n: int) -> int:
    """Threads for the look-up of so many points: few are found before threads have started."""
    return -1 if n > _FEW else 1


def _distinct(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The different ones of points (n, 2), and which of them each is; complex numbers sort faster than rows do."""
    numbers, which = np.unique(points[:, 0] + 1j * points[:, 1], return_inverse=True)
    return np.stack([numbers.real, numbers.imag], axis=1), which.ravel()


def _neighbours_together(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """An order of points in which neighbours follow each other: a tree then finds what it needs in the cache.

    Rows of 256 x 256 boxes, every other backwards: numpy sorts numbers of 16 bits in a tenth of the time of others.
    """
    if len(points) == 0:
        return np.zeros(0, np.intp)
    corner = points.min(axis=0)
    side = max(float(np.ptp(points, axis=0).max()) / 255, 1e-9)
    col, row = ((points - corner) / side).astype(np.uint16).T
    return np.argsort(row * np.uint16(256) + np.where(row & 1, np.uint16(255) - col, col), kind="stable")


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
    """Distances of points (n, 2) to one piece each (n, 4)."""
    x, y = points[:, 0] - pieces[:, 0], points[:, 1] - pieces[:, 1]
    step_x, step_y = pieces[:, 2] - pieces[:, 0], pieces[:, 3] - pieces[:, 1]
    share = (x * step_x + y * step_y) / np.maximum(step_x * step_x + step_y * step_y, 1e-300)
    share = np.clip(share, 0, 1)
    return np.asarray(np.hypot(x - share * step_x, y - share * step_y))
