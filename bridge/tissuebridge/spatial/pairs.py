"""Pairs of cells that lie within a distance, a bounded number at a time, each with its edge correction.

What second-order statistics (`ripley`, `pair_correlation`) have in common. The tree is Maneewongvatana & Mount's (1999,
https://arxiv.org/abs/cs/9901013); nothing is quadratic but in what lies within reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tissuebridge.errors import UsageError
from tissuebridge.spatial.edges import Correction, EdgeWeights
from tissuebridge.spatial.window import Window

_AT_ONCE: Final = 1_000_000
"""Pairs held at a time: about 50 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Ordered pairs of points; both orders of a pair may be told as one, with the weights of both.

    Attributes:
        i: int (m,), of the points.
        j: int (m,), of the others (or of the points, where there are none).
        d: float64 (m,), distances, um.
        weight: float64 (m,), the edge correction, of both orders where they are told as one; 1 with the border method.
    """

    i: NDArray[np.intp]
    j: NDArray[np.intp]
    d: NDArray[np.float64]
    weight: NDArray[np.float64]


def pairs_within(
    points: NDArray[np.float64],
    others: NDArray[np.float64] | None,
    weights: EdgeWeights,
    correction: Correction,
) -> Iterator[Pairs]:
    """All ordered pairs (x_i, y_j) not farther apart than the weights reach; never a point with itself.

    Among the points themselves, both orders are told as one with the translation correction, which is the same in both.

    Args:
        points: float64 (n, 2), um.
        others: float64 (m, 2), um; None: the points themselves.
        weights: The window and the reach.
        correction: Which weights.
    """
    if not len(points) or (others is not None and not len(others)):
        return
    if others is None and correction is Correction.TRANSLATION:
        yield from _told_as_one(points, weights)
        return
    tree = KDTree(points if others is None else others)
    targets = np.asarray(tree.data)
    reach_um = weights.r_max_um
    for chunk in _chunks(points, tree, reach_um):
        found = KDTree(points[chunk]).sparse_distance_matrix(tree, reach_um, output_type="ndarray")
        near, j, d = found["i"], found["j"], found["v"]
        if others is None:
            apart = chunk[near] != j
            near, j, d = near[apart], j[apart], d[apart]
        i = chunk[near]
        if correction is Correction.TRANSLATION:
            weight = weights.translation(targets[j] - points[i])
        elif correction is Correction.ISOTROPIC:
            weight = weights.isotropic(points[chunk], near, d)
        else:
            weight = np.ones(len(d))
        yield Pairs(i, j, d, weight)


def _told_as_one(points: NDArray[np.float64], weights: EdgeWeights) -> Iterator[Pairs]:
    """The pairs of points among themselves: those of each chunk, and its own with those of the chunks after it."""
    reach_um, is_later = weights.r_max_um, np.ones(len(points), np.bool_)
    for chunk in _chunks(points, KDTree(points), reach_um):
        is_later[chunk] = False
        tree, xy = KDTree(points[chunk]), points[chunk]
        near = ((points >= xy.min(axis=0) - reach_um) & (points <= xy.max(axis=0) + reach_um)).all(axis=1)
        later = np.flatnonzero(near & is_later)
        within = tree.query_pairs(reach_um, output_type="ndarray")
        pairs = [(chunk[within[:, 0]], chunk[within[:, 1]])]
        if len(later):
            found = tree.sparse_distance_matrix(KDTree(points[later]), reach_um, output_type="ndarray")
            pairs.append((chunk[found["i"]], later[found["j"]]))
        for i, j in pairs:
            offsets = points[j] - points[i]
            yield Pairs(i, j, np.hypot(offsets[:, 0], offsets[:, 1]), 2 * weights.translation(offsets))


def _chunks(points: NDArray[np.float64], tree: KDTree, reach_um: float) -> Iterator[NDArray[np.intp]]:
    """The points in strips, neighbours together, each with a bounded number of pairs (guessed from a sample)."""
    some = points[:: max(len(points) // 500, 1)]
    per_point = max(float(np.mean(tree.query_ball_point(some, reach_um, return_length=True))), 1.0)
    size = max(int(_AT_ONCE / per_point), 1)
    strips = max(int(np.sqrt(len(points) / size)), 1)
    rank = np.argsort(np.argsort(points[:, 0], kind="stable"), kind="stable")
    order = np.lexsort((points[:, 1], rank * strips // len(points)))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def check_radii(r: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    """Radii as an array.

    Raises:
        UsageError: None, negative, not increasing, or beyond half the window's shorter side.
    """
    r = np.asarray(r, np.float64)
    if r.ndim != 1 or not len(r) or not np.isfinite(r).all() or (r < 0).any() or (np.diff(r) <= 0).any():
        raise UsageError("radii must be increasing distances in um, none negative, such as 0 5 10 15")
    left, top, right, bottom = window.area.bounds
    if r[-1] > min(right - left, bottom - top) / 2:
        raise UsageError(
            f"{window.name}: radii up to {r[-1]:g} um in a window of {right - left:.0f} x {bottom - top:.0f} um "
            "say nothing; stay below half of its shorter side"
        )
    return r
