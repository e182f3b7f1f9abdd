"""Who is whose neighbour: graphs of cells, what surrounds each cell, and how dense it is there.

Delaunay triangulation without its long edges (Delaunay 1934), the k nearest made mutual by either side, or all within a
radius. Edges are pairs (i, j) with i < j, each once. Local density: cells within a radius, the cell itself left out,
per area of the disc inside the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, KDTree, QhullError

from tissuebridge.errors import UsageError
from tissuebridge.spatial.edges import EdgeWeights
from tissuebridge.spatial.window import UM2_PER_MM2, Window


class Neighbourhood(StrEnum):
    """What makes two cells neighbours."""

    DELAUNAY = "Delaunay"
    NEAREST = "k nearest"
    RADIUS = "radius"


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Cells and their neighbours.

    Attributes:
        n: Cells.
        edges: int (m, 2), i < j, each once.
        what: How it was made, for tables.
    """

    n: int
    edges: NDArray[np.intp]
    what: str


def delaunay(points: NDArray[np.float64], max_edge_um: float) -> Graph:
    """The Delaunay triangulation, without edges longer than `max_edge_um`.

    Cells at one place are joined to each other (no triangulation has both), fewer than three or collinear cells are
    joined along their line.

    Args:
        points: float64 (n, 2), um.
        max_edge_um: Longest edge; cells farther apart do not touch.

    Raises:
        UsageError: The longest edge is not positive.
    """
    _check_length(max_edge_um)
    places, place, copies = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    place = place.ravel()
    first = np.zeros(len(places), np.intp)
    first[place[::-1]] = np.arange(len(points))[::-1]
    pairs = first[_triangulated(places)]
    again = np.flatnonzero(copies[place] > 1)
    same = np.stack([first[place[again]], again], axis=1)
    edges = np.concatenate([pairs, same[same[:, 0] != same[:, 1]]])
    return Graph(len(points), _short(points, edges, max_edge_um), f"Delaunay, edges up to {max_edge_um:g} µm")


def _triangulated(places: NDArray[np.float64]) -> NDArray[np.intp]:
    try:
        simplices = Delaunay(places).simplices if len(places) > 2 else None
    except QhullError:
        simplices = None
    if simplices is None:
        order = np.lexsort(places.T[::-1]) if len(places) else np.zeros(0, np.intp)
        return np.stack([order[:-1], order[1:]], axis=1).astype(np.intp)
    return np.concatenate([simplices[:, [0, 1]], simplices[:, [1, 2]], simplices[:, [0, 2]]]).astype(np.intp)


def k_nearest(points: NDArray[np.float64], k: int, max_edge_um: float = np.inf) -> Graph:
    """Cells of which one is among the k nearest of the other.

    Args:
        points: float64 (n, 2), um.
        k: How many nearest, at least 1.
        max_edge_um: Longest edge.

    Raises:
        UsageError: `k` is below 1, or the longest edge not positive.
    """
    _check_length(max_edge_um)
    if k < 1:
        raise UsageError(f"{k} nearest cells: take at least 1, such as 6")
    k = min(k, len(points) - 1)
    if k < 1:
        return Graph(len(points), np.zeros((0, 2), np.intp), f"{k} nearest")
    # One more than k, since the cell itself is among them (but not always first where cells share a place).
    near = KDTree(points).query(points, k=k + 1)[1]
    own = np.arange(len(points))[:, None]
    near = np.where(near == own, near[:, -1:], near)[:, :k] if k else near
    edges = np.stack([np.repeat(own[:, 0], k), near.ravel()], axis=1)
    edges = edges[edges[:, 0] != edges[:, 1]]
    return Graph(len(points), _short(points, edges, max_edge_um), f"{k} nearest")


def within_radius(points: NDArray[np.float64], radius_um: float) -> Graph:
    """Cells not farther apart than a radius.

    Raises:
        UsageError: The radius is not positive.

    >>> within_radius(np.array([[0.0, 0.0], [3.0, 4.0], [20.0, 0.0]]), 5.0).edges.tolist()
    [[0, 1]]
    """
    _check_length(radius_um)
    what = f"within {radius_um:g} µm"
    if len(points) < 2:
        return Graph(len(points), np.zeros((0, 2), np.intp), what)
    return Graph(len(points), KDTree(points).query_pairs(radius_um, output_type="ndarray"), what)


def composition(graph: Graph, labels: NDArray[np.intp], classes: int) -> NDArray[np.int64]:
    """How many neighbours of each class each cell has.

    Args:
        graph: The neighbours.
        labels: int (n,), class of each cell.
        classes: How many classes there are.

    Returns:
        int64 (n, classes).

    >>> composition(Graph(3, np.array([[0, 1], [1, 2]]), ""), np.array([0, 1, 1]), 2).tolist()
    [[0, 1], [1, 1], [0, 1]]
    """
    i, j = np.concatenate([graph.edges, graph.edges[:, ::-1]]).T
    flat = np.bincount(i * classes + labels[j], minlength=graph.n * classes)
    return flat.reshape(graph.n, classes)


def local_density(
    points: NDArray[np.float64], window: Window, radius_um: float, others: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The density round each cell, in the part of a disc that the window shows.

    Args:
        points: float64 (n, 2) in the window, um.
        window: Where.
        radius_um: Of the disc.
        others: float64 (m, 2), whose density; None: the points', each left out of its own.

    Returns:
        Cells per mm^2, float64 (n,).

    Raises:
        UsageError: The radius is not positive.
    """
    _check_length(radius_um)
    targets = points if others is None else others
    if not len(points) or not len(targets):
        return np.zeros(len(points))
    counts = KDTree(targets).query_ball_point(points, radius_um, return_length=True)
    areas = EdgeWeights(window, radius_um).disc_areas(points, radius_um)
    return np.asarray((counts - (others is None)) / areas * UM2_PER_MM2)


def _short(points: NDArray[np.float64], edges: NDArray[np.intp], max_edge_um: float) -> NDArray[np.intp]:
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    steps = points[edges[:, 0]] - points[edges[:, 1]]
    return edges[np.hypot(steps[:, 0], steps[:, 1]) <= max_edge_um]


def _check_length(length_um: float) -> None:
    if not length_um > 0:
        raise UsageError(f"a length of {length_um:g} um between neighbours: take more than 0, such as 30 um")
